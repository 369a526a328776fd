//! What the broker holds of what it should: pure, so that each way of losing a connection can be tried.

use std::{collections::BTreeMap, time::Instant};

use crate::board::{Desired, Retained};

/// What was published by this process.
#[derive(Debug, Default)]
pub struct Mirror {
    /// By topic. `None`: the broker may hold something of before.
    held: BTreeMap<String, Option<Retained>>,
}

/// A message to publish, retained. An empty one removes what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What; empty to remove.
    pub payload: String,
    /// Seconds after which the broker drops it.
    pub expiry: Option<u32>,
}

impl Mirror {
    /// Another connection: what was published may be there or not.
    pub fn connected(&mut self) {
        self.held.values_mut().for_each(|held| *held = None);
    }

    /// What to publish so that the broker holds `desired`.
    pub fn changes(&mut self, desired: &Desired, now: Instant) -> Vec<Message> {
        let mut messages = Vec::new();
        self.held.retain(|topic, _| {
            let wanted = desired.contains_key(topic);
            if !wanted {
                messages.push(Message { topic: topic.clone(), payload: String::new(), expiry: None });
            }
            wanted
        });
        for (topic, retained) in desired {
            if self.held.get(topic) == Some(&Some(retained.clone())) {
                continue;
            }
            // A second more than is left: the device says when the time is over.
            let seconds = |until: Instant| u32::try_from(until.saturating_duration_since(now).as_secs()).ok();
            let expiry = retained.until.map(|until| seconds(until).unwrap_or(u32::MAX).saturating_add(1));
            messages.push(Message { topic: topic.clone(), payload: retained.payload.clone(), expiry });
            self.held.insert(topic.clone(), Some(retained.clone()));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn desired(entries: &[(&str, &str)]) -> Desired {
        let retained = |payload: &str| Retained { payload: payload.into(), until: None };
        entries.iter().map(|(topic, payload)| ((*topic).to_owned(), retained(payload))).collect()
    }

    fn told(mirror: &mut Mirror, wanted: &Desired) -> Vec<(String, String)> {
        mirror.changes(wanted, Instant::now()).into_iter().map(|message| (message.topic, message.payload)).collect()
    }

    fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned())).collect()
    }

    #[test]
    fn only_what_changed_is_published() {
        let mut mirror = Mirror::default();
        assert_eq!(told(&mut mirror, &desired(&[("a", "1"), ("b", "1")])), pairs(&[("a", "1"), ("b", "1")]));
        assert_eq!(told(&mut mirror, &desired(&[("a", "1"), ("b", "2")])), pairs(&[("b", "2")]));
        assert_eq!(told(&mut mirror, &desired(&[("b", "2")])), pairs(&[("a", "")]));
        assert_eq!(told(&mut mirror, &desired(&[("b", "2")])), pairs(&[]));
    }

    #[test]
    fn after_a_lost_connection_everything_is_published_and_what_ended_meanwhile_is_removed() {
        let mut mirror = Mirror::default();
        told(&mut mirror, &desired(&[("a", "1"), ("b", "1")]));
        mirror.connected();
        assert_eq!(told(&mut mirror, &desired(&[("b", "1"), ("c", "1")])), pairs(&[("a", ""), ("b", "1"), ("c", "1")]));
        assert_eq!(told(&mut mirror, &desired(&[("b", "1"), ("c", "1")])), pairs(&[]));
    }

    #[test]
    fn the_broker_drops_a_message_by_itself_when_its_time_is_over() {
        let now = Instant::now();
        let until = Some(now + Duration::from_millis(4500));
        let wanted = Desired::from([("a".to_owned(), Retained { payload: "1".into(), until })]);
        assert_eq!(Mirror::default().changes(&wanted, now)[0].expiry, Some(5));
    }
}
