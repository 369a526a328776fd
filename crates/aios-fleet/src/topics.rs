//! The topics of a device, in thin-edge.io's grammar (docs/formats/topics.md).

use serde::{Deserialize, Serialize};

/// Longest id of a call or a command in a topic, in bytes.
const ID_MAX: usize = 64;
/// Before the id of the call in the name of its alarm.
const APPROVAL: &str = "approval_";

/// The topics of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    device: String,
}

/// A question, as it is published: an alarm, until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// For people.
    pub text: String,
    /// As thin-edge.io names them: "major", or "critical" where the call is.
    pub severity: String,
    /// Since when, RFC 3339.
    pub time: String,
    /// The question's text (docs/formats/approval.md), which an answer signs. Absent where it is too long to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
}

/// A command that brings an answer, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// How far it is.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The signed note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The public key that it is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Somebody wants it.
    Init,
    /// The answer counts.
    Successful,
    /// It does not; `reason` says why.
    Failed,
}

impl Topics {
    /// Those of `device`, whose name is one level of a topic.
    pub fn new(device: &str) -> Topics {
        Topics { device: device.to_owned() }
    }

    /// The device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the device is.
    pub fn registration(&self) -> String {
        format!("te/device/{}//", self.device)
    }

    /// What its service `fleet` is.
    pub fn service(&self) -> String {
        format!("te/device/{}/service/fleet", self.device)
    }

    /// Whether its service `fleet` is there.
    pub fn health(&self) -> String {
        format!("te/device/{}/service/fleet/status/health", self.device)
    }

    /// That it takes answers.
    pub fn takes_answers(&self) -> String {
        format!("te/device/{}///cmd/approval", self.device)
    }

    /// The alarm of a call that waits.
    pub fn question(&self, call_id: &str) -> String {
        format!("te/device/{}///a/{APPROVAL}{call_id}", self.device)
    }

    /// All its alarms.
    pub fn alarms(&self) -> String {
        format!("te/device/{}///a/+", self.device)
    }

    /// The call whose alarm this is the topic of.
    pub fn call_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let alarm = topic.strip_prefix("te/device/")?.strip_prefix(self.device.as_str())?.strip_prefix("///a/")?;
        alarm.strip_prefix(APPROVAL).filter(|id| is_id(id))
    }

    /// A command that brings an answer.
    pub fn answer(&self, command_id: &str) -> String {
        format!("te/device/{}///cmd/approval/{command_id}", self.device)
    }

    /// All commands that bring answers.
    pub fn answers(&self) -> String {
        format!("te/device/{}///cmd/approval/+", self.device)
    }

    /// The command that this is the topic of.
    pub fn command_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic.strip_prefix("te/device/")?.strip_prefix(self.device.as_str())?;
        rest.strip_prefix("///cmd/approval/").filter(|id| is_id(id))
    }
}

/// Whether a text is the id of a call or a command.
pub fn is_id(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    plain && (1..=ID_MAX).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_as_it_is_written_and_no_other_is() {
        let topics = Topics::new("pump-2");
        assert_eq!(topics.call_of(&topics.question("c_1-a")), Some("c_1-a"));
        assert_eq!(topics.command_of(&topics.answer("x")), Some("x"));
        let long = topics.answer(&"x".repeat(65));
        for wrong in [
            "",
            "te/device/pump-2///cmd/approval",
            "te/device/pump-2///cmd/approval/",
            "te/device/pump-22///cmd/approval/x",
            "te/device/pump-2///cmd/approval/x/y",
            "te/device/pump-2///cmd/restart/x",
            "te/device/pump-2///cmd/approval/é",
            long.as_str(),
        ] {
            assert_eq!(topics.command_of(wrong), None, "{wrong:?}");
        }
        assert_eq!(topics.call_of("te/device/pump-2///a/temperature"), None);
        assert_eq!(topics.call_of(&Topics::new("pump-3").question("c")), None);
    }

    #[test]
    fn a_payload_that_is_no_command_is_refused_and_none_makes_the_parser_panic() {
        let read = |text: &str| serde_json::from_str::<Command>(text);
        assert_eq!(
            read(r#"{"status":"init","note":"n","key":"k","more":1}"#).expect("a command").note.as_deref(),
            Some("n")
        );
        let deep = format!("{{\"status\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for wrong in
            ["", "{}", "[]", "null", r#"{"status":"done"}"#, r#"{"status":"init","note":1}"#, "{\"status\"", &deep]
        {
            assert!(read(wrong).is_err());
        }
    }
}
