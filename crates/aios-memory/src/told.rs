//! Items in words, for whoever reads them: a person, or a model.

use crate::item::{
    Body, ConfigChange, Decision, Event, Goal, Incident, Knowledge, Pattern, Procedure, Severity, Status, Task,
    ToolCall,
};

impl Body {
    /// All that it says, with what its parts are. Unlike [`Body::text`], which is what searches compare, it has status and
    /// steps, and says nothing twice.
    pub fn told(&self) -> String {
        match self {
            Body::Event(Event { category, severity, message, data }) => {
                lines([format!("{category} ({}): {message}", severity.name()), data.clone()])
            }
            Body::Goal(Goal { text, status, result, .. }) => {
                lines([format!("{text} ({})", status.name()), result.clone()])
            }
            Body::Task(Task { description, status, result, .. }) => {
                lines([format!("{description} ({})", status.name()), result.clone()])
            }
            Body::ToolCall(ToolCall { tool, arguments, result, success, .. }) => {
                let outcome = if *success { "succeeded" } else { "failed" };
                lines([format!("{tool} {arguments} {outcome}"), result.clone()])
            }
            Body::Decision(Decision { question, chosen, reason, .. }) => {
                lines([question.clone(), labelled("chosen", chosen), labelled("because", reason)])
            }
            Body::Pattern(Pattern { goal, steps, successes, failures, .. }) => {
                let steps = steps.iter().map(|step| format!("{} {}", step.tool, step.arguments));
                let uses = format!("{goal} (succeeded {successes} times, failed {failures})");
                lines(std::iter::once(uses).chain(steps))
            }
            Body::AgentState(state) => lines([state.key.clone(), state.value.clone()]),
            Body::Procedure(Procedure { name, description, steps }) => {
                let steps = steps.iter().enumerate().map(|(index, step)| format!("{}. {step}", index + 1));
                lines([name.clone(), description.clone()].into_iter().chain(steps))
            }
            Body::Incident(Incident { title, description, severity, cause, resolution }) => lines([
                format!("{title} ({})", severity.name()),
                description.clone(),
                labelled("cause", cause),
                labelled("resolution", resolution),
            ]),
            Body::ConfigChange(ConfigChange { subject, before, after, reason }) => lines([
                subject.clone(),
                labelled("before", before),
                labelled("after", after),
                labelled("because", reason),
            ]),
            // A note without a title has its beginning as one.
            Body::Knowledge(Knowledge { title, text, .. }) if text.trim_start().starts_with(title.as_str()) => {
                text.clone()
            }
            Body::Knowledge(Knowledge { title, text, .. }) => lines([title.clone(), text.clone()]),
        }
    }
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Active => "active",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

/// Those that say something, one below the other.
fn lines(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

/// What it is and what it says; nothing where it says nothing.
fn labelled(label: &str, text: &str) -> String {
    if text.trim().is_empty() { String::new() } else { format!("{label}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Step;

    #[test]
    fn items_say_what_their_parts_are_and_nothing_twice() {
        let change =
            ConfigChange { subject: "ntp".into(), before: "off".into(), after: "on".into(), reason: String::new() };
        assert_eq!(Body::ConfigChange(change).told(), "ntp\nbefore: off\nafter: on");
        let step = Step { tool: "service.restart".into(), arguments: "{}".into() };
        let pattern = Pattern { goal: "restart it".into(), steps: vec![step], successes: 2, ..Pattern::default() };
        assert_eq!(Body::Pattern(pattern).told(), "restart it (succeeded 2 times, failed 0)\nservice.restart {}");
        let note = |title: &str| Knowledge { title: title.into(), text: "The fan hums.".into(), tags: Vec::new() };
        assert_eq!(Body::Knowledge(note("The fan")).told(), "The fan hums.");
        assert_eq!(Body::Knowledge(note("Fans")).told(), "Fans\nThe fan hums.");
    }
}
