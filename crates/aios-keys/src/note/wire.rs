//! The parts of a note, and of a public key, as text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{NOTE_MAX, NoteError, SIGNATURES_MAX};

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// Longest name of a key, in bytes.
const NAME_MAX: usize = 128;

/// Which key a signature is of: not safe against collisions, only to find the key that checks it.
pub(super) type KeyId = [u8; 4];

/// A signature line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'n> {
    pub name: &'n str,
    pub id: KeyId,
    pub signature: Vec<u8>,
}

/// The id of the key `public` of type `kind` under `name`.
pub(super) fn key_id(name: &str, kind: &[u8], public: &[u8]) -> KeyId {
    let digest =
        Sha256::new().chain_update(name).chain_update(b"\n").chain_update(kind).chain_update(public).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Whether `name` can stand in a signature line. The format allows more; what people compare by eye should be plain.
pub(super) fn check_name(name: &str) -> Result<(), NoteError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
    if plain && (1..=NAME_MAX).contains(&name.len()) { Ok(()) } else { Err(NoteError::Name(name.to_owned())) }
}

/// Whether `text` can be signed.
pub(super) fn check_text(text: &str) -> Result<(), NoteError> {
    let control = |byte: u8| byte < 0x20 && byte != b'\n';
    if text.len() > NOTE_MAX || !text.ends_with('\n') || text.bytes().any(control) {
        return Err(NoteError::Text);
    }
    Ok(())
}

/// Adds a signature line to `note`.
pub(super) fn push_line(note: &mut String, name: &str, id: KeyId, signature: &[u8]) {
    note.push_str(DASH);
    note.push_str(name);
    note.push(' ');
    note.push_str(&STANDARD.encode([&id[..], signature].concat()));
    note.push('\n');
}

/// The text and the signatures of a note. Nothing is believed yet.
pub(super) fn split(note: &str) -> Result<(&str, Vec<Line<'_>>), NoteError> {
    if note.len() > NOTE_MAX {
        return Err(NoteError::Form("it is longer than 256 KiB"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Form("no empty line before signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    check_text(text).map_err(|_| NoteError::Form("its text has control characters"))?;
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form("no line's end after the last signature"))?;
    let mut lines = Vec::new();
    for line in signatures.split('\n') {
        if lines.len() == SIGNATURES_MAX {
            return Err(NoteError::Form("more than 64 signatures"));
        }
        lines.push(parse_line(line).ok_or(NoteError::Form("a line after the empty one is no signature"))?);
    }
    Ok((text, lines))
}

fn parse_line(line: &str) -> Option<Line<'_>> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(unfit) {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk()?;
    (!signature.is_empty()).then(|| Line { name, id: *id, signature: signature.to_vec() })
}

/// The public key `public` as the format writes it: `name+id+base64`.
pub(super) fn public_line(name: &str, kind: &[u8], public: &[u8]) -> String {
    let id = u32::from_be_bytes(key_id(name, kind, public));
    format!("{name}+{id:08x}+{}", STANDARD.encode([kind, public].concat()))
}

/// Name, and type and key together, of a public key.
pub(super) fn parse_public(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let parts: Option<(&str, &str, &str)> = (|| {
        let (name, rest) = line.split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        Some((name, id, key))
    })();
    let (name, id, key) = parts.ok_or(NoteError::PublicKey("a line is not of the form name+id+key"))?;
    check_name(name)?;
    let key = STANDARD.decode(key).map_err(|_| NoteError::PublicKey("its key is not base64"))?;
    let digest = Sha256::new().chain_update(name).chain_update(b"\n").chain_update(&key).finalize();
    if id != crate::hex::encode(&digest[..4]) {
        return Err(NoteError::PublicKey("its id does not belong to its name and key"));
    }
    Ok((name, key))
}
