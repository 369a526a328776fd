//! Finds the calls in an answer while it arrives.

use super::Syntax;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text for people.
    Text(String),
    /// A call of this tool begins.
    Call(String),
    /// The next piece of its arguments, as JSON text.
    Arguments(String),
}

/// Takes an answer apart.
#[derive(Debug)]
pub struct CallReader {
    syntax: Syntax,
    state: State,
    /// What has come and belongs to nothing yet.
    held: String,
    calls: usize,
}

#[derive(Debug)]
enum State {
    Text,
    Name,
    Arguments(Depth),
    Tail,
}

/// Where in a JSON value the text stands.
#[derive(Debug, Default)]
struct Depth {
    brackets: usize,
    in_string: bool,
    escaped: bool,
}

impl CallReader {
    /// A reader at the beginning of an answer.
    pub fn new(syntax: Syntax) -> Self {
        Self { syntax, state: State::Text, held: String::new(), calls: 0 }
    }

    /// Calls that were begun so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Takes in the next piece of the answer.
    pub fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// Returns what was held back, as nothing more comes.
    pub fn finish(&mut self) -> Option<Part> {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Text if self.calls == 0 && !held.is_empty() => Some(Part::Text(held)),
            _ => None,
        }
    }

    /// One step; says whether another may follow.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match &mut self.state {
            State::Text => self.text(parts),
            State::Name => {
                let Some(end) = self.held.find(self.syntax.middle) else { return false };
                parts.push(Part::Call(self.held[..end].to_owned()));
                self.held.drain(..end + self.syntax.middle.len());
                self.calls += 1;
                self.state = State::Arguments(Depth::default());
                true
            }
            State::Arguments(depth) => {
                let end = self.held.bytes().position(|byte| depth.ends_with(byte)).map(|at| at + 1);
                let arguments: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
                if !arguments.is_empty() {
                    parts.push(Part::Arguments(arguments));
                }
                if end.is_some() {
                    self.state = State::Tail;
                }
                end.is_some()
            }
            State::Tail => {
                if self.held.len() < self.syntax.tail.len() {
                    return false;
                }
                // The form of the answer leaves no other text here.
                self.held.drain(..self.syntax.tail.len());
                self.state = State::Text;
                true
            }
        }
    }

    fn text(&mut self, parts: &mut Vec<Part>) -> bool {
        let head = if self.calls == 0 { self.syntax.first } else { self.syntax.next };
        let found = self.held.find(head);
        let end = found.unwrap_or_else(|| {
            let begins = |at: &usize| head.starts_with(&self.held[*at..]);
            self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len())
        });
        let text: String = self.held.drain(..end).collect();
        // Between calls there are separators alone.
        if self.calls == 0 && !text.is_empty() {
            parts.push(Part::Text(text));
        }
        if found.is_some() {
            self.held.drain(..head.len());
            self.state = State::Name;
        }
        found.is_some()
    }
}

impl Depth {
    /// Goes on by a byte; says whether the value, an object, ends with it.
    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.brackets += 1,
            b'}' | b']' => {
                self.brackets = self.brackets.saturating_sub(1);
                return self.brackets == 0;
            }
            _ => {}
        }
        false
    }
}
