//! Between the tools' API and the protocol.

use std::{fmt::Write as _, sync::Arc};

use aios_api::tools::v1::{ExecuteResponse, Risk, Tool, execute_response::Outcome};
use rmcp::{
    ErrorData,
    model::{CallToolResult, ContentBlock, JsonObject, MetaObject, Tool as McpTool, ToolAnnotations},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// Namespaces whose tools talk to others whatever their results say.
const OPEN: [&str; 2] = ["web", "email"];

/// The name of a tool for clients: `fs_read` for `fs.read`. The protocol allows the dot, and many models' APIs don't.
pub fn plain_name(tool: &str) -> String {
    tool.replace('.', "_")
}

/// A tool as clients see it. `None` where its schemas are no objects, which the catalogue's tests rule out.
pub fn tool(tool: &Tool) -> Option<McpTool> {
    let input: JsonObject = serde_json::from_str(&tool.input_schema).ok()?;
    let output: JsonObject = serde_json::from_str(&tool.output_schema).ok()?;
    let mut shown = McpTool::new(plain_name(&tool.name), description(tool), input).with_title(tool.name.clone());
    // The protocol knows results that are objects only; others come as text.
    if is_object(&output) {
        shown = shown.with_raw_output_schema(Arc::new(output));
    }
    let meta = json!({
        "aios/version": tool.version,
        "aios/risk": risk(tool),
        "aios/needs": tool.needs,
        "aios/reversible": tool.reversible,
        "aios/origin": tool.origin,
    });
    Some(shown.with_annotations(annotations(tool)).with_meta(object(meta)))
}

fn description(tool: &Tool) -> String {
    let mut text = tool.description.clone();
    for example in &tool.examples {
        let _ = write!(text, "\nExample: {}: {}", example.goal, example.arguments);
    }
    text
}

fn annotations(tool: &Tool) -> ToolAnnotations {
    let looks = tool.risk() == Risk::Low;
    let namespace = tool.name.split('.').next().unwrap_or_default();
    ToolAnnotations::new()
        .read_only(looks)
        .destructive(!looks && !tool.reversible)
        .idempotent(tool.idempotent)
        .open_world(tool.origin == "network" || OPEN.contains(&namespace))
}

fn risk(tool: &Tool) -> &'static str {
    match tool.risk() {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
        Risk::Critical => "critical",
        Risk::Unspecified => "unspecified",
    }
}

fn is_object(schema: &JsonObject) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

fn object(value: Value) -> MetaObject {
    let Value::Object(members) = value else { unreachable!("invariant: only called with objects") };
    MetaObject(members)
}

/// What came of a call. Refusals and failures are results too, with `isError`, so that the model reads them.
pub fn answer(answer: ExecuteResponse) -> CallToolResult {
    let mut meta = json!({
        "aios/call_id": answer.call_id,
        "aios/ledger_seq": answer.ledger_seq,
        "aios/origin": answer.origin,
        "aios/reversible": answer.reversible,
    });
    let result = match answer.outcome {
        Some(Outcome::Result(text)) => match serde_json::from_str::<Value>(&text) {
            Ok(value @ Value::Object(_)) => CallToolResult::structured(value),
            _ => CallToolResult::success(vec![ContentBlock::text(text)]),
        },
        Some(Outcome::Failure(failure)) => {
            meta["aios/failure"] = json!({ "code": failure.code });
            error(format!("{}: {}", failure.code, failure.message))
        }
        Some(Outcome::Refusal(refusal)) => {
            meta["aios/refusal"] = json!({ "stage": refusal.stage, "hint": refusal.hint });
            let hint = if refusal.hint.is_empty() { String::new() } else { format!(" ({})", refusal.hint) };
            error(format!("refused at stage {}: {}{hint}", refusal.stage, refusal.message))
        }
        None => error("failed: the service gave no answer".into()),
    };
    result.with_meta(Some(object(meta)))
}

fn error(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// A request that the service did not take. What passes by itself is the model's to know; the rest is the protocol's.
pub fn status(status: &Status) -> Result<CallToolResult, ErrorData> {
    let text = status.message().to_owned();
    match status.code() {
        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => {
            Ok(error(format!("unavailable: {text}")))
        }
        _ => Err(status_error(status)),
    }
}

/// The same where there is no result to say it in.
pub fn status_error(status: &Status) -> ErrorData {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument | Code::NotFound => ErrorData::invalid_params(text, None),
        Code::PermissionDenied | Code::Unauthenticated => ErrorData::invalid_request(text, None),
        _ => ErrorData::internal_error(text, None),
    }
}

#[cfg(test)]
mod tests {
    use aios_api::tools::v1::{Failure, Refusal};

    use super::*;
    use crate::testing::write_tool;

    #[test]
    fn a_tool_says_what_it_does_to_the_world() {
        let write = tool(&write_tool()).unwrap();
        assert_eq!((write.name.as_ref(), write.title.as_deref()), ("fs_write", Some("fs.write")));
        let hints = |tool: &Tool| {
            let hints = annotations(tool);
            [hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint]
                .map(Option::unwrap)
        };
        assert_eq!(hints(&write_tool()), [false, false, true, false]);
        let erasing = Tool { reversible: false, ..write_tool() };
        assert_eq!(hints(&erasing), [false, true, true, false]);
        let looking = Tool { risk: Risk::Low.into(), origin: "network".into(), ..write_tool() };
        assert_eq!(hints(&looking), [true, false, true, true]);
        let posting = Tool { name: "email.send".into(), ..write_tool() };
        assert!(hints(&posting)[3]);
    }

    #[test]
    fn a_schema_of_results_that_are_no_objects_is_left_out() {
        let list = Tool { output_schema: r#"{"type":"array"}"#.into(), ..write_tool() };
        assert!(tool(&list).unwrap().output_schema.is_none());
        assert!(tool(&write_tool()).unwrap().output_schema.is_some());
    }

    #[test]
    fn refusals_and_failures_are_results_that_say_why() {
        let refusal = Refusal { stage: "capability".into(), message: "no".into(), hint: "grant fs:read:/a".into() };
        let refused = answer(ExecuteResponse { outcome: Some(Outcome::Refusal(refusal)), ..Default::default() });
        assert_eq!(refused.is_error, Some(true));
        let text = |result: &CallToolResult| result.content[0].as_text().unwrap().text.clone();
        assert_eq!(text(&refused), "refused at stage capability: no (grant fs:read:/a)");
        let failure = Failure { code: "not-found".into(), message: "/a: no such file".into() };
        let failed = answer(ExecuteResponse { outcome: Some(Outcome::Failure(failure)), ..Default::default() });
        assert_eq!((failed.is_error, text(&failed)), (Some(true), "not-found: /a: no such file".into()));
        let done = ExecuteResponse { outcome: Some(Outcome::Result("{\"bytes\":1}".into())), ..Default::default() };
        let done = answer(done);
        assert_eq!((done.is_error, done.structured_content.clone()), (Some(false), Some(json!({"bytes": 1}))));
        assert_eq!(text(&done), "{\"bytes\":1}");
    }
}
