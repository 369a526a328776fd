//! What is in the ledger, for a terminal.

/// `text` without what a terminal takes for a command or writes backwards: agents and tools put into the ledger what they
/// like, and people decide by what they see of it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// At most `width` characters of `text`; an ellipsis says that there is more.
pub fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect()
}

fn is_plain(c: char) -> bool {
    let hidden = matches!(c,
        // Marks, embeddings and isolates of bidirectional text; joiners and other characters that nobody sees.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_turns_the_text_around_gets_through() {
        assert_eq!(
            plain("a\u{1b}[2Jb\u{9b}c\u{202e}d\u{200b}e\nf ä€😀"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f ä€😀"
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äö\u{2026}");
    }
}
