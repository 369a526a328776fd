use std::sync::Arc;

use rmcp::{ServiceExt as _, transport::async_rw::AsyncRwTransport};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf};

use super::*;
use crate::testing::{Waiting, conversation};

/// A client that speaks line by line.
struct Client {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    out: WriteHalf<DuplexStream>,
}

impl Client {
    async fn of(door: &Arc<Waiting>) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let server = Server::of(conversation(door.clone()));
        tokio::spawn(async move {
            let serving = server.serve(AsyncRwTransport::new_server(input, output)).await.unwrap();
            serving.waiting().await.unwrap();
        });
        let (input, out) = tokio::io::split(ours);
        let mut client = Client { lines: BufReader::new(input).lines(), out };
        let hello = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        client.send(json!({ "id": 1, "method": "initialize", "params": hello })).await;
        let welcome = client.next().await;
        assert_eq!(welcome["result"]["serverInfo"]["name"], "aios");
        assert!(welcome["result"]["instructions"].as_str().unwrap().contains("refused at stage"));
        client.send(json!({ "method": "notifications/initialized" })).await;
        client
    }

    async fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        self.out.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    async fn call(&mut self, id: u32, tool: &str) {
        let params = json!({ "name": tool, "arguments": { "path": "/a" }, "_meta": { "progressToken": "the token" } });
        self.send(json!({ "id": id, "method": "tools/call", "params": params })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_says_so_and_is_denied_when_it_is_taken_back() {
    let door = Arc::new(Waiting::default());
    let mut client = Client::of(&door).await;
    client.call(2, "fs_write").await;
    let progress = client.next().await;
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], "the token");
    let text = progress["params"]["message"].as_str().unwrap();
    assert!(text.starts_with("waits 60 s for approval (its risk is high): aios tool approve "), "{text}");
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 2 } })).await;
    door.ended.notified().await;
    let executed = door.executed.lock().unwrap().clone();
    let answered = door.answered.lock().unwrap().clone();
    assert_eq!(executed.len(), 1);
    assert_eq!((executed[0].tool.as_str(), executed[0].session.as_str()), ("fs.write", "mcp-test"));
    assert_eq!((answered[0].approve, answered[0].digest.as_str()), (false, "the digest"));
    assert_eq!(answered[0].call_id, executed[0].call_id);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_no_question_behind() {
    let door = Arc::new(Waiting::default());
    let mut client = Client::of(&door).await;
    client.call(2, "fs.write").await;
    client.next().await;
    drop(client);
    door.ended.notified().await;
    assert!(!door.answered.lock().unwrap()[0].approve);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_asked_for_and_is_an_error_of_the_protocol() {
    let door = Arc::new(Waiting::default());
    door.denied.notify_one();
    let mut client = Client::of(&door).await;
    client.call(2, "fs_nothing").await;
    let answer = client.next().await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(door.executed.lock().unwrap()[0].tool, "fs_nothing", "the service, and so the ledger, knows of it");
}

#[tokio::test]
async fn the_list_has_names_that_every_client_takes() {
    let door = Arc::new(Waiting::default());
    let mut client = Client::of(&door).await;
    client.send(json!({ "id": 2, "method": "tools/list" })).await;
    let listed = client.next().await;
    let tool = &listed["result"]["tools"][0];
    assert_eq!((&tool["name"], &tool["title"]), (&json!("fs_write"), &json!("fs.write")));
    assert_eq!(tool["inputSchema"]["type"], "object");
    assert_eq!(tool["annotations"]["readOnlyHint"], false);
}
