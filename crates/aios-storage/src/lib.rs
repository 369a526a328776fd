//! Disks: which there are, their partition tables, and the data partition that the first boot makes.

pub mod block;
pub mod data;
pub mod disk;
pub mod ext4;
pub mod fat;
pub mod gpt;
pub mod signature;

pub use block::BlockDevice;
pub use data::{DataError, Outcome, Prepared, prepare};
pub use disk::{Disk, FileDisk};
