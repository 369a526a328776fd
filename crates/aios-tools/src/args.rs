//! Types of arguments that several tools share. What can't be right is refused when the arguments are read.

mod address;
mod bounded;
mod count;
mod name;
mod path;
mod url;

pub use bounded::Bounded;

pub use address::{HostName, Network, Prefix};
pub use count::Count;
pub use name::{Interface, UnitName};
pub use path::{AbsolutePath, PathError};
pub use url::WebUrl;
