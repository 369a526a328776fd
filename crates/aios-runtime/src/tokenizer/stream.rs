//! Tokens to text while they arrive.

use super::Tokenizer;

/// Collects tokens' bytes and hands them out as whole characters.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    /// The beginning of a character whose other bytes have not come yet; at most 3 bytes.
    pending: Vec<u8>,
    /// Whether the first byte is left out where it is a space.
    skips_space: bool,
}

impl StreamDecoder {
    /// For the text behind `token`, or at the beginning of all.
    pub fn behind(tokenizer: &Tokenizer, token: Option<u32>) -> Self {
        Self { pending: Vec::new(), skips_space: tokenizer.begins_with_space(token) }
    }

    /// Appends to `text` what `token` completes.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32, text: &mut String) {
        self.push_bytes(tokenizer.token_bytes(token), text);
    }

    /// Appends a replacement character for a beginning that never found its end.
    pub fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn push_bytes(&mut self, bytes: &[u8], text: &mut String) {
        let own = match bytes {
            [b' ', own @ ..] if self.skips_space => own,
            bytes => bytes,
        };
        self.skips_space &= bytes.is_empty();
        self.pending.extend_from_slice(own);
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            // A chunk at the very end that is invalid only for want of more bytes may still become a character.
            let unfinished = done + invalid.len() == self.pending.len()
                && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if unfinished {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.pending.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = StreamDecoder::default();
        let mut out: Vec<String> = chunks
            .iter()
            .map(|chunk| {
                let mut text = String::new();
                decoder.push_bytes(chunk, &mut text);
                text
            })
            .collect();
        let mut rest = String::new();
        decoder.finish(&mut rest);
        out.push(rest);
        out
    }

    #[test]
    fn a_character_cut_in_two_comes_out_whole() {
        assert_eq!(decode(&[b"a\xF0\x9F", b"\x98", b"\x80b"]), ["a", "", "😀b", ""]);
    }

    #[test]
    fn only_the_first_space_is_left_out() {
        let mut decoder = StreamDecoder { skips_space: true, ..StreamDecoder::default() };
        let mut text = String::new();
        for bytes in [&b""[..], b" ", b" a", b" b"] {
            decoder.push_bytes(bytes, &mut text);
        }
        assert_eq!(text, " a b");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_at_once() {
        assert_eq!(decode(&[b"a\xFFb", b"\xC3", b"("]), ["a\u{FFFD}b", "", "\u{FFFD}(", ""]);
    }

    #[test]
    fn an_unfinished_character_at_the_end_is_replaced() {
        assert_eq!(decode(&[b"\xE2\x82"]), ["", "\u{FFFD}"]);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_text(bytes: Vec<u8>, cut in 1usize..7) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(decode(&chunks).concat(), String::from_utf8_lossy(&bytes));
        }
    }
}
