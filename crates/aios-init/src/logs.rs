//! What units write: a bounded ring of lines per unit, and the cutting of bytes into lines.

use std::collections::VecDeque;
use std::time::Duration;

/// Text kept per unit, in bytes. The oldest lines go first.
pub const RING_BYTES: usize = 256 * 1024;
/// A longer line is cut into pieces of this many bytes.
pub const LINE_BYTES: usize = 4096;
/// What a line costs beside its text, so that a flood of empty lines is bounded too.
const LINE_OVERHEAD: usize = 48;

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the kernel started.
    pub at: Duration,
    pub text: String,
}

/// The last lines of a unit. Each line ever written has a number, so that readers keep a place of their own.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Number of the oldest line kept.
    first: u64,
}

/// What a reader at some place finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The line, at the reader's place.
    Line(&'a Line),
    /// So many lines were pushed out before the reader came; it goes on with the oldest kept.
    Lost(u64),
    /// Nothing new.
    End,
}

impl Ring {
    pub fn push(&mut self, line: Line) {
        self.bytes += line.text.len() + LINE_OVERHEAD;
        self.lines.push_back(line);
        while self.bytes > RING_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len() + LINE_OVERHEAD;
            self.first += 1;
        }
    }

    /// Where a reader of the last `lines` lines begins; of all that are kept for `None`.
    pub fn begin(&self, lines: Option<usize>) -> u64 {
        let skipped = lines.map_or(0, |lines| self.lines.len().saturating_sub(lines));
        self.first + skipped as u64
    }

    pub fn read(&self, place: u64) -> Found<'_> {
        if place < self.first {
            return Found::Lost(self.first - place);
        }
        usize::try_from(place - self.first).ok().and_then(|at| self.lines.get(at)).map_or(Found::End, Found::Line)
    }

    /// The number that the next line will have.
    pub fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Cutter {
    partial: Vec<u8>,
}

impl Cutter {
    /// Takes in bytes and hands each complete line to `emit`, without its end. What is not UTF-8 becomes U+FFFD.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            self.partial.extend_from_slice(text);
            while self.partial.len() > LINE_BYTES {
                let rest = self.partial.split_off(char_boundary(&self.partial, LINE_BYTES));
                emit(take_text(&mut self.partial));
                self.partial = rest;
            }
            if complete {
                emit(take_text(&mut self.partial));
            }
        }
    }

    /// Hands over what came after the last line's end, when the stream ends.
    pub fn finish(&mut self, mut emit: impl FnMut(String)) {
        if !self.partial.is_empty() {
            emit(take_text(&mut self.partial));
        }
    }
}

fn take_text(bytes: &mut Vec<u8>) -> String {
    let text = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = String::from_utf8_lossy(text).into_owned();
    bytes.clear();
    text
}

/// The last place at or before `at` that does not cut a UTF-8 character; `at` itself where the bytes are no UTF-8.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |place: &usize| bytes.get(*place).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|place| !continues(place)).filter(|place| *place > 0).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut cutter = Cutter::default();
        for chunk in chunks {
            cutter.feed(chunk, |line| lines.push(line));
        }
        cutter.finish(|line| lines.push(line));
        lines
    }

    fn line(text: &str) -> Line {
        Line { at: Duration::ZERO, text: text.into() }
    }

    #[test]
    fn lines_are_cut_across_chunks() {
        assert_eq!(cut(&[b"one\ntw", b"o\r\n\nthree"]), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_keep_characters_whole() {
        let long = "ä".repeat(LINE_BYTES);
        let pieces = cut(&[long.as_bytes(), b"\n"]);
        assert!(pieces.iter().all(|piece| piece.len() <= LINE_BYTES && !piece.contains('\u{FFFD}')));
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(cut(&[b"a\xFFb\n"]), ["a\u{FFFD}b"]);
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_tells_the_reader_how_many() {
        let mut ring = Ring::default();
        let begin = ring.begin(None);
        for number in 0..10_000 {
            ring.push(line(&format!("line {number}")));
        }
        let Found::Lost(lost) = ring.read(begin) else { panic!("nothing was lost") };
        assert_eq!(ring.read(begin + lost), Found::Line(&line(&format!("line {lost}"))));
        assert_eq!(ring.read(ring.end()), Found::End);
        assert_eq!(ring.read(ring.begin(Some(1))), Found::Line(&line("line 9999")));
        assert_eq!(ring.read(ring.begin(Some(0))), Found::End);
    }

    #[test]
    fn empty_lines_fill_the_ring_too() {
        let mut ring = Ring::default();
        for _ in 0..100_000 {
            ring.push(line(""));
        }
        assert!(ring.lines.len() <= RING_BYTES / LINE_OVERHEAD);
    }

    proptest! {
        #[test]
        fn how_bytes_are_chunked_does_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..20_000), chunk in 1usize..5_000) {
            let whole = cut(&[&bytes]);
            let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
            prop_assert_eq!(cut(&chunks), whole);
        }
    }
}
