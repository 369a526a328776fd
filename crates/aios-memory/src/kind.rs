//! What sorts of things are remembered, and where.

use std::fmt;

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// A ring: the newest [`RING`](crate::limits::RING) events.
    Operational = 1,
    /// Work in progress, and what was done lately.
    Working = 2,
    /// What lasts.
    LongTerm = 3,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something that happened.
    Event = 1,
    /// What is to be.
    Goal = 2,
    /// A step towards a goal.
    Task = 3,
    /// One call of a tool.
    ToolCall = 4,
    /// A choice, with its reason.
    Decision = 5,
    /// A chain of tool calls that did what a goal asked for.
    Pattern = 6,
    /// A value that an agent keeps under a key.
    AgentState = 7,
    /// How something is done.
    Procedure = 8,
    /// What went wrong, and why.
    Incident = 9,
    /// What was configured otherwise.
    ConfigChange = 10,
    /// What was learned or read.
    Knowledge = 11,
}

/// By what an item can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// By its key alone.
    None,
    /// By its words.
    Words,
    /// By its words, and by its meaning as soon as it has a vector.
    WordsAndMeaning,
}

impl Tier {
    /// All of them, the shortest-lived first.
    pub const ALL: [Tier; 3] = [Tier::Operational, Tier::Working, Tier::LongTerm];

    /// The tier with this number in the file.
    pub(crate) fn from_byte(byte: u8) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| *tier as u8 == byte)
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 11] = [
        Kind::Event,
        Kind::Goal,
        Kind::Task,
        Kind::ToolCall,
        Kind::Decision,
        Kind::Pattern,
        Kind::AgentState,
        Kind::Procedure,
        Kind::Incident,
        Kind::ConfigChange,
        Kind::Knowledge,
    ];

    /// The kind with this number in the file.
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The tier that an item of this kind begins in.
    pub fn first_tier(self) -> Tier {
        match self {
            Kind::Event => Tier::Operational,
            Kind::Goal | Kind::Task | Kind::ToolCall | Kind::Decision | Kind::Pattern | Kind::AgentState => {
                Tier::Working
            }
            Kind::Procedure | Kind::Incident | Kind::ConfigChange | Kind::Knowledge => Tier::LongTerm,
        }
    }

    /// By what items of this kind are searched. Events and calls come too often for a model to read each.
    pub fn indexing(self) -> Indexing {
        match self {
            Kind::AgentState => Indexing::None,
            Kind::Event | Kind::ToolCall => Indexing::Words,
            _ => Indexing::WordsAndMeaning,
        }
    }

    /// The name in capabilities (`memory:read:NAME`), messages and the file.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Goal => "goal",
            Kind::Task => "task",
            Kind::ToolCall => "tool-call",
            Kind::Decision => "decision",
            Kind::Pattern => "pattern",
            Kind::AgentState => "agent-state",
            Kind::Procedure => "procedure",
            Kind::Incident => "incident",
            Kind::ConfigChange => "config-change",
            Kind::Knowledge => "knowledge",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Operational => "operational",
            Tier::Working => "working",
            Tier::LongTerm => "long-term",
        })
    }
}
