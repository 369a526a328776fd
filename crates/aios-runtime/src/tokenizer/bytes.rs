//! What tokens stand for.

use std::collections::HashMap;

use super::{TYPE_BYTE, TYPE_NORMAL, TYPE_UNDEFINED, TYPE_USER_DEFINED};

/// SentencePiece's sign for a space.
const SPACE: char = '\u{2581}';

/// The bytes of every token; none for those that have no text, such as control tokens.
#[derive(Default)]
pub(super) struct TokenBytes {
    /// `bytes[starts[token]..starts[token + 1]]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl TokenBytes {
    /// Undoes the byte-level alphabet, in which every byte is written as a printable character.
    pub(super) fn of_byte_level(tokens: &[String], types: &[i32]) -> Self {
        let alphabet = byte_alphabet();
        Self::new(tokens, types, |token, kind, bytes| {
            if kind == TYPE_USER_DEFINED {
                return bytes.extend_from_slice(token.as_bytes());
            }
            for character in token.chars() {
                match alphabet.get(&character) {
                    Some(&byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        })
    }

    /// Undoes SentencePiece's writing: U+2581 for a space, `<0x41>` for a byte.
    pub(super) fn of_sentencepiece(tokens: &[String], types: &[i32]) -> Self {
        Self::new(tokens, types, |token, _, bytes| {
            for (index, part) in token.split(SPACE).enumerate() {
                if index > 0 {
                    bytes.push(b' ');
                }
                bytes.extend_from_slice(part.as_bytes());
            }
        })
    }

    fn new(tokens: &[String], types: &[i32], write: impl Fn(&str, i32, &mut Vec<u8>)) -> Self {
        let mut of = Self { bytes: Vec::new(), starts: Vec::with_capacity(tokens.len() + 1) };
        for (token, &kind) in tokens.iter().zip(types) {
            of.starts.push(of.bytes.len() as u32);
            match kind {
                TYPE_BYTE => of.bytes.extend(byte(token)),
                TYPE_NORMAL | TYPE_UNDEFINED | TYPE_USER_DEFINED => write(token, kind, &mut of.bytes),
                _ => {}
            }
        }
        of.starts.push(of.bytes.len() as u32);
        of
    }

    /// Number of tokens.
    pub(super) fn tokens(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of `token`; none beyond the vocabulary.
    pub(super) fn of(&self, token: u32) -> &[u8] {
        let token = token as usize;
        match (self.starts.get(token), self.starts.get(token + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }
}

/// The byte that a token `<0x41>` names.
pub(super) fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for the characters from U+0100 on, in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                return (char::from(byte), byte);
            }
            let character = char::from_u32(next).expect("invariant: U+0100 to U+0143 are characters");
            next += 1;
            (character, byte)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_byte_alphabet_is_the_one_that_encoding_uses() {
        let ours = super::byte_alphabet();
        assert_eq!(ours.len(), 256);
        let theirs = ByteLevel::alphabet();
        assert!(ours.keys().all(|character| theirs.contains(character)));
        assert_eq!(ours[&'Ġ'], b' ');
        assert_eq!(ours[&'Ċ'], b'\n');
    }

    #[test]
    fn only_two_hexadecimal_digits_name_a_byte() {
        assert_eq!(super::byte("<0x0A>"), Some(10));
        assert_eq!(super::byte("<0xff>"), Some(255));
        for other in ["<0x>", "<0x1>", "<0x100>", "<0x+1>", "0x0A", "<0xG0>", "<0xé>"] {
            assert_eq!(super::byte(other), None, "{other}");
        }
    }
}
