//! Installing the running live system to a disk.
//!
//! ```text
//! plan       what belongs on the disk, from aios/install.toml on the medium
//! source     the bytes of each partition, from the files of the medium
//! contents   what is on a disk now
//! candidate  which disks there are, and why one is refused
//! writer     writes, checks, and makes the disk bootable last of all
//! ```
//!
//! The first sector decides. It is overwritten with a mark before anything else, and gets its boot code and the
//! protective partition in the last write, when everything has been read back and found right. In between neither
//! firmware nor kernel finds anything on the disk, and the next installation knows it for its own unfinished work.

mod candidate;
mod contents;
mod plan;
mod source;
mod writer;

pub use candidate::{Candidate, Machine, Overwrite, Refusal};
pub use contents::Contents;
pub use plan::Plan;
pub use source::Medium;
pub use writer::{Progress, Step, write};
