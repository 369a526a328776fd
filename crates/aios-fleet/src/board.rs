//! What the broker should hold of this device: made from what the tools tell and from what became of answers.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use aios_api::tools::v1::{Approval, Risk};
use serde_json::json;

use crate::topics::{Alarm, Command, Status, Topics};

/// Longest question that is sent, in bytes. What can't be shown can't be approved from afar.
const QUESTION_MAX: usize = 256 << 10;
/// What became of an answer stays for so long.
const RESULT_KEPT: Duration = Duration::from_secs(300);
/// Results that are kept; the oldest is dropped first.
const RESULTS_MAX: usize = 64;

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// JSON.
    pub payload: String,
    /// The broker drops it by itself then.
    pub until: Option<Instant>,
}

/// All retained messages of the device, by topic.
pub type Desired = BTreeMap<String, Retained>;

/// What the broker should hold.
#[derive(Clone, Debug)]
pub struct Board {
    topics: Topics,
    registered: Desired,
    questions: Desired,
    results: BTreeMap<String, Retained>,
    order: VecDeque<String>,
}

impl Board {
    /// A device that asks nothing.
    pub fn new(topics: Topics) -> Board {
        let forever = |payload: serde_json::Value| Retained { payload: payload.to_string(), until: None };
        let device = topics.device().to_owned();
        let registered = Desired::from([
            (topics.registration(), forever(json!({ "@type": "device", "@id": device, "type": "aiOS" }))),
            (
                topics.service(),
                forever(json!({
                    "@type": "service", "@parent": format!("device/{device}//"), "type": "service", "name": "fleet",
                    "version": env!("CARGO_PKG_VERSION"),
                })),
            ),
            (topics.takes_answers(), forever(json!({}))),
            (topics.health(), forever(json!({ "status": "up", "pid": std::process::id() }))),
        ]);
        let results = BTreeMap::new();
        Board { topics, registered, questions: Desired::new(), results, order: VecDeque::new() }
    }

    /// A call waits.
    pub fn opened(&mut self, approval: &Approval, now: Instant) {
        let severity = if approval.risk() == Risk::Critical { "critical" } else { "major" };
        let fits = approval.question.len() <= QUESTION_MAX;
        let mut text = format!("{} by {} waits for approval: {}", approval.tool, approval.agent, approval.reason);
        if !fits {
            text += "; it is too long to be shown here, so it can only be answered on the device";
        }
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let question = fits.then(|| approval.question.clone());
        let alarm = Alarm { text, severity: severity.into(), time, question };
        let until = Some(now + Duration::from_millis(u64::from(approval.remaining_ms)));
        let payload = serde_json::to_string(&alarm).expect("invariant: texts are JSON");
        self.questions.insert(self.topics.question(&approval.call_id), Retained { payload, until });
    }

    /// A call waits no more.
    pub fn closed(&mut self, call_id: &str) {
        self.questions.remove(&self.topics.question(call_id));
    }

    /// Nobody knows what waits: the tools are not there.
    pub fn unknown(&mut self) {
        self.questions.clear();
    }

    /// What became of the answer that a command brought.
    pub fn answered(&mut self, command_id: &str, failed: Option<String>, now: Instant) {
        let status = if failed.is_some() { Status::Failed } else { Status::Successful };
        let command = Command { status, reason: failed, note: None, key: None };
        let payload = serde_json::to_string(&command).expect("invariant: texts are JSON");
        let topic = self.topics.answer(command_id);
        if self.results.insert(topic.clone(), Retained { payload, until: Some(now + RESULT_KEPT) }).is_none() {
            self.order.push_back(topic);
        }
        if self.order.len() > RESULTS_MAX {
            let oldest = self.order.pop_front().expect("invariant: it is longer than nothing");
            self.results.remove(&oldest);
        }
    }

    /// Whether a command was carried out before: it may come twice.
    pub fn knows(&self, command_id: &str) -> bool {
        self.results.contains_key(&self.topics.answer(command_id))
    }

    /// What the broker should hold at `now`.
    pub fn desired(&self, now: Instant) -> Desired {
        let lasts = |retained: &Retained| retained.until.is_none_or(|until| until > now);
        let all = self.registered.iter().chain(&self.questions).chain(&self.results);
        all.filter(|(_, retained)| lasts(retained)).map(|(topic, kept)| (topic.clone(), kept.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> (Board, Topics, Instant) {
        let topics = Topics::new("pump-2");
        (Board::new(topics.clone()), topics, Instant::now())
    }

    fn approval(question: &str) -> Approval {
        Approval { call_id: "c1".into(), question: question.into(), remaining_ms: 5000, ..Approval::default() }
    }

    #[test]
    fn a_question_is_there_until_it_is_closed_or_its_time_is_over() {
        let (mut board, topics, now) = board();
        board.opened(&approval("{}"), now);
        let topic = topics.question("c1");
        let alarm: Alarm = serde_json::from_str(&board.desired(now)[&topic].payload).expect("an alarm");
        assert_eq!(alarm.question.as_deref(), Some("{}"));
        assert!(!board.desired(now + Duration::from_secs(5)).contains_key(&topic));
        board.closed("c1");
        assert!(!board.desired(now).contains_key(&topic));
    }

    #[test]
    fn a_question_that_is_too_long_to_be_shown_can_not_be_answered_from_afar() {
        let (mut board, topics, now) = board();
        board.opened(&approval(&"x".repeat(QUESTION_MAX + 1)), now);
        let payload = &board.desired(now)[&topics.question("c1")].payload;
        assert!(payload.contains("only be answered on the device") && !payload.contains("xxx"));
    }

    #[test]
    fn results_are_kept_for_a_while_and_never_too_many() {
        let (mut board, topics, now) = board();
        for n in 0..RESULTS_MAX + 5 {
            board.answered(&format!("a{n}"), None, now);
        }
        assert!(!board.knows("a4") && board.knows("a5"));
        board.answered("a9", Some("late".into()), now);
        assert!(board.desired(now)[&topics.answer("a9")].payload.contains("late"));
        assert_eq!(board.desired(now + RESULT_KEPT).len(), 4, "what the device is stays");
    }
}
