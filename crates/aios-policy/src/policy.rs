//! The policy: who is who, and who may do what.

/// Longest name of an agent or a tool in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Whether `name` can be a tool's: lower-case words of letters, digits, `_` and `-`, joined by dots.
pub fn is_tool_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_agent_name)
}

/// Whether `name` can be an agent's: lower-case letters, digits, `_` and `-`, a letter first.
pub fn is_agent_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}
