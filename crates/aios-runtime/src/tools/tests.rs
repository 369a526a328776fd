use proptest::prelude::*;

use super::*;

/// An answer in pieces of `cut` characters: its text and its calls.
fn read(syntax: Syntax, answer: &str, cut: usize) -> (String, Vec<(String, String)>) {
    let mut reader = CallReader::new(syntax);
    let characters: Vec<char> = answer.chars().collect();
    let pieces: Vec<String> = characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    parts.extend(reader.finish());
    let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
    for part in parts {
        match part {
            Part::Text(piece) => text += &piece,
            Part::Call(name) => calls.push((name, String::new())),
            Part::Arguments(piece) => calls.last_mut().unwrap().1 += &piece,
        }
    }
    assert_eq!(reader.calls(), calls.len());
    (text, calls)
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[test]
fn calls_are_found_however_the_answer_is_cut() {
    let arguments = r#"{"a": "}\"</tool_call>{", "b": [{}, {"c": 1}]}"#;
    for syntax in [Syntax::TAGS, Syntax::BARE, Syntax::LIST] {
        let written = syntax.written(&[("one", arguments), ("two", "{}"), ("three", arguments)]);
        let answer = format!("Well, <tool {{\"na [{{{written}");
        for cut in 1..20 {
            let (text, calls) = read(syntax, &answer, cut);
            assert_eq!(text, "Well, <tool {\"na [{", "pieces of {cut}");
            assert_eq!(calls, [call("one", arguments), call("two", "{}"), call("three", arguments)]);
        }
    }
}

#[test]
fn a_call_that_is_cut_off_keeps_what_there_is() {
    for syntax in [Syntax::TAGS, Syntax::BARE, Syntax::LIST] {
        let answer = syntax.written(&[("one", r#"{"a": "b"}"#)]);
        let whole = read(syntax, &answer, 3).1;
        for end in 0..answer.len() {
            let (text, calls) = read(syntax, &answer[..end], 3);
            assert!(end >= syntax.first.len() || text == answer[..end], "what only began like a call is text: {text}");
            assert!(calls.iter().zip(&whole).all(|(cut, whole)| cut.0 == whole.0 && whole.1.starts_with(&cut.1)));
        }
    }
}

proptest! {
    #[test]
    fn text_without_a_call_comes_out_as_it_is(text in "[<tol_ca>\n{\"name: é]{0,60}", cut in 1usize..9) {
        let (out, calls) = read(Syntax::TAGS, &text, cut);
        prop_assert!(calls.is_empty());
        prop_assert_eq!(out, text);
    }
}

fn weather() -> Tool {
    Tool {
        name: "weather".to_owned(),
        description: Some("Says what the weather is.".to_owned()),
        parameters: json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
    }
}

#[test]
fn a_template_without_tools_gets_them_as_text() {
    let mut called = ChatMessage::new("assistant", "");
    called.calls = vec![ToolCall { id: "1".into(), name: "weather".into(), arguments: r#"{"city": "Rom"}"#.into() }];
    let messages = [ChatMessage::new("user", "Rain?"), called, ChatMessage::new("tool", "no")];
    let told = told_in_text(&messages, &[weather()]);
    let roles: Vec<&str> = told.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert!(told[0].content.contains(
        r#"{"name": "weather", "description": "Says what the weather is.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}"#
    ));
    assert_eq!(
        told[2].content,
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rom\"}}\n</tool_call>"
    );
    assert_eq!(told[3].content, "<tool_response>\nno\n</tool_response>");

    let results = [ChatMessage::new("tool", "1"), ChatMessage::new("tool", "2"), ChatMessage::new("user", "3")];
    let told = told_in_text(&results, &[]);
    let contents: Vec<&str> = told.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>", "3"]);

    let own = [ChatMessage::new("system", "Be brief."), ChatMessage::new("user", "Rain?")];
    let told = told_in_text(&own, &[weather()]);
    assert!(told[0].content.starts_with("Be brief.\n\nYou can use these tools:"));
    assert_eq!(told_in_text(&own, &[]), own);
}

#[test]
fn the_syntax_of_calls_is_the_one_that_the_template_shows() {
    assert_eq!(Syntax::of_template("... <tool_call>{\"name\": ..., \"arguments\": ...}</tool_call>"), Syntax::TAGS);
    assert_eq!(Syntax::of_template("respond with {\"name\": function name, \"parameters\": dictionary}"), Syntax::BARE);
    assert_eq!(Syntax::of_template("{{- \"[TOOL_CALLS][\" }} ... \"parameters\": "), Syntax::LIST);
}

#[test]
fn the_form_of_calls_is_the_syntax_and_allows_no_more_than_it() {
    let form = |syntax: &Syntax, choice: Choice, parallel: bool| {
        let tools = Tools { tools: vec![weather()], choice, parallel };
        let Form::Grammar(grammar) = tools.form(syntax) else { unreachable!("calls are a grammar") };
        grammar
    };
    let list = form(&Syntax::LIST, Choice::Required, true);
    assert!(list.starts_with("start: call next{0,15} \"]\"\ncall: \"[{\\\"name\\\": \\\"weather"), "{list}");
    assert!(list.contains("\nnext: \", {\\\"name\\\": \\\"weather"), "{list}");
    for one in [
        form(&Syntax::BARE, Choice::Required, true),
        form(&Syntax::LIST, Choice::Required, false),
        form(&Syntax::TAGS, Choice::Named("weather".to_owned()), true),
    ] {
        assert!(!one.contains("next"), "{one}");
    }
}
