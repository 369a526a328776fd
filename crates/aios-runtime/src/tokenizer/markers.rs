//! Tokens that are found in text by their spelling, before any merging.

use std::collections::HashMap;

/// A set of token spellings; some models have thousands.
#[derive(Debug)]
pub(crate) struct Markers {
    /// In order of the spelling.
    spellings: Vec<(String, u32)>,
    /// Lengths of the spellings that begin with a character, in bytes, the longest first.
    lengths: HashMap<char, Vec<usize>>,
    /// Places in `spellings` in order of the token.
    by_token: Vec<u32>,
}

/// A part of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'a> {
    /// Text without a marker.
    Text(&'a str),
    /// A marker's token.
    Marker(u32),
}

impl Markers {
    /// Empty spellings are left out; of equal ones the first counts.
    pub(crate) fn new(markers: impl Iterator<Item = (String, u32)>) -> Self {
        let mut spellings: Vec<(String, u32)> = markers.filter(|(text, _)| !text.is_empty()).collect();
        spellings.sort_by(|a, b| a.0.cmp(&b.0));
        spellings.dedup_by(|next, first| next.0 == first.0);
        let mut lengths: HashMap<char, Vec<usize>> = HashMap::new();
        for (text, _) in &spellings {
            let of_first = lengths.entry(text.chars().next().unwrap_or_default()).or_default();
            if !of_first.contains(&text.len()) {
                of_first.push(text.len());
            }
        }
        lengths.values_mut().for_each(|lengths| lengths.sort_by_key(|&length| std::cmp::Reverse(length)));
        let mut by_token: Vec<u32> = (0..spellings.len() as u32).collect();
        by_token.sort_by_key(|&place| spellings[place as usize].1);
        Self { spellings, lengths, by_token }
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.spellings.iter().map(|(text, _)| text.as_str())
    }

    /// The `index`-th of [`Markers::texts`].
    pub(crate) fn spelling(&self, index: usize) -> &str {
        &self.spellings[index].0
    }

    pub(crate) fn text(&self, token: u32) -> Option<&str> {
        let token_at = |place: &u32| self.spellings[*place as usize].1;
        let at = self.by_token.binary_search_by_key(&token, token_at).ok()?;
        Some(&self.spellings[self.by_token[at] as usize].0)
    }

    /// Whether a marker begins with all of `text`.
    pub(crate) fn any_begins_with(&self, text: &str) -> bool {
        let at = self.spellings.partition_point(|(spelling, _)| spelling.as_str() < text);
        self.spellings.get(at).is_some_and(|(spelling, _)| spelling.starts_with(text))
    }

    /// Whether `text` begins with a marker.
    pub(crate) fn begins(&self, text: &str) -> bool {
        text.chars().next().is_some_and(|first| self.at(text, first).is_some())
    }

    /// Cuts `text` at its markers, leftmost and longest first. No marker begins right after a `guard` character.
    pub(crate) fn split<'a>(&self, text: &'a str, guard: Option<char>) -> Vec<Piece<'a>> {
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
                pieces.push(Piece::Marker(token));
                marker_end = at + spelling.len();
                plain_from = marker_end;
            }
        }
        if plain_from < text.len() {
            pieces.push(Piece::Text(&text[plain_from..]));
        }
        pieces
    }

    /// The longest marker that `rest` begins with.
    fn at(&self, rest: &str, first: char) -> Option<(&str, u32)> {
        self.lengths.get(&first)?.iter().find_map(|&length| {
            let text = rest.get(..length)?;
            let at = self.spellings.binary_search_by(|(spelling, _)| spelling.as_str().cmp(text)).ok()?;
            let (spelling, token) = &self.spellings[at];
            Some((spelling.as_str(), *token))
        })
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
    fn markers_are_found_by_token_and_by_their_beginning() {
        let markers = markers();
        assert_eq!((markers.text(2), markers.text(3), markers.text(9)), (Some("<a>b"), Some("é"), None));
        assert!(markers.any_begins_with("<a") && markers.any_begins_with("<a>b") && !markers.any_begins_with("<a>c"));
        assert!(markers.begins("<a>x") && !markers.begins("<a") && !markers.begins(""));
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
