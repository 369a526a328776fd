//! Types of arguments that several tools share. What can't be right is refused when the arguments are read.

mod bounded;
mod name;
mod path;
mod url;

pub use bounded::Bounded;
mod count;

pub use count::Count;
pub use name::{Interface, UnitName};
pub use path::{AbsolutePath, PathError};
pub use url::WebUrl;
