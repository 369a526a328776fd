//! The tools of a device for clients of the Model Context Protocol, over standard input and output and over HTTP.
//!
//! Nothing is decided and nothing runs here: each request becomes one of the tools' service, behind a [`Door`], which
//! knows who asks. docs/mcp.md is for the people who connect clients.

mod convert;
mod door;
pub mod http;
mod server;
pub mod stdio;
#[cfg(test)]
mod testing;

pub use self::{
    convert::plain_name,
    door::{Conversation, Door, GrpcDoor},
    server::Server,
};
