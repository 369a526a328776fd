//! Tools, grants and calls, for people and for scripts.

use std::io::{self, Write as _};

use aios_api::tools::v1::{Grant, Risk, Tool, Undoable};
use anyhow::Result;
use serde_json::{Value, json};

pub fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Unspecified => "unknown",
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
        Risk::Critical => "critical",
    }
}

pub fn list(tools: &[Tool], as_json: bool) -> Result<()> {
    output(as_json, || tools.iter().map(value).collect(), || table(tools))
}

pub fn tool(tool: &Tool, as_json: bool) -> Result<()> {
    output(as_json, || value(tool), || details(tool))
}

pub fn grants(grants: &[Grant], as_json: bool) -> Result<()> {
    let all = || {
        let grant = |g: &Grant| json!({ "id": g.id, "agent": g.agent, "capability": g.capability, "granted_by": g.granted_by, "expires": g.expires });
        grants.iter().map(grant).collect()
    };
    let text = || {
        let head = format!("{:>4}  {:12}  {:20}  {:12}  CAPABILITY\n", "ID", "AGENT", "EXPIRES", "BY");
        grants.iter().fold(head, |text, g| {
            text + &format!("{:>4}  {:12}  {:20}  {:12}  {}\n", g.id, g.agent, g.expires, g.granted_by, g.capability)
        })
    };
    output(as_json, all, text)
}

pub fn rollbacks(calls: &[Undoable], as_json: bool) -> Result<()> {
    let all = || {
        let call = |c: &Undoable| {
            let arguments: Value = serde_json::from_str(&c.arguments).unwrap_or_default();
            json!({ "call_id": c.call_id, "tool": c.tool, "agent": c.agent, "arguments": arguments, "time": c.time, "state": c.state })
        };
        calls.iter().map(call).collect()
    };
    let text = || {
        let head = format!("{:32}  {:20}  {:12}  {:16}  {}\n", "CALL", "TIME", "STATE", "TOOL", "ARGUMENTS");
        calls.iter().fold(head, |text, c| {
            let arguments: String = c.arguments.chars().take(60).collect();
            text + &format!("{:32}  {:20}  {:12}  {:16}  {arguments}\n", c.call_id, c.time, c.state, c.tool)
        })
    };
    output(as_json, all, text)
}

fn output(as_json: bool, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&value())?)?;
    } else {
        write!(out, "{}", text())?;
    }
    Ok(())
}

fn value(tool: &Tool) -> Value {
    let schema = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut value = json!({
        "name": tool.name,
        "version": tool.version,
        "description": tool.description,
        "risk": risk(tool.risk()),
        "idempotent": tool.idempotent,
        "reversible": tool.reversible,
        "timeout_ms": tool.timeout_ms,
        "needs": tool.needs,
        "examples": tool.examples.iter().map(|e| json!({ "goal": e.goal, "arguments": schema(&e.arguments) })).collect::<Vec<_>>(),
    });
    if !tool.input_schema.is_empty() {
        value["input_schema"] = schema(&tool.input_schema);
        value["output_schema"] = schema(&tool.output_schema);
    }
    value
}

fn table(tools: &[Tool]) -> String {
    let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or(0).max(4);
    let head = format!("{:width$}  {:8}  {:4}  {}\n", "TOOL", "RISK", "UNDO", "");
    tools.iter().fold(head, |text, tool| {
        let undo = if tool.reversible { "yes" } else { "-" };
        let first = tool.description.split_inclusive(". ").next().unwrap_or_default().trim();
        text + &format!("{:width$}  {:8}  {undo:4}  {first}\n", tool.name, risk(tool.risk()))
    })
}

fn details(tool: &Tool) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let mut text = format!("{} - {}\n", tool.name, tool.description);
    let mut fact = |name: &str, value: String| text += &format!("  {name:>10}: {value}\n");
    fact("version", tool.version.to_string());
    fact("risk", risk(tool.risk()).into());
    fact("idempotent", yes(tool.idempotent).into());
    fact("reversible", yes(tool.reversible).into());
    fact("timeout", format!("{} s", f64::from(tool.timeout_ms) / 1000.0));
    tool.needs.iter().for_each(|need| fact("needs", need.clone()));
    text += "\nArguments:\n";
    let schema: Value = serde_json::from_str(&tool.input_schema).unwrap_or_default();
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let kind = property["type"].as_str().map_or_else(|| "value".to_owned(), str::to_owned);
        let need = if required(name) { ", required" } else { "" };
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        text += &format!("  {name} ({kind}{need}): {about}\n");
    }
    text += "\nExamples:\n";
    for example in &tool.examples {
        text += &format!("  {}\n    aios tool run {} '{}'\n", example.goal, tool.name, example.arguments);
    }
    text
}

#[cfg(test)]
mod tests {
    use aios_api::tools::v1::Example;

    use super::*;

    #[test]
    fn a_tool_is_shown_fact_by_fact() {
        let tool = Tool {
            name: "fs.read".into(),
            version: 1,
            description: "Reads a text file. Up to 256 KiB.".into(),
            risk: Risk::Low.into(),
            idempotent: true,
            timeout_ms: 10_000,
            needs: vec!["fs:read:{path}".into()],
            examples: vec![Example {
                goal: "show the hosts file".into(),
                arguments: r#"{"path": "/etc/hosts"}"#.into(),
            }],
            input_schema:
                r#"{"properties": {"path": {"type": "string", "description": "File."}}, "required": ["path"]}"#.into(),
            ..Tool::default()
        };
        insta::assert_snapshot!(details(&tool), @r#"
        fs.read - Reads a text file. Up to 256 KiB.
             version: 1
                risk: low
          idempotent: yes
          reversible: no
             timeout: 10 s
               needs: fs:read:{path}

        Arguments:
          path (string, required): File.

        Examples:
          show the hosts file
            aios tool run fs.read '{"path": "/etc/hosts"}'
        "#);
        insta::assert_snapshot!(table(&[tool]), @r"
        TOOL     RISK      UNDO  
        fs.read  low       -     Reads a text file.
        ");
    }
}
