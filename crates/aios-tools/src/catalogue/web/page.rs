//! Text of what servers send.

/// Longest name of a character reference: `&thetasym;`.
const REFERENCE_MAX: usize = 10;

/// Contents of these are no text of the page.
const HIDDEN: [&str; 7] = ["script", "style", "noscript", "template", "svg", "textarea", "select"];
/// These begin a new line.
const BLOCKS: [&str; 27] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tr",
    "ul",
];

/// A page of HTML as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// What it calls itself.
    pub title: String,
    /// What a reader sees, a line for each block.
    pub text: String,
}

/// Bytes as text: Latin-1 where the content type says so, else UTF-8 with bad bytes replaced.
pub(super) fn decode(bytes: &[u8], content_type: &str) -> String {
    let latin = ["iso-8859-1", "iso-8859-15", "windows-1252", "latin1"];
    if latin.iter().any(|name| content_type.contains(name)) {
        return bytes.iter().copied().map(char::from).collect();
    }
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a content type says that the content is text.
pub(super) fn is_text(content_type: &str) -> bool {
    content_type.is_empty()
        || content_type.starts_with("text/")
        || ["json", "xml", "javascript", "yaml", "toml", "x-www-form-urlencoded"]
            .iter()
            .any(|kind| content_type.ends_with(kind))
}

impl Page {
    /// Reads HTML. Whatever is given, it takes one pass over it.
    pub(super) fn of(html: &str) -> Page {
        let mut page = Page::default();
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            add(&mut page.text, &rest[..at]);
            rest = &rest[at..];
            if let Some(comment) = rest.strip_prefix("<!--") {
                rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
                continue;
            }
            if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
                page.text.push('<');
                rest = &rest[1..];
                continue;
            }
            let end = rest.find('>').map_or(rest.len(), |end| end + 1);
            let tag = rest[1..end].trim_end_matches('>');
            rest = page.tag(tag, &rest[end..]);
        }
        add(&mut page.text, rest);
        page.text.truncate(page.text.trim_end().len());
        page
    }

    /// Takes a tag, and what belongs to it of what follows; returns the rest.
    fn tag<'a>(&mut self, tag: &str, rest: &'a str) -> &'a str {
        let inner = tag.strip_prefix('/').unwrap_or(tag);
        let name = inner.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase();
        let opens = !tag.starts_with('/') && !tag.ends_with('/');
        match name.as_str() {
            "title" if opens && self.title.is_empty() => {
                let (title, rest) = until_end_of(&name, rest);
                add(&mut self.title, title);
                return rest;
            }
            hidden if opens && HIDDEN.contains(&hidden) => return until_end_of(&name, rest).1,
            "li" if opens => {
                new_line(&mut self.text);
                self.text.push_str("- ");
            }
            "td" | "th" if opens => add(&mut self.text, " "),
            block if block == "li" || BLOCKS.contains(&block) => new_line(&mut self.text),
            _ => {}
        }
        rest
    }
}

/// What lies before `</name>`, and what follows it.
fn until_end_of<'a>(name: &str, text: &'a str) -> (&'a str, &'a str) {
    let mut from = 0;
    while let Some(at) = text[from..].find("</").map(|at| from + at) {
        let after = &text[at + 2..];
        if after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return (&text[..at], after.find('>').map_or("", |end| &after[end + 1..]));
        }
        from = at + 2;
    }
    (text, "")
}

fn new_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Adds text: character references become characters, runs of white space one space.
fn add(to: &mut String, text: &str) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (character, length) = match first {
            '&' => reference(rest).unwrap_or(('&', 1)),
            other => (other, other.len_utf8()),
        };
        rest = &rest[length..];
        if !character.is_whitespace() {
            to.push(character);
        } else if !to.is_empty() && !to.ends_with([' ', '\n']) {
            to.push(' ');
        }
    }
}

/// The character that a reference at the beginning of `text` stands for, and its length.
fn reference(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(REFERENCE_MAX + 2).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let character = if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        char::from_u32(code).filter(|character| !character.is_control() || *character == '\n')?
    } else {
        named(name)?
    };
    Some((character, end + 1))
}

fn named(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "copy" => '©',
        "reg" => '®',
        "deg" => '°',
        "euro" => '€',
        "hellip" => '…',
        "ndash" => '–',
        "mdash" => '—',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "laquo" => '«',
        "raquo" => '»',
        "middot" => '·',
        "bull" => '•',
        "times" => '×',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_becomes_what_a_reader_sees() {
        let html = "<!doctype html><html><head><TITLE>Pump &amp; valve</TITLE><style>p{}</style></head><body>\
                    <h1>State</h1><p>It   is\n <b>running</b>&nbsp;at 5&nbsp;bar, 3 &lt; 5 &unknown; a<b.</p>\
                    <script>if (a < b) { alert('</p>') }</script><ul><li>one<li>two</ul><!-- <p>not this</p> -->\
                    <table><tr><td>a</td><td>b</td></tr></table><br/>end";
        let page = Page::of(html);
        assert_eq!(page.title, "Pump & valve");
        assert_eq!(page.text, "State\nIt is running at 5 bar, 3 < 5 &unknown; a\n- one\n- two\na b\nend");
    }

    #[test]
    fn what_is_cut_off_has_an_end() {
        for (html, text) in [
            ("a<script>b", "a"),
            ("a<!-- b", "a"),
            ("a<p", "a"),
            ("a <", "a <"),
            ("a&#", "a&#"),
            ("&#0;&#x110000;&#65;", "&#0;&#x110000;A"),
            ("<svg/>a", "a"),
        ] {
            assert_eq!(Page::of(html).text, text, "{html}");
        }
    }

    #[test]
    fn bytes_are_read_as_the_server_says() {
        assert_eq!(decode(b"gr\xfcn", "text/html; charset=iso-8859-1"), "grün");
        assert_eq!(decode("grün".as_bytes(), "text/html"), "grün");
        assert_eq!(decode(b"gr\xfcn", "text/html"), "gr\u{fffd}n");
        assert!(is_text("text/html") && is_text("application/ld+json") && is_text(""));
        assert!(!is_text("image/png") && !is_text("application/octet-stream"));
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_its_html(html in "[<>/!&;#a-z \u{e4}\\-]{0,200}") {
            let page = Page::of(&html);
            // An item's `- ` is not longer than its tag.
            prop_assert!(page.text.len() + page.title.len() <= html.len(), "{page:?}");
        }
    }
}
