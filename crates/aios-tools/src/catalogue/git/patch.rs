//! Differences up to a limit.

use crate::error::ToolError;

/// Text of differences that does not become longer than asked for.
pub(super) struct Patch {
    /// The text.
    pub text: String,
    /// Whether something was left out.
    pub truncated: bool,
    left: usize,
}

impl Patch {
    /// Nothing yet, `limit` characters at most.
    pub(super) fn new(limit: usize) -> Self {
        Patch { text: String::new(), truncated: false, left: limit }
    }

    /// Adds a file's difference; `false` where it had no room, and none has room any more.
    pub(super) fn add(&mut self, difference: impl FnOnce() -> Result<String, ToolError>) -> Result<bool, ToolError> {
        if self.left == 0 {
            self.truncated = true;
            return Ok(false);
        }
        let difference = difference()?;
        match difference.char_indices().nth(self.left) {
            Some((end, _)) => {
                self.text.push_str(&difference[..end]);
                self.left = 0;
                self.truncated = true;
            }
            None => {
                self.left -= difference.chars().count();
                self.text.push_str(&difference);
            }
        }
        Ok(!self.truncated)
    }
}
