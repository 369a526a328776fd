//! What the model of a session has read so far, and so which of its arguments can be trusted.
//!
//! A model that has read nothing but the user's words and this system's own figures says what the user wants. Once it has
//! read what others wrote (files, logs, the network), it may say what they want: from then on its arguments are theirs,
//! but for values that the user had said word for word. Nothing that a model says changes this.

mod forgotten;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use aios_policy::{Origin, Taint};
use serde_json::Value;

use self::forgotten::Forgotten;
use crate::tool;

/// Sessions of one agent that are remembered. The one that was used least recently is forgotten first, and counts as one
/// that has read the worst from then on; agents can't push out each other's.
pub const SESSIONS_MAX: usize = 1024;

/// Longest name of a session in bytes.
pub const NAME_MAX: usize = 128;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    by_agent: Mutex<BTreeMap<String, OfAgent>>,
}

#[derive(Debug, Default)]
struct OfAgent {
    read: BTreeMap<String, BTreeSet<Origin>>,
    /// Least recently used first.
    order: VecDeque<String>,
    forgotten: Forgotten,
}

/// Where the results of a tool come from, as an origin of arguments; `None` where nobody else has a say in them.
pub fn origin_of(spec: &tool::ToolSpec) -> Option<Origin> {
    match spec.origin {
        tool::Origin::System => None,
        tool::Origin::Files => Some(Origin::Tool(spec.name.to_owned())),
        tool::Origin::Logs => Some(Origin::Log),
        tool::Origin::Network => Some(Origin::Web),
    }
}

impl Sessions {
    /// Notes that a call of the session returned something from `origin`.
    pub fn note(&self, agent: &str, session: &str, origin: Origin) {
        let mut by_agent = self.by_agent.lock().unwrap_or_else(PoisonError::into_inner);
        let of_agent = by_agent.entry(agent.to_owned()).or_default();
        of_agent.read.entry(session.to_owned()).or_default().insert(origin);
        of_agent.order.retain(|name| name != session);
        of_agent.order.push_back(session.to_owned());
        if of_agent.order.len() > SESSIONS_MAX {
            let oldest = of_agent.order.pop_front().expect("invariant: it is longer than nothing");
            of_agent.read.remove(&oldest);
            of_agent.forgotten.add(&oldest);
        }
    }

    /// What the session has read.
    pub fn read(&self, agent: &str, session: &str) -> BTreeSet<Origin> {
        let by_agent = self.by_agent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_agent) = by_agent.get(agent) else { return BTreeSet::new() };
        let mut read = of_agent.read.get(session).cloned().unwrap_or_default();
        if of_agent.forgotten.may_hold(session) {
            // What it was is not known any more: what the strictest rules are about.
            read.extend([Origin::Web, Origin::Mqtt]);
        }
        read
    }

    /// Where the arguments of a call come from.
    ///
    /// A call outside of a session is made by whoever runs the program: `alone` says who that is. `goal` is what the user
    /// said, word for word; `sinks` are the arguments (JSON pointers) that matter.
    pub fn taint(
        &self,
        agent: &str,
        session: &str,
        goal: &str,
        arguments: &Value,
        sinks: &[&str],
        alone: Origin,
    ) -> Taint {
        if session.is_empty() {
            return Taint::of(alone);
        }
        let mut read = self.read(agent, session);
        if read.is_empty() {
            return Taint::of(Origin::User);
        }
        read.insert(Origin::Model);
        let whole = Taint::of(Origin::Model).with("", read).expect("invariant: the whole has origins");
        sinks.iter().fold(whole, |taint, sink| match arguments.pointer(sink) {
            Some(value) if is_said(value, goal) => taint
                .with(sink, [Origin::User])
                .expect("invariant: sinks are JSON pointers, as the catalogue's test says"),
            _ => taint,
        })
    }
}

/// Whether each text and number in `value` is said in `goal`, as a whole word.
fn is_said(value: &Value, goal: &str) -> bool {
    match value {
        Value::String(text) => is_word_of(text, goal),
        Value::Number(number) => is_word_of(&number.to_string(), goal),
        Value::Array(items) => !items.is_empty() && items.iter().all(|item| is_said(item, goal)),
        // What stands between the words of an object or behind a yes or no can't be said.
        Value::Object(_) | Value::Bool(_) | Value::Null => false,
    }
}

/// Whether `word` stands in `text` between spaces, quotes or brackets, or before the punctuation of a sentence: `/tmp` is
/// no word of "delete /tmp/a", but "/tmp/a" is.
fn is_word_of(word: &str, text: &str) -> bool {
    let opens = |c: char| c.is_whitespace() || "\"'`([{<".contains(c);
    let closes = |c: char| c.is_whitespace() || "\"'`)]}>".contains(c);
    let ends = |rest: &str| {
        let sentence = rest.trim_start_matches(['.', ',', ';', ':', '!', '?']);
        rest.chars().next().is_none_or(closes) || sentence.chars().next().is_none_or(closes)
    };
    if word.is_empty() {
        return false;
    }
    text.match_indices(word)
        .any(|(at, _)| text[..at].chars().next_back().is_none_or(opens) && ends(&text[at + word.len()..]))
}

#[cfg(test)]
mod tests {
    use aios_policy::taint::tainted_sinks;
    use serde_json::json;

    use super::*;

    const TRUSTED: [Origin; 2] = [Origin::User, Origin::Operator];

    fn tainted(sessions: &Sessions, session: &str, goal: &str, arguments: &Value) -> bool {
        let taint = sessions.taint("task", session, goal, arguments, &["/path"], Origin::Operator);
        !tainted_sinks(&["/path"], &taint, &TRUSTED.into()).is_empty()
    }

    #[test]
    fn a_model_is_trusted_until_it_has_read_what_others_wrote() {
        let sessions = Sessions::default();
        let arguments = json!({"path": "/tmp/a"});
        assert!(!tainted(&sessions, "s", "", &arguments));
        sessions.note("task", "s", Origin::Web);
        assert!(tainted(&sessions, "s", "", &arguments));
        assert!(tainted(&sessions, "s", "tidy up", &arguments));
        assert!(!tainted(&sessions, "other", "", &arguments), "sessions know nothing of each other");
        assert!(!tainted(&sessions, "", "", &arguments), "a call outside of sessions is the caller's own");
    }

    #[test]
    fn what_the_user_said_word_for_word_stays_the_users() {
        let sessions = Sessions::default();
        sessions.note("task", "s", Origin::Log);
        for (goal, path, said) in [
            ("delete /tmp/a, please", "/tmp/a", true),
            ("delete '/tmp/a'.", "/tmp/a", true),
            ("delete /tmp/a.", "/tmp/a", true),
            ("delete /tmp/ab", "/tmp/a", false),
            ("delete /tmp/a.bak", "/tmp/a", false),
            ("delete /tmp/a/b", "/tmp/a", false),
            ("delete /x/tmp/a", "/tmp/a", false),
            ("delete /tmp/a", "/tmp", false),
            ("delete /tmp/a", "/", false),
            ("delete /tmp/a", "", false),
        ] {
            assert_eq!(!tainted(&sessions, "s", goal, &json!({ "path": path })), said, "{path} in {goal:?}");
        }
        assert!(tainted(&sessions, "s", "a b", &json!({"path": ["a", "b", "c"]})));
        assert!(!tainted(&sessions, "s", "a b", &json!({"path": ["a", "b"]})));
        assert!(!tainted(&sessions, "s", "signal 42", &json!({"path": 42})));
        assert!(tainted(&sessions, "s", "true", &json!({"path": true})), "a yes is not said by its spelling");
    }

    #[test]
    fn an_agent_forgets_its_own_oldest_session_alone() {
        let sessions = Sessions::default();
        sessions.note("web", "kept", Origin::Web);
        for n in 0..=SESSIONS_MAX {
            sessions.note("task", &n.to_string(), Origin::Web);
        }
        assert_eq!(sessions.read("task", "1").len(), 1);
        assert_eq!(sessions.read("web", "kept").len(), 1);
    }

    #[test]
    fn a_session_that_was_forgotten_is_not_trusted_again() {
        let sessions = Sessions::default();
        let arguments = json!({"path": "/tmp/a"});
        for n in 0..=SESSIONS_MAX {
            sessions.note("task", &n.to_string(), Origin::Log);
        }
        assert!(tainted(&sessions, "0", "", &arguments));
        assert!(!tainted(&sessions, "0", "delete /tmp/a", &arguments), "the user's word stays the user's");
        assert!(!tainted(&sessions, "new", "", &arguments));
        assert!(sessions.read("web", "0").is_empty(), "another agent's session of the same name is another one");
    }
}
