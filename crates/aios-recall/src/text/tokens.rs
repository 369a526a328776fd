//! What of a text can be searched for.
//!
//! A term is a word in Unicode's sense, folded: compatibility forms, case, and the marks on Latin, Greek and Cyrillic
//! letters make no difference. Names that machines use are found whole and by their parts: `foo_bar`, `eth0`, `10.0.0.1`,
//! `/var/log/syslog`, `getUserName`, `E1234`. Scripts without spaces between words are cut into pairs of characters.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

/// Most bytes of a term. A longer word counts by its beginning, a longer name by its parts.
pub const MOST_TERM_BYTES: usize = 64;
/// Most terms of a text; what follows is not found.
pub const MOST_TERMS: usize = 8192;
/// Most different terms of a query; what follows does not count.
pub const MOST_QUERY_TERMS: usize = 64;

/// The terms of `text` in its order, as the index has them.
pub fn terms(text: &str) -> Vec<String> {
    let mut sink = Sink { terms: Vec::new() };
    let folded = fold(text);
    for chunk in folded.split(|char: char| char.is_whitespace() || char.is_control()) {
        if !sink.is_full() {
            sink.add_chunk(chunk);
        }
    }
    sink.terms
}

/// The terms of a text with how often each occurs.
pub(super) fn counts(text: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for term in terms(text) {
        *counts.entry(term).or_insert(0) += 1;
    }
    counts
}

/// The first different terms of a query, with how often each occurs.
pub(super) fn query_terms(query: &str) -> Vec<(String, u32)> {
    let mut counts: Vec<(String, u32)> = Vec::new();
    for term in terms(query) {
        match counts.iter().position(|(other, _)| *other == term) {
            Some(place) => counts[place].1 += 1,
            None if counts.len() < MOST_QUERY_TERMS => counts.push((term, 1)),
            None => {}
        }
    }
    counts
}

/// Compatibility forms and marks removed; case stays, as it tells where the parts of a name begin.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    // U+0300 to U+036F are the marks of Latin, Greek and Cyrillic; those of other scripts are vowels and stay.
    text.nfkd().filter(|char| !matches!(char, '\u{300}'..='\u{36f}')).nfc().collect()
}

/// Upper and then lower case: `ß` is `ss`, and both small sigmas are one.
fn lower(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Separates the fields of a path, an address or a setting.
fn is_outer_separator(char: char) -> bool {
    !is_word(char) && !is_inner_separator(char)
}

/// Separates the parts of a name.
fn is_inner_separator(char: char) -> bool {
    matches!(char, '.' | '_' | '-' | '\'' | '’' | '+')
}

/// Letters and digits, and the marks of scripts where these are part of a word.
fn is_word(char: char) -> bool {
    char.is_alphanumeric() || unicode_normalization::char::is_combining_mark(char)
}

/// Scripts that have no spaces between words: Han, Kana, and those of South-East Asia.
fn is_unspaced(char: char) -> bool {
    matches!(char,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

struct Sink {
    terms: Vec<String>,
}

impl Sink {
    fn is_full(&self) -> bool {
        self.terms.len() >= MOST_TERMS
    }

    /// Adds what is between two spaces: the whole, and what is between its outer separators.
    fn add_chunk(&mut self, chunk: &str) {
        let whole = chunk.trim_matches(|char| !is_word(char));
        if whole.contains(is_unspaced) {
            // There, spaces are between sentences: no name goes across what is none of its characters.
            return whole.split(|char| !is_word(char)).for_each(|word| self.add_unspaced(word));
        }
        let fields = whole.split(is_outer_separator).map(|field| field.trim_matches(|char| !is_word(char)));
        let fields: Vec<&str> = fields.filter(|field| !field.is_empty()).collect();
        // Brackets and quotation marks in the middle of a chunk are text, not a name.
        let is_name = !whole.contains(['"', '(', ')', '[', ']', '{', '}', '<', '>', '`']);
        if fields.len() > 1 && is_name {
            self.add_name(whole);
        }
        for field in fields {
            self.add_field(field);
        }
    }

    /// Adds a name such as `foo_bar`, and its parts.
    fn add_field(&mut self, field: &str) {
        let field = ["'s", "’s", "'S", "’S"].iter().find_map(|end| field.strip_suffix(end)).unwrap_or(field);
        let parts: Vec<&str> = field.split(is_inner_separator).filter(|part| !part.is_empty()).collect();
        let is_name = parts.len() > 1;
        if is_name {
            self.add_name(field);
        }
        for part in parts {
            // One letter or digit of a name says nothing alone.
            if !is_name || has_two(part) {
                self.add_word(part);
            }
            let pieces = pieces(part);
            if pieces.len() > 1 {
                pieces.into_iter().filter(|piece| has_two(piece)).for_each(|piece| self.add_word(piece));
            }
        }
    }

    /// Adds a word, by its beginning where it is long.
    fn add_word(&mut self, word: &str) {
        let mut term = lower(word);
        if term.len() > MOST_TERM_BYTES {
            term.truncate((0..=MOST_TERM_BYTES).rev().find(|end| term.is_char_boundary(*end)).unwrap_or(0));
        }
        self.push(term);
    }

    /// Adds a name where it is not too long; its parts are added anyway.
    fn add_name(&mut self, name: &str) {
        let term = lower(name);
        if term.len() <= MOST_TERM_BYTES {
            self.push(term);
        }
    }

    /// Adds pairs of characters of scripts without spaces, and what is between them as words.
    fn add_unspaced(&mut self, word: &str) {
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let kind = is_unspaced(first);
            let end = rest.find(|char| is_unspaced(char) != kind).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            rest = after;
            if !kind {
                self.add_field(run);
                continue;
            }
            let ends: Vec<usize> = run.char_indices().map(|(at, _)| at).chain([run.len()]).collect();
            match ends.len() {
                2 => self.push(run.to_owned()),
                _ => ends.windows(3).for_each(|pair| self.push(run[pair[0]..pair[2]].to_owned())),
            }
        }
    }

    fn push(&mut self, term: String) {
        if !self.is_full() && !term.is_empty() {
            self.terms.push(term);
        }
    }
}

fn has_two(part: &str) -> bool {
    part.chars().nth(1).is_some()
}

/// The pieces of a word: between letters and digits, before a capital that follows a small letter, and before the last of
/// several capitals that a small letter follows (`HTTPServer2` is `HTTP`, `Server`, `2`).
fn pieces(word: &str) -> Vec<&str> {
    let chars: Vec<(usize, char)> = word.char_indices().collect();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in 1..chars.len() {
        let (before, (at, char)) = (chars[place - 1].1, chars[place]);
        let next = chars.get(place + 1).map(|(_, char)| *char);
        let is_border = before.is_numeric() != char.is_numeric()
            || (before.is_lowercase() && char.is_uppercase())
            || (before.is_uppercase() && char.is_uppercase() && next.is_some_and(char::is_lowercase));
        if is_border {
            pieces.push(&word[start..at]);
            start = at;
        }
    }
    pieces.push(&word[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(text: &str, expected: &[&str]) {
        let mut found = terms(text);
        let mut expected: Vec<_> = expected.iter().map(|term| (*term).to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_are_found_whole_and_by_their_parts() {
        has("foo_bar", &["foo_bar", "foo", "bar"]);
        has("eth0", &["eth0", "eth"]);
        has("E1234", &["e1234", "1234"]);
        has("10.0.0.1", &["10.0.0.1", "10"]);
        has("10.0.0.1:8080,", &["10.0.0.1:8080", "10.0.0.1", "10", "8080"]);
        has("getUserName()", &["getusername", "get", "user", "name"]);
        has("HTTPServer2", &["httpserver2", "http", "server"]);
        has("fe80::1", &["fe80::1", "fe80", "fe", "80", "1"]);
        has("a@b.org", &["a@b.org", "a", "b.org", "org"]);
        has(
            "/var/log/nginx/error.log",
            &["var/log/nginx/error.log", "var", "log", "nginx", "error.log", "error", "log"],
        );
        has("sshd[812]:", &["sshd", "812"]);
        has("level=warn", &["level=warn", "level", "warn"]);
        has("the nginx's (own) disk.", &["the", "nginx", "own", "disk"]);
    }

    #[test]
    fn words_are_folded() {
        has("CAFÉ Straße ΣΊΣΥΦΟΣ ﬁle Ｗｉｄｅ", &["cafe", "strasse", "σισυφοσ", "file", "wide"]);
        has("йод हिन्दी", &["иод", "हिन्दी"]);
        has("don't", &["don't", "don"]);
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_pairs() {
        has("東京都。大 日本", &["東京", "京都", "大", "日本"]);
        has("日本語eth0です", &["日本", "本語", "eth0", "eth", "です"]);
    }

    #[test]
    fn long_words_count_by_their_beginning_and_long_names_by_their_parts() {
        has(&"ä".repeat(100), &[&"a".repeat(64)]);
        has(&format!("{}.{}", "a".repeat(40), "b".repeat(40)), &[&"a".repeat(40), &"b".repeat(40)]);
        assert_eq!(terms(&"word ".repeat(20_000)).len(), MOST_TERMS);
    }

    proptest! {
        #[test]
        fn terms_are_short_and_hold_no_zero_byte_and_case_makes_no_difference(text in "\\PC{0,80}") {
            for term in terms(&text) {
                prop_assert!((1..=MOST_TERM_BYTES).contains(&term.len()));
                prop_assert!(!term.contains(['\0', ' ']));
            }
        }

        #[test]
        fn a_query_of_a_text_s_own_words_finds_all_its_terms(text in "[a-zA-Z0-9_./: -]{0,60}") {
            let counted = counts(&text);
            let asked = query_terms(&text);
            prop_assert!(asked.iter().all(|(term, times)| counted[term] == *times));
            prop_assert_eq!(asked.len(), counted.len().min(MOST_QUERY_TERMS));
        }
    }
}
