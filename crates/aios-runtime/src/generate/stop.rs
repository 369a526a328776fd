//! Finding stop sequences in text that arrives in pieces.

/// Passes text on until a stop sequence comes up, and never a part of one.
#[derive(Debug)]
pub(super) struct StopMatcher {
    sequences: Vec<String>,
    /// Text that may be the beginning of a stop sequence.
    held: String,
    stopped: bool,
}

impl StopMatcher {
    pub(super) fn new(sequences: &[String]) -> Self {
        let sequences = sequences.iter().filter(|sequence| !sequence.is_empty()).cloned().collect();
        Self { sequences, held: String::new(), stopped: false }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes in `text` and returns what can be passed on.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        let first = self.sequences.iter().filter_map(|sequence| self.held.find(sequence.as_str())).min();
        if let Some(start) = first {
            self.stopped = true;
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let keep_from = self.held.char_indices().map(|(at, _)| at).find(|&at| {
            let tail = &self.held[at..];
            self.sequences.iter().any(|sequence| sequence.starts_with(tail))
        });
        let tail = self.held.split_off(keep_from.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, tail)
    }

    /// Returns what was held back, as nothing more comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out in total, and whether it stopped.
    fn run(sequences: &[&str], pieces: &[&str]) -> (String, bool) {
        let sequences: Vec<String> = sequences.iter().map(|&sequence| sequence.to_owned()).collect();
        let mut matcher = StopMatcher::new(&sequences);
        let mut out: String = pieces.iter().map(|piece| matcher.push(piece)).collect();
        out.push_str(&matcher.finish());
        (out, matcher.is_stopped())
    }

    #[test]
    fn a_sequence_across_pieces_is_never_passed_on() {
        assert_eq!(run(&["END"], &["abc E", "N", "D more"]), ("abc ".to_owned(), true));
    }

    #[test]
    fn text_that_only_looked_like_a_stop_sequence_is_passed_on() {
        assert_eq!(run(&["END"], &["EN", "EEN", "X"]), ("ENEENX".to_owned(), false));
    }

    #[test]
    fn the_earliest_of_several_sequences_wins() {
        assert_eq!(run(&["cd", "b"], &["abcd"]), ("a".to_owned(), true));
    }

    #[test]
    fn text_held_back_comes_out_at_the_end() {
        assert_eq!(run(&["\n\n"], &["line\n"]), ("line\n".to_owned(), false));
    }

    #[test]
    fn an_empty_sequence_stops_nothing() {
        assert_eq!(run(&[""], &["abc"]), ("abc".to_owned(), false));
    }

    proptest! {
        #[test]
        fn any_cutting_gives_what_a_search_in_the_whole_text_gives(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{1,4}", 0..3),
            cut in 1usize..5,
        ) {
            let characters: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (out, stopped) = run(&stops, &pieces);
            // The piece in which the first sequence is completed decides; before it, the earliest start wins.
            match stops.iter().filter_map(|stop| text.find(stop)).min() {
                None => prop_assert_eq!((out.as_str(), stopped), (text.as_str(), false)),
                Some(_) => {
                    prop_assert!(stopped);
                    prop_assert!(text.starts_with(&out));
                    prop_assert!(stops.iter().all(|stop| !out.contains(stop)));
                    prop_assert!(stops.iter().any(|stop| text[out.len()..].starts_with(stop)));
                }
            }
        }
    }
}
