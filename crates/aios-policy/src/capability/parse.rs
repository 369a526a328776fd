//! Reading capabilities, and saying where one is wrong.

use super::{Capability, MAX_BYTES, MAX_NAME_BYTES, Name, Symbol};

/// Why a text is no capability, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not a capability: at character {position}: {fault}", shown(text))]
pub struct CapabilityError {
    text: String,
    /// Place of the fault in characters, from 1; one past the end where something is missing.
    pub position: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Fewer than three parts.
    #[error("write namespace:action:resource, for example fs:read:/etc/hosts")]
    Parts,
    /// Neither a name nor `*`.
    #[error("a namespace or action is 1 to {MAX_NAME_BYTES} of a-z, 0-9, _ and -, or * alone")]
    Name,
    /// No resource.
    #[error("the resource is missing; ** stands for any")]
    Resource,
    /// A character that would make the capability look like another one where it is shown.
    #[error("control characters and marks of writing direction can't be shown")]
    Control,
    /// Three `*` or more.
    #[error("write * (within a segment) or ** (across /)")]
    Stars,
    /// A backslash before anything else than `*` and `\`.
    #[error("a backslash stands before * or \\")]
    Escape,
    /// In a path: `//`, or a `/` at the end.
    #[error("an empty segment: paths are normalised, with no / at the end")]
    EmptySegment,
    /// `.` or `..`
    #[error("\".\" and \"..\" are no segments: paths are normalised")]
    DotSegment,
    /// In the namespace `fs`: a resource that is no path.
    #[error("a path begins with /; ** alone stands for any")]
    RelativePath,
}

/// Reads `namespace:action:resource`.
pub(super) fn capability(text: &str) -> Result<Capability, CapabilityError> {
    let error = |offset: usize, fault| {
        let position = text[..offset].chars().count() + 1;
        CapabilityError { text: text.into(), position, fault }
    };
    if text.len() > MAX_BYTES {
        return Err(error(0, Fault::TooLong));
    }
    let first = text.find(':').ok_or_else(|| error(text.len(), Fault::Parts))?;
    let namespace = name(&text[..first]).map_err(|at| error(at, Fault::Name))?;
    let start = first + 1;
    let second = text[start..].find(':').ok_or_else(|| error(text.len(), Fault::Parts))? + start;
    let action = name(&text[start..second]).map_err(|at| error(start + at, Fault::Name))?;
    let start = second + 1;
    let resource = resource(&text[start..]).map_err(|(at, fault)| error(start + at, fault))?;
    let is_path = matches!(resource.first(), Some(Symbol::Char('/'))) || resource == [Symbol::Any];
    if !is_path && matches!(&namespace, Name::Is(name) if name == "fs") {
        return Err(error(start, Fault::RelativePath));
    }
    Ok(Capability { namespace, action, resource })
}

/// The capability whose parts are just these.
pub(super) fn exact(namespace: &str, action: &str, resource: &str) -> Result<Capability, CapabilityError> {
    let mut text = format!("{namespace}:{action}:");
    let mut start = 0;
    for part in [namespace, action] {
        // A `:` would move the borders of the parts, a `*` would stand for others.
        if let Some(at) = part.find([':', '*']) {
            let position = text[..start + at].chars().count() + 1;
            return Err(CapabilityError { text, position, fault: Fault::Name });
        }
        start += part.len() + 1;
    }
    for c in resource.chars() {
        if c == '*' || c == '\\' {
            text.push('\\');
        }
        text.push(c);
    }
    capability(&text)
}

/// A name, or the offset of the first character that can't be in one.
fn name(text: &str) -> Result<Name, usize> {
    if text == "*" {
        return Ok(Name::Any);
    }
    let wrong = text.bytes().position(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    match wrong {
        Some(at) => Err(at),
        None if text.is_empty() || text.len() > MAX_NAME_BYTES => Err(text.len().min(MAX_NAME_BYTES)),
        None => Ok(Name::Is(text.into())),
    }
}

/// The symbols of a resource, or the offset of what is wrong with it.
fn resource(text: &str) -> Result<Vec<Symbol>, (usize, Fault)> {
    if text.is_empty() {
        return Err((0, Fault::Resource));
    }
    let mut symbols = Vec::with_capacity(text.len());
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        symbols.push(match c {
            '*' if text[at..].starts_with("***") => return Err((at, Fault::Stars)),
            '*' => match rest.next_if(|(_, next)| *next == '*') {
                Some(_) => Symbol::Any,
                None => Symbol::Segment,
            },
            '\\' => match rest.next_if(|(_, next)| matches!(next, '*' | '\\')) {
                Some((_, literal)) => Symbol::Char(literal),
                None => return Err((at, Fault::Escape)),
            },
            c if c.is_control() || is_direction_mark(c) => return Err((at, Fault::Control)),
            c => Symbol::Char(c),
        });
    }
    segments(text)?;
    Ok(symbols)
}

/// No segment may be `.` or `..`, and in a path none may be empty but the first, and the other one of `/`.
fn segments(text: &str) -> Result<(), (usize, Fault)> {
    let (mut at, segments) = match text.strip_prefix('/') {
        Some("") => return Ok(()),
        Some(rest) => (1, rest),
        None => (0, text),
    };
    for segment in segments.split('/') {
        match segment {
            "" if text.starts_with('/') => return Err((at, Fault::EmptySegment)),
            "." | ".." => return Err((at, Fault::DotSegment)),
            _ => at += segment.len() + 1,
        }
    }
    Ok(())
}

/// Whether the character changes the order in which others are shown (Unicode's Bidi_Control).
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text for a message, with nothing in it that a terminal obeys.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    shown
}
