//! Where a text may end early.

/// What stands for the rest of a text.
pub(super) const MARK: &str = " [cut]";

/// Places where `text` may be cut, in bytes, rising, the whole text not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// After a line or a sentence.
    pub sentences: Vec<usize>,
    /// After a word: for a text whose sentences are too long.
    pub words: Vec<usize>,
}

impl Ends {
    /// The places in the first `most` bytes of `text`.
    pub fn of(text: &str, most: usize) -> Ends {
        let mut ends = Ends::default();
        let mut before: Option<(usize, char)> = None;
        for (at, char) in text.char_indices() {
            if at > most {
                break;
            }
            // The place is before the white space, so that none is kept at the end.
            if let Some((_, last)) = before
                && char.is_whitespace()
                && !last.is_whitespace()
            {
                let is_sentence = char == '\n' || matches!(last, '.' | '!' | '?' | ';');
                if is_sentence { ends.sentences.push(at) } else { ends.words.push(at) }
            } else if let Some((_, last)) = before
                && matches!(last, '。' | '！' | '？' | '；')
            {
                ends.sentences.push(at);
            }
            before = Some((at, char));
        }
        ends
    }

    /// The last place that `fits`, at the end of a sentence unless that keeps less than half of what a word's end keeps.
    pub fn last_that(&self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        // A place fits where all before it do; where a counter has it otherwise, the whole context is counted anyway.
        let last = |places: &[usize]| places.partition_point(|place| fits(*place)).checked_sub(1).map(|at| places[at]);
        let sentence = last(&self.sentences);
        let word = last(&self.words);
        match (sentence, word) {
            (Some(sentence), Some(word)) if sentence < word / 2 => Some(word),
            (Some(sentence), _) => Some(sentence),
            (None, word) => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_after_sentences_and_lines() {
        let text = "One is here. Two is\nthree! 四です。五 10.0.0.1";
        let ends = Ends::of(text, usize::MAX);
        let parts: Vec<_> = ends.sentences.iter().map(|end| &text[..*end]).collect();
        assert_eq!(
            parts,
            [
                "One is here.",
                "One is here. Two is",
                "One is here. Two is\nthree!",
                "One is here. Two is\nthree! 四です。"
            ]
        );
    }

    #[test]
    fn a_long_sentence_ends_after_a_word() {
        let text = format!("Short. {}", "word ".repeat(50));
        let ends = Ends::of(&text, usize::MAX);
        let place = ends.last_that(|place| place <= 100).unwrap();
        assert!((95..=100).contains(&place), "{place}");
        assert_eq!(ends.last_that(|place| place <= 10), Some(6));
        assert_eq!(ends.last_that(|_| false), None);
    }
}
