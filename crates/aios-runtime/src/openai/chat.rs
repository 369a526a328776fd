//! `POST /v1/chat/completions`.

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Api,
    answer::{Shape, answer},
    error::ApiError,
    fields::{Fields, Unsupported},
    form,
    messages::messages,
    receive,
    sampling::{self, Delivery},
    tools,
};
use crate::{
    inference::{self, Expected, Input},
    tools::Choice,
};

/// Most other tokens whose probability is told, as in OpenAI's API.
const MOST_TOP_LOGPROBS: i64 = 20;

/// Fields that can't be honoured, with the values that ask for nothing.
const UNSUPPORTED: [Unsupported; 12] = [
    ("audio", |_| false),
    ("function_call", |value| value == "none"),
    ("functions", |value| *value == json!([])),
    ("metadata", |value| *value == json!({})),
    ("modalities", |value| *value == json!(["text"])),
    ("prediction", |_| false),
    // Name the client's own user and cache; nothing here depends on them.
    ("prompt_cache_key", Value::is_string),
    ("safety_identifier", Value::is_string),
    ("reasoning_effort", |value| value == "none"),
    ("service_tier", |value| value == "auto" || value == "default"),
    ("store", |value| *value == json!(false)),
    ("web_search_options", |_| false),
];

/// Answers a conversation.
pub async fn complete(state: State<Api>, request: Request) -> Result<Response, ApiError> {
    let (id, fields) = receive(&state, request).await?;
    let (request, delivery) = parse(id, fields)?;
    let id = format!("chatcmpl-{}", request.id);
    answer(&state.inference, request, Shape::Chat, id, delivery).await
}

fn parse(id: String, mut fields: Fields) -> Result<(inference::Request, Delivery), ApiError> {
    let model = sampling::model(&mut fields)?;
    let input = Input::Chat(messages(fields.require("messages")?)?);
    let sampling = sampling::sampling(&mut fields)?;
    let old = sampling::token_bound(&mut fields, "max_tokens")?;
    let new = sampling::token_bound(&mut fields, "max_completion_tokens")?;
    if old.is_some() && new.is_some() && old != new {
        let message = "'max_tokens' and 'max_completion_tokens' differ: send one of them.";
        return Err(ApiError::invalid("max_tokens", "invalid_value", message));
    }
    let stop = sampling::stops(&mut fields)?;
    let delivery = sampling::delivery(&mut fields)?;
    let expected = expected(&mut fields)?;
    let logprobs = logprobs(&mut fields)?;
    let retention = sampling::retention(&mut fields)?;
    fields.finish("", &[&UNSUPPORTED[..], &sampling::UNSUPPORTED].concat())?;
    let max_tokens = new.or(old);
    let request = inference::Request { id, model, input, sampling, max_tokens, stop, expected, logprobs, retention };
    Ok((request, delivery))
}

fn expected(fields: &mut Fields) -> Result<Expected, ApiError> {
    let form = form::expected(fields)?;
    match (tools::tools(fields)?, form) {
        (None, form) => Ok(form),
        (Some(tools), Expected::Form { param, .. }) if tools.choice == Choice::Auto => {
            let message = format!("'{param}' can't be combined with 'tools' unless 'tool_choice' is 'none'.");
            Err(ApiError::invalid(param, "unsupported_parameter", message))
        }
        // The answer is a call, whose form is the tool's.
        (Some(tools), _) => Ok(Expected::Tools(tools)),
    }
}

/// `logprobs` and `top_logprobs`.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    let top = fields.integer("top_logprobs", 0..=MOST_TOP_LOGPROBS)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.and_then(|top| usize::try_from(top).ok()).unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            let message = "'top_logprobs' is only allowed with 'logprobs': true.";
            Err(ApiError::invalid("top_logprobs", "invalid_value", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Retention;

    fn parsed(body: Value) -> Result<(inference::Request, Delivery), ApiError> {
        parse("id".into(), Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
        body[field] = value;
        body
    }

    #[test]
    fn text_parts_are_joined_and_developer_means_system() {
        let body = json!({"model": "m", "max_completion_tokens": 3, "stop": "x", "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c", "name": "somebody"},
        ]});
        let (request, delivery) = parsed(body).unwrap();
        let Input::Chat(messages) = request.input else { panic!("no chat") };
        let expected = [("system", "ab"), ("user", "c")];
        let found: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!((request.max_tokens, delivery), (Some(3), Delivery::Whole));
        assert_eq!(request.stop, ["x"]);
    }

    #[test]
    fn beginnings_are_kept_on_disk_where_that_is_asked_for() {
        let asked = |value: Value| parsed(with("prompt_cache_retention", value)).unwrap().0.retention;
        for value in [Value::Null, json!("in_memory"), json!("in-memory")] {
            assert_eq!(asked(value), Retention::Memory);
        }
        assert_eq!(asked(json!("24h")), Retention::Disk);
    }

    #[test]
    fn values_that_ask_for_nothing_are_accepted() {
        for (field, value) in [
            ("n", json!(1)),
            ("tools", json!([])),
            ("response_format", json!({"type": "text"})),
            ("logprobs", json!(false)),
            ("frequency_penalty", json!(0)),
            ("presence_penalty", json!(0.0)),
            ("logit_bias", json!({})),
            ("user", json!("me")),
            ("parallel_tool_calls", json!(true)),
            ("seed", json!(-1)),
            ("top_p", json!(0)),
            ("tools", Value::Null),
        ] {
            assert!(parsed(with(field, value.clone())).is_ok(), "{field}: {value}");
        }
    }

    #[test]
    fn tools_and_their_calls_are_read() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "strict": true}});
        let call = json!({"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}});
        let mut body = with("tools", json!([tool("a"), tool("b")]));
        body["messages"] = json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]);
        for (choice, expected) in [
            (Value::Null, Choice::Auto),
            (json!("auto"), Choice::Auto),
            (json!("required"), Choice::Required),
            (json!({"type": "function", "function": {"name": "b"}}), Choice::Named("b".into())),
        ] {
            body["tool_choice"] = choice;
            let (request, _) = parsed(body.clone()).unwrap();
            let Expected::Tools(tools) = request.expected else { panic!("no tools") };
            assert_eq!((tools.choice, tools.tools.len(), tools.parallel), (expected, 2, true));
            let Input::Chat(messages) = request.input else { panic!("no chat") };
            assert_eq!((messages[1].calls[0].name.as_str(), messages[2].call_id.as_deref()), ("a", Some("1")));
        }
        body["tool_choice"] = json!("none");
        assert!(matches!(parsed(body.clone()).unwrap().0.expected, Expected::Text));
        body["tools"] = json!([tool("a"), tool("a")]);
        let error = parsed(body).map(|_| ()).unwrap_err();
        assert_eq!(error.body()["error"]["param"], "tools[1].function.name");
        let mut both = with("tools", json!([tool("a")]));
        both["response_format"] = json!({"type": "json_object"});
        let error = parsed(both).map(|_| ()).unwrap_err();
        assert_eq!(error.body()["error"]["param"], "response_format");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (field, value, param) in [
            ("n", json!(2), "n"),
            ("tools", json!([{"type": "function"}]), "tools[0].function"),
            ("tools", json!([{"type": "code"}]), "tools[0].type"),
            ("tools", json!([{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
            ("tools", json!([{"type": "function", "function": {"name": "a", "x": 1}}]), "tools[0].function.x"),
            ("tool_choice", json!("required"), "tool_choice"),
            ("tool_choice", json!({"type": "function", "function": {"name": "a"}}), "tool_choice"),
            ("parallel_tool_calls", json!(1), "parallel_tool_calls"),
            ("response_format", json!({"type": "json_schema"}), "response_format.json_schema"),
            ("logprobs", json!(1), "logprobs"),
            ("top_logprobs", json!(2), "top_logprobs"),
            ("top_logprobs", json!(21), "top_logprobs"),
            ("frequency_penalty", json!(0.5), "frequency_penalty"),
            ("top_k", json!(40), "top_k"),
            ("prompt_cache_retention", json!("1h"), "prompt_cache_retention"),
            ("prompt_cache_retention", json!(24), "prompt_cache_retention"),
            ("temperature", json!(2.5), "temperature"),
            ("temperature", json!("hot"), "temperature"),
            ("max_tokens", json!(0), "max_tokens"),
            ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
            ("stop", json!([1]), "stop[0]"),
            ("stream", json!("yes"), "stream"),
            ("stream_options", json!({"include_usage": true}), "stream_options"),
            ("messages", json!([]), "messages"),
            ("messages", json!("Hi"), "messages"),
            ("messages", json!([1]), "messages[0]"),
            ("messages", json!([{"content": "Hi"}]), "messages[0].role"),
            ("messages", json!([{"role": "ghost", "content": "Hi"}]), "messages[0].role"),
            ("messages", json!([{"role": "tool", "content": "Hi"}]), "messages[0].tool_call_id"),
            ("messages", json!([{"role": "user", "content": "Hi", "tool_calls": [{}]}]), "messages[0].tool_calls"),
            ("messages", json!([{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls[0].type"),
            ("messages", json!([{"role": "user"}]), "messages[0].content"),
            ("messages", json!([{"role": "user", "content": "Hi", "x": 1}]), "messages[0].x"),
            (
                "messages",
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content[0].type",
            ),
            ("model", Value::Null, "model"),
            ("model", json!(1), "model"),
        ] {
            let error = parsed(with(field, value.clone())).map(|_| ()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], param, "{field}: {value}");
        }
    }
}
