//! Tokens that are found in text by their spelling, before any merging.

use std::collections::HashMap;

/// A set of token spellings.
pub(super) struct Markers {
    /// By first character; longest spelling first.
    by_first: HashMap<char, Vec<(String, u32)>>,
}

/// A part of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// Text without a marker.
    Text(&'a str),
    /// A marker's token.
    Marker(u32),
}

impl Markers {
    pub(super) fn new(markers: impl Iterator<Item = (String, u32)>) -> Self {
        let mut by_first: HashMap<char, Vec<(String, u32)>> = HashMap::new();
        for (text, token) in markers {
            if let Some(first) = text.chars().next() {
                by_first.entry(first).or_default().push((text, token));
            }
        }
        for spellings in by_first.values_mut() {
            spellings.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        Self { by_first }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.by_first.values().flatten().map(|(text, _)| text.as_str())
    }

    pub(super) fn text(&self, token: u32) -> Option<&str> {
        let mut markers = self.by_first.values().flatten();
        markers.find(|(_, id)| *id == token).map(|(text, _)| text.as_str())
    }

    /// Cuts `text` at its markers, leftmost and longest first. No marker begins right after a `guard` character.
    pub(super) fn split<'a>(&self, text: &'a str, guard: Option<char>) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut plain_from = 0;
        let mut marker_end = 0;
        let mut guarded = false;
        for (at, character) in text.char_indices() {
            if at < marker_end {
                continue;
            }
            let found = if guarded { None } else { self.at(&text[at..], character) };
            guarded = Some(character) == guard;
            if let Some((spelling, token)) = found {
                if plain_from < at {
                    pieces.push(Piece::Text(&text[plain_from..at]));
                }
                pieces.push(Piece::Marker(*token));
                marker_end = at + spelling.len();
                plain_from = marker_end;
            }
        }
        if plain_from < text.len() {
            pieces.push(Piece::Text(&text[plain_from..]));
        }
        pieces
    }

    fn at(&self, rest: &str, first: char) -> Option<&(String, u32)> {
        self.by_first.get(&first)?.iter().find(|(spelling, _)| rest.starts_with(spelling.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers() -> Markers {
        Markers::new([("<a>".to_owned(), 1), ("<a>b".to_owned(), 2), ("é".to_owned(), 3)].into_iter())
    }

    #[test]
    fn the_leftmost_and_longest_marker_is_taken() {
        let pieces = markers().split("x<a>b<a>éy", None);
        assert_eq!(pieces, [Piece::Text("x"), Piece::Marker(2), Piece::Marker(1), Piece::Marker(3), Piece::Text("y")]);
    }

    #[test]
    fn a_guard_keeps_the_next_character_from_beginning_a_marker() {
        let pieces = markers().split("|<a>|é<a>", Some('|'));
        assert_eq!(pieces, [Piece::Text("|<a>|é"), Piece::Marker(1)]);
    }

    #[test]
    fn a_guard_inside_a_marker_breaks_it() {
        assert_eq!(markers().split("<|a>", Some('|')), [Piece::Text("<|a>")]);
    }
}
