//! Answers that somebody gives elsewhere, and signs (docs/formats/approval.md).
//!
//! Whoever carries one here need not be trusted. It counts for the question whose very text was answered, and the text
//! holds random bits that no other question has: so no answer counts twice, later, or for another device.

use aios_keys::{
    hex,
    note::{NoteError, Signer, Verifier},
};
use aios_policy::{Timestamp, policy::Fingerprint};
use sha2::{Digest as _, Sha256};

/// What every answer begins with, so that the signature of one is never one of anything else.
const PURPOSE: &str = "aios approval 1";
/// Longest note that is read, in bytes: the text and two signatures of one key are a third of it.
const NOTE_MAX: usize = 16 << 10;
/// Longest public key that is read, in bytes.
const KEY_MAX: usize = 8 << 10;

/// What an approver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The device that asks.
    pub device: String,
    /// The call.
    pub call_id: String,
    /// The digest of the call.
    pub digest: String,
    /// SHA-256 of the question's text, as [`question_hash`] writes it.
    pub question: String,
    /// Yes or no.
    pub approve: bool,
    /// Name of the key that signs.
    pub approver: String,
    /// When it was given, by the approver's clock.
    pub time: Timestamp,
    /// Last second at which it counts, by the device's clock: when the question's time is over.
    pub until: Timestamp,
}

/// An answer with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The signed note.
    pub note: String,
    /// The public key, whose fingerprint the policy knows.
    pub key: String,
}

/// Why a signed answer can't be made or is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// More than any answer has.
    #[error("the signed answer is longer than any can be")]
    TooLong,
    /// The public key, or the note.
    #[error("the signed answer {0}")]
    Note(#[from] NoteError),
    /// The signed text is no answer.
    #[error("what was signed is no answer to an approval")]
    Form,
    /// A name that a line can't hold.
    #[error("{0:?} can't stand in an answer: use letters, digits, '.', '_', ':', '@' and '-'")]
    Name(String),
    /// Another name than that of the key.
    #[error("the answer says that {said:?} gives it, but it is signed as {signed:?}")]
    Approver {
        /// Name in the text.
        said: String,
        /// Name of the key.
        signed: String,
    },
}

/// The hash of a question's text: what is signed is what was seen.
pub fn question_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes()))
}

impl Answer {
    /// The text that is signed. There is one for each answer.
    fn to_text(&self) -> Result<String, AnswerError> {
        let fields = [&self.device, &self.call_id, &self.digest, &self.question, &self.approver];
        let plain = |text: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
            (1..=128).contains(&text.len()) && text.bytes().all(byte)
        };
        if let Some(wrong) = fields.into_iter().find(|text| !plain(text)) {
            return Err(AnswerError::Name(wrong.chars().take(128).collect()));
        }
        let Answer { device, call_id, digest, question, approve, approver, time, until } = self;
        let verdict = if *approve { "approve" } else { "deny" };
        Ok(format!(
            "{PURPOSE}\ndevice {device}\ncall {call_id}\ndigest {digest}\nquestion {question}\nverdict {verdict}\n\
             approver {approver}\ntime {}\nuntil {}\n",
            time.0, until.0
        ))
    }

    fn parse(text: &str) -> Result<Answer, AnswerError> {
        let rest = text.strip_prefix(PURPOSE).and_then(|rest| rest.strip_prefix('\n'));
        let mut lines = rest.ok_or(AnswerError::Form)?.lines();
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(str::to_owned).ok_or(AnswerError::Form)
        };
        let number = |text: String| text.parse().map(Timestamp).map_err(|_| AnswerError::Form);
        let answer = Answer {
            device: field("device")?,
            call_id: field("call")?,
            digest: field("digest")?,
            question: field("question")?,
            approve: match field("verdict")?.as_str() {
                "approve" => true,
                "deny" => false,
                _ => return Err(AnswerError::Form),
            },
            approver: field("approver")?,
            time: number(field("time")?)?,
            until: number(field("until")?)?,
        };
        // Only what would be written like this is read: no second spelling, no line more.
        if answer.to_text().as_deref() == Ok(text) { Ok(answer) } else { Err(AnswerError::Form) }
    }

    /// Signs the answer. Its `approver` is the name of the key.
    pub fn sign(&self, signer: &Signer) -> Result<Signed, AnswerError> {
        if self.approver != signer.name() {
            return Err(AnswerError::Approver { said: self.approver.clone(), signed: signer.name().to_owned() });
        }
        Ok(Signed { note: signer.sign(&self.to_text()?)?, key: signer.verifier().to_string() })
    }
}

impl Signed {
    /// The key that it claims to be signed with. That it is follows from [`Signed::open`] alone.
    pub fn key(&self) -> Result<(Verifier, Fingerprint), AnswerError> {
        if self.key.len() > KEY_MAX || self.note.len() > NOTE_MAX {
            return Err(AnswerError::TooLong);
        }
        let verifier: Verifier = self.key.parse()?;
        let fingerprint = Fingerprint(verifier.fingerprint());
        Ok((verifier, fingerprint))
    }

    /// What was said, if both signatures of `key` hold.
    pub fn open(&self, key: &Verifier) -> Result<Answer, AnswerError> {
        let answer = Answer::parse(key.open(&self.note)?)?;
        match answer.approver == key.name() {
            true => Ok(answer),
            false => Err(AnswerError::Approver { said: answer.approver, signed: key.name().to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use aios_keys::seed::Seed;
    use proptest::prelude::*;

    use super::*;

    fn answer() -> Answer {
        Answer {
            device: "pump-2".into(),
            call_id: "c1".into(),
            digest: "ab".repeat(32),
            question: question_hash("{}"),
            approve: true,
            approver: "alice".into(),
            time: Timestamp(1_800_000_000),
            until: Timestamp(1_800_000_120),
        }
    }

    fn signer(name: &str) -> Signer {
        Signer::new(name, &Seed::from_bytes([3; 32])).expect("a name")
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        for answer in [answer(), Answer { approve: false, ..answer() }] {
            let signed = answer.sign(&signer("alice")).expect("signed");
            let (key, fingerprint) = signed.key().expect("a key");
            assert_eq!(signed.open(&key), Ok(answer));
            assert_eq!(fingerprint, Fingerprint(signer("alice").verifier().fingerprint()));
        }
    }

    #[test]
    fn each_change_of_the_text_is_seen() {
        let signed = answer().sign(&signer("alice")).expect("signed");
        let (key, _) = signed.key().expect("a key");
        for (from, to) in [
            ("verdict approve", "verdict deny"),
            ("device pump-2", "device pump-3"),
            ("call c1", "call c2"),
            ("until 1800000120", "until 1900000120"),
            ("approver alice", "approver mallo"),
            ("aios approval 1", "aios approval 2"),
        ] {
            let forged = Signed { note: signed.note.replacen(from, to, 1), ..signed.clone() };
            assert_ne!(forged, signed, "{from}");
            assert!(matches!(forged.open(&key), Err(AnswerError::Note(_))), "{from}");
        }
    }

    #[test]
    fn a_key_signs_under_its_own_name_alone() {
        assert!(matches!(answer().sign(&signer("bob")), Err(AnswerError::Approver { .. })));
        let text = answer().to_text().expect("plain");
        let signed =
            Signed { note: signer("bob").sign(&text).expect("signed"), key: signer("bob").verifier().to_string() };
        let (key, _) = signed.key().expect("a key");
        assert!(matches!(signed.open(&key), Err(AnswerError::Approver { .. })));
    }

    #[test]
    fn a_signed_text_that_is_no_answer_is_refused() {
        let text = answer().to_text().expect("plain");
        for wrong in [
            "aios ledger\n1\nAAAA\n".to_owned(),
            format!("{text}more 1\n"),
            text.replace("time 1800000000", "time 01800000000"),
            text.replace("time 1800000000", "time -1"),
            text.replace("verdict approve", "verdict yes"),
            text.replace("call c1\n", ""),
            text.replace("device pump-2", "device  pump-2"),
        ] {
            let signed = Signed { note: signer("alice").sign(&wrong).expect("a text"), key: String::new() };
            assert_eq!(signed.open(&signer("alice").verifier()), Err(AnswerError::Form), "{wrong:?}");
        }
        let long = Signed { note: "x".repeat(NOTE_MAX + 1), key: signer("alice").verifier().to_string() };
        assert_eq!(long.key().map(drop), Err(AnswerError::TooLong));
        let name = Answer { call_id: "c1\nverdict approve".into(), ..answer() };
        assert!(matches!(name.sign(&signer("alice")), Err(AnswerError::Name(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(aios approval 1\n)?([a-z]{4,8} [a-z0-9 ]{0,9}\n){0,9}") {
            let _ = Answer::parse(&text);
        }
    }
}
