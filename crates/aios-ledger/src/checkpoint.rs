//! Checkpoints: what this device signs of its ledger.

use aios_keys::{
    hex,
    note::{NoteError, Signer, Verifier},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{entry::time_text, hash::Hash};

/// The state of a ledger at some size. As text, it is the body of a checkpoint of C2SP's tlog-checkpoint with two lines
/// of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the ledger, which is the name of the key that signs it.
    pub origin: String,
    /// Number of entries, those that were dropped included.
    pub size: u64,
    /// Root of the Merkle tree of the records.
    pub root: Hash,
    /// Hash of the chain.
    pub chain: Hash,
    /// When it was signed.
    pub time: Timestamp,
}

/// Why a text is no checkpoint to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its signatures don't hold.
    #[error("the checkpoint {0}")]
    Note(NoteError),
    /// The signed text is something else.
    #[error("the signed text is no checkpoint of a ledger")]
    Form,
    /// It is of another ledger than its key's.
    #[error("the checkpoint is of the ledger '{origin}', and the key is that of '{key}'")]
    Origin {
        /// Ledger that the checkpoint names.
        origin: String,
        /// Name of the key that was given.
        key: String,
    },
}

impl From<NoteError> for CheckpointError {
    fn from(error: NoteError) -> CheckpointError {
        CheckpointError::Note(error)
    }
}

impl Checkpoint {
    /// Reads a signed checkpoint, if both signatures of `keys` hold.
    pub fn open(note: &str, keys: &Verifier) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = Checkpoint::parse(keys.open(note)?).ok_or(CheckpointError::Form)?;
        if checkpoint.origin != keys.name() {
            return Err(CheckpointError::Origin { origin: checkpoint.origin, key: keys.name().to_owned() });
        }
        Ok(checkpoint)
    }

    /// Signs it.
    pub fn sign(&self, signer: &Signer) -> Result<String, NoteError> {
        signer.sign(&self.text())
    }

    /// Why this and `other`, both believed, can't be of the same ledger. `None` if they may: of checkpoints of different
    /// sizes only the entries tell more.
    pub fn conflict(&self, other: &Checkpoint) -> Option<&'static str> {
        if self.origin != other.origin {
            Some("they are of different ledgers")
        } else if self.size == other.size && (self.root, self.chain) != (other.root, other.chain) {
            Some("they have as many entries, and different ones")
        } else {
            None
        }
    }

    fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\nchain {}\ntime {}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root),
            hex::encode(&self.chain),
            time_text(self.time)
        )
    }

    fn parse(text: &str) -> Option<Checkpoint> {
        let mut lines = text.lines();
        let checkpoint = Checkpoint {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: STANDARD.decode(lines.next()?).ok()?.try_into().ok()?,
            chain: hex::decode(lines.next()?.strip_prefix("chain ")?)?,
            time: lines.next()?.strip_prefix("time ")?.parse().ok()?,
        };
        // There is one way to write a checkpoint.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use aios_keys::seed::Seed;

    use super::*;

    fn checkpoint(origin: &str) -> Checkpoint {
        let time = "2026-11-22T04:31:04.123456Z".parse().unwrap();
        Checkpoint { origin: origin.to_owned(), size: 1234, root: [1; 32], chain: [2; 32], time }
    }

    #[test]
    fn the_text_is_that_of_the_format() {
        let expected = "aios/ledger/test\n1234\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
                        chain 0202020202020202020202020202020202020202020202020202020202020202\n\
                        time 2026-11-22T04:31:04.123456Z\n";
        assert_eq!(checkpoint("aios/ledger/test").text(), expected);
        assert_eq!(Checkpoint::parse(expected), Some(checkpoint("aios/ledger/test")));
        for wrong in [
            expected.replace("1234", "01234"),
            expected.replace("1234", "+1234"),
            expected.replace("AQE=", "AQF="),
            expected.replace("456Z", "4560Z"),
            expected.replace("chain 02", "chain  02"),
            format!("{expected}more\n"),
            expected.trim_end().to_owned(),
            String::new(),
        ] {
            assert_eq!(Checkpoint::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_believed_for_the_ledger_of_its_key_alone() {
        let signer = Signer::new("aios/ledger/test", &Seed::from_bytes([1; 32])).unwrap();
        let own = checkpoint("aios/ledger/test");
        assert_eq!(Checkpoint::open(&own.sign(&signer).unwrap(), &signer.verifier()), Ok(own));
        let foreign = checkpoint("aios/ledger/other").sign(&signer).unwrap();
        assert!(matches!(Checkpoint::open(&foreign, &signer.verifier()), Err(CheckpointError::Origin { .. })));
        let text = signer.sign("something else\n").unwrap();
        assert_eq!(Checkpoint::open(&text, &signer.verifier()), Err(CheckpointError::Form));
    }

    #[test]
    fn two_checkpoints_of_one_size_and_different_entries_are_a_fork() {
        let one = checkpoint("a");
        let later = Checkpoint { time: "2027-01-01T00:00:00Z".parse().unwrap(), ..one.clone() };
        assert_eq!(one.conflict(&later), None);
        assert_eq!(one.conflict(&Checkpoint { size: 1235, root: [9; 32], ..one.clone() }), None);
        assert!(one.conflict(&Checkpoint { root: [9; 32], ..one.clone() }).is_some());
        assert!(one.conflict(&Checkpoint { chain: [9; 32], ..one.clone() }).is_some());
        assert!(one.conflict(&checkpoint("b")).is_some());
    }
}
