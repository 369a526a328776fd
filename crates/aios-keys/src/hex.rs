//! Bytes as hexadecimal digits.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// The `N` bytes that `text` stands for, in digits as [`encode`] writes them: upper-case ones are refused, so that no
/// two texts stand for the same bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_to(text, &mut bytes)?;
    Some(bytes)
}

/// The bytes, however many, that `text` stands for.
pub fn decode_any(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    decode_to(text, &mut bytes)?;
    Some(bytes)
}

fn decode_to(text: &str, bytes: &mut [u8]) -> Option<()> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_lower_case_and_nothing_else_is_read() {
        assert_eq!(encode(&[0, 0x1f, 0xa0, 0xff]), "001fa0ff");
        assert_eq!(decode("001fa0ff"), Some([0, 0x1f, 0xa0, 0xff]));
        for wrong in ["", "001fa0f", "001fa0ff0", "001FA0FF", "001fa0f ", "+01fa0ff", "001fa0é"] {
            assert_eq!(decode::<4>(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_decoded_is_encoded_as_it_was(text in "[0-9a-fA-F]{8}") {
            if let Some(bytes) = decode::<4>(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
