//! Where the arguments of a call come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Who or what a value was taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Somebody who stated a goal.
    User,
    /// Whoever runs the device.
    Operator,
    /// The result of this tool.
    Tool(String),
    /// A page or an answer from the web.
    Web,
    /// A message of the broker.
    Mqtt,
    /// A log.
    Log,
    /// What was remembered earlier.
    Memory,
    /// A model's own words.
    Model,
}

/// The origins of a call's arguments, by JSON pointer (RFC 6901).
///
/// A value has the origins that are noted for it or, where none are, for the nearest value around it; `""` is the whole
/// of the arguments, and is always noted: nothing is without an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, BTreeSet<Origin>>", into = "BTreeMap<String, BTreeSet<Origin>>")]
pub struct Taint {
    by_pointer: BTreeMap<String, BTreeSet<Origin>>,
}

/// A dangerous argument with a value that is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintedSink {
    /// JSON pointer of the argument.
    pub pointer: String,
    /// Those of its origins that are not trusted.
    pub origins: BTreeSet<Origin>,
}

/// Why a text is no origin, or origins are none of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaintError {
    /// No such origin.
    #[error("{0:?} is no origin: use user, operator, tool:NAME, web, mqtt, log, memory or model")]
    Origin(String),
    /// A pointer that is neither empty nor begins with `/`.
    #[error("{0:?} is no JSON pointer: use \"\" for all arguments, or \"/\" and the argument's name")]
    Pointer(String),
    /// The whole has no origin.
    #[error("no origin is given for \"\", all arguments: nothing may be without one")]
    Whole,
    /// An argument has an empty list of origins.
    #[error("the list of origins for {0:?} is empty: nothing may be without one")]
    Empty(String),
}

impl Taint {
    /// All arguments come from there.
    pub fn of(origin: Origin) -> Taint {
        Taint { by_pointer: BTreeMap::from([(String::new(), BTreeSet::from([origin]))]) }
    }

    /// Notes that the value at `pointer` comes from `origins`, and from nowhere else.
    pub fn with(mut self, pointer: &str, origins: impl IntoIterator<Item = Origin>) -> Result<Taint, TaintError> {
        self.by_pointer.insert(pointer.into(), origins.into_iter().collect());
        Taint::try_from(self.by_pointer)
    }

    /// Origins of the value at `pointer`, with those of all that is within it.
    pub fn at(&self, pointer: &str) -> BTreeSet<&Origin> {
        let around = self.by_pointer.iter().filter(|(noted, _)| is_within(pointer, noted));
        let nearest = around.max_by_key(|(noted, _)| noted.len());
        let inside = self.by_pointer.iter().filter(|(noted, _)| is_within(noted, pointer));
        nearest.into_iter().chain(inside).flat_map(|(_, origins)| origins).collect()
    }

    /// All noted origins with their pointers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Origin>)> {
        self.by_pointer.iter().map(|(pointer, origins)| (pointer.as_str(), origins))
    }
}

/// The sinks (JSON pointers of a tool's dangerous arguments) whose values come from anywhere but `trusted`.
pub fn tainted_sinks<S: AsRef<str>>(sinks: &[S], taint: &Taint, trusted: &BTreeSet<Origin>) -> Vec<TaintedSink> {
    let tainted = sinks.iter().map(AsRef::as_ref).map(|pointer| TaintedSink {
        pointer: pointer.to_owned(),
        origins: taint.at(pointer).into_iter().filter(|origin| !trusted.contains(origin)).cloned().collect(),
    });
    tainted.filter(|sink| !sink.origins.is_empty()).collect()
}

/// Whether a text is a JSON pointer.
pub(crate) fn is_pointer(text: &str) -> bool {
    let escapes_end = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_end
}

/// Whether the value at `inner` is the one at `outer`, or a part of it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl TryFrom<BTreeMap<String, BTreeSet<Origin>>> for Taint {
    type Error = TaintError;

    fn try_from(by_pointer: BTreeMap<String, BTreeSet<Origin>>) -> Result<Taint, TaintError> {
        if !by_pointer.contains_key("") {
            return Err(TaintError::Whole);
        }
        for (pointer, origins) in &by_pointer {
            if !is_pointer(pointer) {
                return Err(TaintError::Pointer(pointer.clone()));
            }
            if origins.is_empty() {
                return Err(TaintError::Empty(pointer.clone()));
            }
        }
        Ok(Taint { by_pointer })
    }
}

impl From<Taint> for BTreeMap<String, BTreeSet<Origin>> {
    fn from(taint: Taint) -> Self {
        taint.by_pointer
    }
}

impl FromStr for Origin {
    type Err = TaintError;

    fn from_str(text: &str) -> Result<Self, TaintError> {
        Ok(match text {
            "user" => Origin::User,
            "operator" => Origin::Operator,
            "web" => Origin::Web,
            "mqtt" => Origin::Mqtt,
            "log" => Origin::Log,
            "memory" => Origin::Memory,
            "model" => Origin::Model,
            _ => match text.strip_prefix("tool:") {
                Some(tool) if crate::policy::is_tool_name(tool) => Origin::Tool(tool.into()),
                _ => return Err(TaintError::Origin(text.into())),
            },
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::User => "user",
            Origin::Operator => "operator",
            Origin::Tool(tool) => return write!(f, "tool:{tool}"),
            Origin::Web => "web",
            Origin::Mqtt => "mqtt",
            Origin::Log => "log",
            Origin::Memory => "memory",
            Origin::Model => "model",
        })
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(taint: &Taint, pointer: &str) -> String {
        taint.at(pointer).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_value_has_the_nearest_noted_origins_and_those_within_it() {
        let taint = Taint::of(Origin::User)
            .with("/rule", [Origin::Model])
            .and_then(|taint| taint.with("/rule/port", [Origin::Web, Origin::Tool("net.scan".into())]))
            .unwrap();
        assert_eq!(origins(&taint, "/name"), "user");
        assert_eq!(origins(&taint, "/rule/address"), "model");
        assert_eq!(origins(&taint, "/rule/port"), "tool:net.scan web");
        assert_eq!(origins(&taint, "/rule/port/0"), "tool:net.scan web");
        assert_eq!(origins(&taint, "/rule"), "tool:net.scan web model");
        assert_eq!(origins(&taint, "/rules"), "user", "not a part of /rule");
        assert_eq!(origins(&taint, ""), "user tool:net.scan web model");
        let trusted = BTreeSet::from([Origin::User]);
        let found = tainted_sinks(&["/name", "/rule/address"], &taint, &trusted);
        assert_eq!(found, [TaintedSink { pointer: "/rule/address".into(), origins: [Origin::Model].into() }]);
    }

    #[test]
    fn nothing_is_without_origin() {
        let read = |text| serde_json::from_str::<Taint>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"": ["user"]}"#), Ok(Taint::of(Origin::User)));
        for (bad, why) in [
            (r#"{}"#, "no origin is given"),
            (r#"{"/a": ["user"]}"#, "no origin is given"),
            (r#"{"": []}"#, "the list of origins for \"\" is empty"),
            (r#"{"": ["user"], "/a": []}"#, "the list of origins for \"/a\" is empty"),
            (r#"{"": ["user"], "a": ["web"]}"#, "\"a\" is no JSON pointer"),
            (r#"{"": ["user"], "/a~2": ["web"]}"#, "\"/a~2\" is no JSON pointer"),
            (r#"{"": ["me"]}"#, "\"me\" is no origin"),
            (r#"{"": ["tool:"]}"#, "\"tool:\" is no origin"),
            (r#"{"": ["tool:a b"]}"#, "\"tool:a b\" is no origin"),
        ] {
            let message = read(bad).expect_err(bad);
            assert!(message.contains(why), "{message}");
        }
        assert!(Taint::of(Origin::User).with("", []).is_err());
    }

    #[test]
    fn origins_read_back() {
        for text in ["user", "operator", "tool:fs.read", "web", "mqtt", "log", "memory", "model"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
    }
}
