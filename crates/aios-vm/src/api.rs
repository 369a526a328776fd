//! A small client of the guest's OpenAI-compatible API.

use std::{
    io::{self, BufRead as _, BufReader},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

/// The id under which every image offers its default model.
pub const DEFAULT_MODEL: &str = "default";

/// Where the API is, and the token it wants.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    agent: ureq::Agent,
}

/// An answer of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub text: String,
    pub timings: Timings,
    /// From the request to the first piece of text, by this machine's clock; whole answers have none.
    pub to_first_token: Option<Duration>,
    /// From the request to the end, by this machine's clock.
    pub total: Duration,
}

/// What the server measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Timings {
    pub prompt_n: u64,
    pub prompt_ms: f64,
    pub predicted_n: u64,
    pub predicted_ms: f64,
    #[serde(default)]
    pub queue_ms: f64,
}

/// The API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{url}: {source}")]
    Transport { url: String, source: Box<ureq::Error> },
    #[error("{url} answered {status}: {body}")]
    Status { url: String, status: u16, body: String },
    #[error("{url} answered with something unexpected: {reason}")]
    Malformed { url: String, reason: String },
    #[error("{url}: the answer broke off: {source}")]
    BrokenOff { url: String, source: io::Error },
}

/// For the whole of an answer: a small model in TCG takes seconds for each token.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1800);
/// For a question without inference.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

impl Api {
    /// A client of the API at `base`, which is without `/v1`.
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        // Statuses are answers here; a proxy of the environment must not see requests to loopback.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        Api { base: base.into(), token: token.into(), agent: config.into() }
    }

    /// The same API with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Api { token: token.into(), ..self.clone() }
    }

    /// The object of `GET /v1/models` whose id is `default`.
    pub fn default_model(&self) -> Result<Value, ApiError> {
        let (url, status, body) = self.get("/v1/models")?;
        let list: Value = self.expect_json(&url, status, body)?;
        let models = list["data"].as_array().cloned().unwrap_or_default();
        let found = models.into_iter().find(|model| model["id"] == DEFAULT_MODEL);
        found.ok_or_else(|| ApiError::Malformed { url, reason: format!("no model `{DEFAULT_MODEL}` in {list}") })
    }

    /// Any `GET`: status and body, whatever they are.
    pub fn get(&self, path: &str) -> Result<(String, u16, String), ApiError> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.get(&url).header("authorization", self.bearer());
        let sent = request.config().timeout_global(Some(LIST_PATIENCE)).build().call();
        let mut response = sent.map_err(transport(&url))?;
        let body = response.body_mut().read_to_string().map_err(transport(&url))?;
        Ok((url, response.status().as_u16(), body))
    }

    /// Any `POST` of JSON: status and body, whatever they are.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, String), ApiError> {
        let (url, mut response) = self.send(path, body)?;
        let text = response.body_mut().read_to_string().map_err(transport(&url))?;
        Ok((response.status().as_u16(), text))
    }

    /// Asks the default model and waits for the whole answer.
    pub fn chat(&self, prompt: &str, max_tokens: u32) -> Result<Answer, ApiError> {
        let started = Instant::now();
        let path = "/v1/chat/completions";
        let (status, body) = self.post(path, &chat_request(prompt, max_tokens))?;
        let url = format!("{}{path}", self.base);
        let object: Value = self.expect_json(&url, status, body)?;
        let text = object["choices"][0]["message"]["content"].as_str();
        let text =
            text.ok_or_else(|| ApiError::Malformed { url: url.clone(), reason: format!("no text in {object}") })?;
        let timings = read_timings(&url, &object["timings"])?;
        Ok(Answer { text: text.into(), timings, to_first_token: None, total: started.elapsed() })
    }

    /// Asks the default model and hands each piece of the answer to `piece` as it arrives.
    pub fn chat_stream(&self, prompt: &str, max_tokens: u32, mut piece: impl FnMut(&str)) -> Result<Answer, ApiError> {
        let started = Instant::now();
        let mut request = chat_request(prompt, max_tokens);
        request["stream"] = json!(true);
        request["stream_options"] = json!({ "include_usage": true });
        let (url, mut response) = self.send("/v1/chat/completions", &request)?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().read_to_string().map_err(transport(&url))?;
            return Err(ApiError::Status { url, status, body });
        }
        let mut answer = Answer::default();
        let mut timings = None;
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|source| ApiError::BrokenOff { url: url.clone(), source })?;
            let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                let timings = timings.ok_or_else(|| ApiError::Malformed {
                    url: url.clone(),
                    reason: "the stream ended without `timings`".into(),
                })?;
                return Ok(Answer { timings, total: started.elapsed(), ..answer });
            }
            let chunk: Value = serde_json::from_str(data)
                .map_err(|error| ApiError::Malformed { url: url.clone(), reason: format!("{error} in {data}") })?;
            if chunk.get("error").is_some() {
                return Err(ApiError::Malformed { url, reason: chunk.to_string() });
            }
            if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                answer.to_first_token.get_or_insert_with(|| started.elapsed());
                answer.text.push_str(text);
                piece(text);
            }
            if chunk.get("timings").is_some_and(Value::is_object) {
                timings = Some(read_timings(&url, &chunk["timings"])?);
            }
        }
        Err(ApiError::Malformed { url, reason: "the stream ended without `[DONE]`".into() })
    }

    fn send(&self, path: &str, body: &Value) -> Result<(String, ureq::http::Response<ureq::Body>), ApiError> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.post(&url).header("authorization", self.bearer());
        let sent = request.config().timeout_global(Some(ANSWER_PATIENCE)).build().send_json(body);
        sent.map(|response| (url.clone(), response)).map_err(transport(&url))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn expect_json(&self, url: &str, status: u16, body: String) -> Result<Value, ApiError> {
        if status != 200 {
            return Err(ApiError::Status { url: url.into(), status, body });
        }
        serde_json::from_str(&body)
            .map_err(|error| ApiError::Malformed { url: url.into(), reason: format!("{error} in {body}") })
    }
}

impl Answer {
    /// Tokens per second after the first one, by this machine's clock, if there was more than one.
    pub fn client_tokens_per_second(&self) -> Option<f64> {
        let rest = self.total.checked_sub(self.to_first_token?)?.as_secs_f64();
        let tokens = self.timings.predicted_n.checked_sub(1).filter(|n| *n > 0)?;
        (rest > 0.0).then(|| tokens as f64 / rest)
    }
}

impl Timings {
    /// Tokens written per second, as the server measured it.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.predicted_ms > 0.0).then(|| self.predicted_n as f64 * 1000.0 / self.predicted_ms)
    }
}

fn chat_request(prompt: &str, max_tokens: u32) -> Value {
    json!({
        "model": DEFAULT_MODEL,
        "messages": [{ "role": "user", "content": prompt }],
        "max_tokens": max_tokens,
        "temperature": 0,
    })
}

fn read_timings(url: &str, timings: &Value) -> Result<Timings, ApiError> {
    Timings::deserialize(timings)
        .map_err(|error| ApiError::Malformed { url: url.into(), reason: format!("`timings` {timings}: {error}") })
}

fn transport(url: &str) -> impl FnOnce(ureq::Error) -> ApiError {
    let url = url.to_owned();
    move |source| ApiError::Transport { url, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread::JoinHandle,
    };

    use super::*;

    /// Answers one request with `response` and returns the request.
    fn serve_once(response: String) -> (Api, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let mut read = 0;
            while !String::from_utf8_lossy(&request[..read]).contains("\r\n\r\n") {
                read += stream.read(&mut request[read..]).unwrap();
            }
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (Api::new(base, "00ff"), server)
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    #[test]
    fn the_default_model_is_found_with_the_token() {
        let body = r#"{"object":"list","data":[{"id":"tiny"},{"id":"default","aios":{"load_ms":7}}]}"#;
        let (api, server) = serve_once(answer("200 OK", body));
        assert_eq!(api.default_model().unwrap()["aios"]["load_ms"], 7);
        assert!(server.join().unwrap().to_lowercase().contains("authorization: bearer 00ff"));
    }

    #[test]
    fn a_refusal_carries_status_and_body() {
        let (api, _server) = serve_once(answer("401 Unauthorized", r#"{"error":{"message":"no token"}}"#));
        let error = api.default_model().unwrap_err();
        assert!(matches!(error, ApiError::Status { status: 401, .. }), "{error}");
        assert!(error.to_string().contains("no token"));
    }

    #[test]
    fn a_stream_gives_pieces_and_the_servers_timings() {
        let events = concat!(
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\n",
            "data: {\"choices\":[],\"timings\":{\"prompt_n\":3,\"prompt_ms\":1.5,\"predicted_n\":2,\"predicted_ms\":4.0,\"queue_ms\":0}}\n\n",
            "data: [DONE]\n\n",
        );
        let (api, _server) = serve_once(answer("200 OK", events));
        let mut pieces = Vec::new();
        let answer = api.chat_stream("hi", 8, |piece| pieces.push(piece.to_owned())).unwrap();
        assert_eq!(pieces, ["Hel", "lo"]);
        assert_eq!(answer.text, "Hello");
        assert_eq!(answer.timings.tokens_per_second(), Some(500.0));
        assert!(answer.to_first_token.unwrap() <= answer.total);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error() {
        let (api, _server) =
            serve_once(answer("200 OK", "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n"));
        assert!(api.chat_stream("hi", 8, |_| ()).unwrap_err().to_string().contains("[DONE]"));
    }
}
