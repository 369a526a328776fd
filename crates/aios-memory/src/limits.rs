//! How much of what is taken, and why something is refused.

use crate::item::{Body, Content, Metric, Provenance};

/// Events that the ring holds.
pub const RING: u64 = 10_000;
/// Metrics that there can be.
pub const METRICS: u64 = 10_000;
/// Largest item in bytes, as JSON.
pub const ITEM: usize = 256 << 10;
/// Longest name in bytes: of a metric, a unit, a category, a key, a tool, a tag.
pub const NAME: usize = 256;
/// Longest title in bytes: of knowledge, an incident, a procedure; the subject of a configuration change.
pub const TITLE: usize = 1024;
/// Longest source in bytes.
pub const SOURCE: usize = 1024;
/// Longest query, and longest goal of a pattern, in bytes.
pub const QUERY: usize = 4096;
/// Most origins of an item.
pub const ORIGINS: usize = 16;
/// Most entries of a list: options, steps, tags, tasks that come before.
pub const LIST: usize = 256;

/// Why something is not taken. Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A text is too long.
    #[error("{field} has {found} bytes; the most is {limit}")]
    Long {
        /// Which.
        field: &'static str,
        /// Its bytes.
        found: usize,
        /// Bytes that are taken.
        limit: usize,
    },
    /// A list is too long.
    #[error("{field} has {found} entries; the most is {limit}")]
    Many {
        /// Which.
        field: &'static str,
        /// Its entries.
        found: usize,
        /// Entries that are taken.
        limit: usize,
    },
    /// Something that has to be there is not.
    #[error("{field} is empty")]
    Empty {
        /// Which.
        field: &'static str,
    },
    /// A text that has to be JSON is not.
    #[error("{field} is no JSON: {reason}")]
    Json {
        /// Which.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A number is out of range.
    #[error("{field} is {found}; it has to be {range}")]
    Number {
        /// Which.
        field: &'static str,
        /// The number.
        found: String,
        /// What is taken.
        range: &'static str,
    },
    /// The origins are missing.
    #[error(
        "provenance.origins is empty: nothing may be without an origin; use user, operator, tool:NAME, web, mqtt, log, \
         memory or model"
    )]
    Origins,
    /// A name holds characters that can't be shown.
    #[error("{field} holds control characters")]
    Control {
        /// Which.
        field: &'static str,
    },
}

/// Whether `content` can be kept.
pub(crate) fn check(content: &Content) -> Result<(), Invalid> {
    check_provenance(&content.provenance)?;
    check_body(&content.body)
}

/// Whether `metric` can be kept.
pub(crate) fn check_metric(metric: &Metric) -> Result<(), Invalid> {
    check_provenance(&metric.provenance)?;
    name("name", &metric.name)?;
    optional_name("unit", &metric.unit)?;
    if !metric.value.is_finite() {
        return Err(Invalid::Number { field: "value", found: metric.value.to_string(), range: "finite" });
    }
    Ok(())
}

fn check_provenance(provenance: &Provenance) -> Result<(), Invalid> {
    name("agent", &provenance.agent)?;
    long("provenance.source", &provenance.source, SOURCE)?;
    plain("provenance.source", &provenance.source)?;
    if provenance.origins.is_empty() {
        return Err(Invalid::Origins);
    }
    many("provenance.origins", provenance.origins.len(), ORIGINS)
}

fn check_body(body: &Body) -> Result<(), Invalid> {
    match body {
        Body::Event(event) => {
            name("category", &event.category)?;
            filled("message", &event.message)?;
            json("data", &event.data)
        }
        Body::Goal(goal) => {
            filled("text", &goal.text)?;
            fraction("progress", goal.progress)
        }
        Body::Task(task) => {
            filled("description", &task.description)?;
            optional_name("assigned", &task.assigned)?;
            many("after", task.after.len(), LIST)
        }
        Body::ToolCall(call) => {
            name("tool", &call.tool)?;
            json("arguments", &call.arguments)
        }
        Body::Decision(decision) => {
            filled("question", &decision.question)?;
            filled("chosen", &decision.chosen)?;
            optional_name("level", &decision.level)?;
            many("options", decision.options.len(), LIST)
        }
        Body::Pattern(pattern) => {
            filled("goal", &pattern.goal)?;
            long("goal", &pattern.goal, QUERY)?;
            many("steps", pattern.steps.len(), LIST)?;
            if pattern.steps.is_empty() {
                return Err(Invalid::Empty { field: "steps" });
            }
            pattern.steps.iter().try_for_each(|step| {
                name("steps.tool", &step.tool)?;
                json("steps.arguments", &step.arguments)
            })
        }
        Body::AgentState(state) => name("key", &state.key),
        Body::Procedure(procedure) => {
            title("name", &procedure.name)?;
            many("steps", procedure.steps.len(), LIST)
        }
        Body::Incident(incident) => title("title", &incident.title),
        Body::ConfigChange(change) => title("subject", &change.subject),
        Body::Knowledge(knowledge) => {
            title("title", &knowledge.title)?;
            filled("text", &knowledge.text)?;
            many("tags", knowledge.tags.len(), LIST)?;
            knowledge.tags.iter().try_for_each(|tag| name("tags", tag))
        }
    }
}

/// Whether a text can be searched for.
pub(crate) fn query(field: &'static str, text: &str) -> Result<(), Invalid> {
    filled(field, text)?;
    long(field, text, QUERY)
}

/// Whether a text can be a key.
pub(crate) fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    filled(field, text)?;
    optional_name(field, text)
}

fn optional_name(field: &'static str, text: &str) -> Result<(), Invalid> {
    long(field, text, NAME)?;
    plain(field, text)
}

fn title(field: &'static str, text: &str) -> Result<(), Invalid> {
    filled(field, text)?;
    long(field, text, TITLE)
}

fn filled(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() { Err(Invalid::Empty { field }) } else { Ok(()) }
}

fn plain(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.chars().any(char::is_control) { Err(Invalid::Control { field }) } else { Ok(()) }
}

/// Whether a text has no more bytes than `limit`.
pub(crate) fn long(field: &'static str, text: &str, limit: usize) -> Result<(), Invalid> {
    if text.len() > limit { Err(Invalid::Long { field, found: text.len(), limit }) } else { Ok(()) }
}

fn many(field: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    if found > limit { Err(Invalid::Many { field, found, limit }) } else { Ok(()) }
}

/// Whether a number is from 0 to 1.
fn fraction(field: &'static str, number: f64) -> Result<(), Invalid> {
    if (0.0..=1.0).contains(&number) {
        return Ok(());
    }
    Err(Invalid::Number { field, found: number.to_string(), range: "0 to 1" })
}

/// Whether a text is JSON or empty.
fn json(field: &'static str, text: &str) -> Result<(), Invalid> {
    long(field, text, ITEM)?;
    if text.is_empty() {
        return Ok(());
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Invalid::Json { field, reason: error.to_string() }),
    }
}
