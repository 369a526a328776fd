//! What is remembered. These types are also what the file holds, as JSON (docs/formats/memory.md).

use std::collections::BTreeSet;

use aios_policy::Origin;
use serde::{Deserialize, Serialize};

use crate::kind::{Kind, Tier};

/// Something that is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Never 0, never used twice.
    pub id: u64,
    /// Where it is kept.
    pub tier: Tier,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Milliseconds since 1970.
    pub updated: i64,
    /// What it is, and whence.
    pub content: Content,
}

/// All of an item that its writer decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Whence it is.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// What it is.
    pub body: Body,
}

/// Where something comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The agent that wrote it.
    pub agent: String,
    /// Document, page, file or device that it was taken from. Empty: the agent itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Whose words it is made of.
    pub origins: BTreeSet<Origin>,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Something that happened.
    Event(Event),
    /// What is to be.
    Goal(Goal),
    /// A step towards a goal.
    Task(Task),
    /// One call of a tool.
    ToolCall(ToolCall),
    /// A choice, with its reason.
    Decision(Decision),
    /// A chain of tool calls that did what a goal asked for.
    Pattern(Pattern),
    /// A value that an agent keeps under a key.
    AgentState(AgentState),
    /// How something is done.
    Procedure(Procedure),
    /// What went wrong, and why.
    Incident(Incident),
    /// What was configured otherwise.
    ConfigChange(ConfigChange),
    /// What was learned or read.
    Knowledge(Knowledge),
}

/// How grave something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// What may need attention.
    Warning,
    /// What needs attention.
    Error,
    /// What needs it now.
    Critical,
}

/// How far a goal or task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not begun.
    #[default]
    Pending,
    /// At work.
    Active,
    /// Done.
    Completed,
    /// Given up after an error.
    Failed,
    /// Given up because somebody said so.
    Cancelled,
}

/// See [`Body::Event`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    pub category: String,
    /// How grave it is.
    pub severity: Severity,
    /// What happened.
    pub message: String,
    /// JSON, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
}

/// See [`Body::Goal`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// In the words of whoever stated it.
    pub text: String,
    /// How far it is.
    pub status: Status,
    /// Larger is sooner.
    pub priority: u32,
    /// 0 to 1.
    pub progress: f64,
    /// What came of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
}

/// See [`Body::Task`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Id of the goal; 0: none.
    pub goal: u64,
    /// What is to be done.
    pub description: String,
    /// How far it is.
    pub status: Status,
    /// Name of the agent that does it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub assigned: String,
    /// Ids of tasks that come before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<u64>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
}

/// See [`Body::ToolCall`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Id of the goal; 0: none.
    pub goal: u64,
    /// Id of the task; 0: none.
    pub task: u64,
    /// Name of the tool.
    pub tool: String,
    /// JSON.
    pub arguments: String,
    /// What it returned.
    pub result: String,
    /// Whether it did what it should.
    pub success: bool,
    /// Milliseconds.
    pub duration_ms: u32,
    /// Number of the decision in the ledger; 0: none.
    pub ledger_seq: u64,
}

/// See [`Body::Decision`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Id of the goal; 0: none.
    pub goal: u64,
    /// Id of the task; 0: none.
    pub task: u64,
    /// What was to be decided.
    pub question: String,
    /// Among what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// What was chosen.
    pub chosen: String,
    /// Why.
    pub reason: String,
    /// Which level of intelligence decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
}

/// See [`Body::Pattern`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The goal's words.
    pub goal: String,
    /// What was called, in order.
    pub steps: Vec<Step>,
    /// Number of uses that did what they should.
    pub successes: u64,
    /// Number of uses that did not.
    pub failures: u64,
    /// Milliseconds since 1970; 0: never.
    pub last_used: i64,
}

/// One call of a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the tool.
    pub tool: String,
    /// JSON, in which `{name}` may stand for what differs.
    pub arguments: String,
}

/// See [`Body::AgentState`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    /// Whose.
    pub agent: String,
    /// Under which name.
    pub key: String,
    /// What.
    pub value: String,
}

/// See [`Body::Procedure`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Procedure {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What to do, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
}

/// See [`Body::Incident`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// What went wrong, in a few words.
    pub title: String,
    /// What was seen.
    pub description: String,
    /// How grave it was.
    pub severity: Severity,
    /// Why it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What helped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resolution: String,
}

/// See [`Body::ConfigChange`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// What was changed.
    pub subject: String,
    /// How it was.
    pub before: String,
    /// How it is.
    pub after: String,
    /// Why.
    pub reason: String,
}

/// See [`Body::Knowledge`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    /// What it is about.
    pub title: String,
    /// What is known.
    pub text: String,
    /// Words to sort by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// The value of something that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Finite.
    pub value: f64,
    /// For example `bytes`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Milliseconds since 1970.
    pub updated: i64,
    /// Whence it is.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl Item {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.content.body.kind()
    }
}

impl Status {
    /// Whether there is nothing left to do.
    pub fn has_ended(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

impl Body {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Event(_) => Kind::Event,
            Body::Goal(_) => Kind::Goal,
            Body::Task(_) => Kind::Task,
            Body::ToolCall(_) => Kind::ToolCall,
            Body::Decision(_) => Kind::Decision,
            Body::Pattern(_) => Kind::Pattern,
            Body::AgentState(_) => Kind::AgentState,
            Body::Procedure(_) => Kind::Procedure,
            Body::Incident(_) => Kind::Incident,
            Body::ConfigChange(_) => Kind::ConfigChange,
            Body::Knowledge(_) => Kind::Knowledge,
        }
    }

    /// Id of the goal that it belongs to; `None` for a goal itself, and where it stands alone.
    pub fn goal(&self) -> Option<u64> {
        let goal = match self {
            Body::Task(task) => task.goal,
            Body::ToolCall(call) => call.goal,
            Body::Decision(decision) => decision.goal,
            _ => 0,
        };
        (goal != 0).then_some(goal)
    }

    /// The words that it is searched by; empty where it is not.
    pub fn text(&self) -> String {
        let join =
            |parts: &[&str]| parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        match self {
            Body::Event(event) => join(&[&event.category, &event.message]),
            Body::Goal(goal) => join(&[&goal.text, &goal.result]),
            Body::Task(task) => join(&[&task.description, &task.result]),
            Body::ToolCall(call) => join(&[&call.tool, &call.arguments, &call.result]),
            Body::Decision(decision) => join(&[&decision.question, &decision.chosen, &decision.reason]),
            Body::Pattern(pattern) => pattern.goal.clone(),
            Body::AgentState(_) => String::new(),
            Body::Procedure(procedure) => join(&[&procedure.name, &procedure.description, &procedure.steps.join("\n")]),
            Body::Incident(incident) => {
                join(&[&incident.title, &incident.description, &incident.cause, &incident.resolution])
            }
            Body::ConfigChange(change) => join(&[&change.subject, &change.before, &change.after, &change.reason]),
            Body::Knowledge(knowledge) => join(&[&knowledge.title, &knowledge.text, &knowledge.tags.join(" ")]),
        }
    }
}
