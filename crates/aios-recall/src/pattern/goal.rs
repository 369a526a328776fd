//! What a goal says: what is to be done, to what, within which limits, with which values.

use super::lexicon::{Class, FILE, LOOK, SERVICE, class_of, class_of_pair, singular};

/// Form of a value: only one of the same form can stand in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Number,
    Path,
    /// Something with `@`, `://`, or of numbers and dots or colons.
    Address,
    /// Between quotation marks.
    Quoted,
    /// A word that is in no list, or has a digit, a dot, a dash or an underscore in it.
    Name,
}

/// A value in a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoalValue {
    /// As it stands in the goal, without quotation marks.
    pub text: String,
    /// What it is compared by: names in small letters, plain words without the end of a plural.
    pub key: String,
    pub form: Form,
    /// The preposition before it, where it has one.
    pub preposition: Option<String>,
    /// How many of the goal's actions come before it.
    pub after_actions: usize,
}

/// A goal, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Goal {
    /// All words, one space between them, without punctuation at their ends, in small letters but for values.
    pub normal: String,
    /// Whether it asks for something to be shown.
    pub looks: bool,
    /// What else is to be done, in order.
    pub actions: Vec<usize>,
    /// Limits, in order.
    pub limits: Vec<usize>,
    /// Kinds of things, rising, each once, without those that a value makes superfluous.
    pub objects: Vec<usize>,
    /// Kinds of things in order: with several values, it says which is of which kind.
    pub object_order: Vec<usize>,
    /// Values and unknown words, in order.
    pub values: Vec<GoalValue>,
    /// Every word that says something, for likeness.
    pub words: Vec<String>,
}

/// A word of a goal, as it stands there.
struct Word<'a> {
    text: &'a str,
    lower: String,
    is_quoted: bool,
}

impl Goal {
    pub fn parse(text: &str) -> Goal {
        let words = split(text);
        let mut goal = Goal::default();
        let mut normal: Vec<String> = Vec::new();
        let mut preposition = None;
        let mut place = 0;
        while place < words.len() {
            let word = &words[place];
            let next = words.get(place + 1).filter(|next| !next.is_quoted);
            let pair = next.filter(|_| !word.is_quoted).and_then(|next| class_of_pair(&word.lower, &next.lower));
            place += 1 + usize::from(pair.is_some());
            let class = match pair {
                Some(pair) => Some(pair),
                None if word.is_quoted => None,
                None => class_of(&word.lower),
            };
            match class {
                None if word.is_quoted => normal.push(format!("\"{}\"", word.text)),
                None => normal.push(word.text.to_owned()),
                Some(_) => normal.push(word.lower.clone()),
            }
            normal.extend(next.filter(|_| pair.is_some()).map(|next| next.lower.clone()));
            // Only at the beginning do these words ask.
            let asks = matches!(word.lower.as_str(), "is" | "are" | "does");
            match class {
                Some(Class::Action(_)) if asks && place > 1 => {}
                Some(Class::Filler) => {}
                Some(Class::Preposition) => preposition = Some(word.lower.clone()),
                Some(class) => goal.add(class),
                None => goal.add_value(word, preposition.take()),
            }
        }
        // What has no words is the same goal only where it is the same text.
        goal.normal = if normal.is_empty() { text.trim().to_owned() } else { normal.join(" ") };
        goal.finish();
        goal
    }

    fn add(&mut self, class: Class) {
        match class {
            Class::Action(LOOK) => self.looks = true,
            Class::Action(action) => self.actions.push(action),
            Class::Object(object) => self.objects.push(object),
            Class::Limit(limit) => self.limits.push(limit),
            Class::Preposition | Class::Filler => return,
        }
        // Words of one meaning are one word.
        self.words.push(format!("{class:?}"));
    }

    fn add_value(&mut self, word: &Word<'_>, preposition: Option<String>) {
        let form = form_of(word);
        let key = if form == Form::Name { singular(&word.lower).to_owned() } else { word.text.to_owned() };
        self.words.push(key.clone());
        let text = word.text.to_owned();
        self.values.push(GoalValue { text, key, form, preposition, after_actions: self.actions.len() });
    }

    fn finish(&mut self) {
        self.looks |= self.actions.is_empty();
        self.object_order = self.objects.clone();
        self.objects.sort_unstable();
        self.objects.dedup();
        let has = |form| self.values.iter().any(|value| value.form == form);
        let (has_name, has_path) = (has(Form::Name) || has(Form::Quoted), has(Form::Path));
        let is_needless = |object: usize| object == SERVICE && has_name || object == FILE && has_path;
        self.objects.retain(|object| !is_needless(*object));
        self.object_order.retain(|object| !is_needless(*object));
        let needless = [SERVICE, FILE].into_iter().filter(|object| is_needless(*object));
        let needless: Vec<String> = needless.map(|object| format!("{:?}", Class::Object(object))).collect();
        self.words.retain(|word| !needless.contains(word));
        self.words.sort_unstable();
        self.words.dedup();
    }
}

fn form_of(word: &Word<'_>) -> Form {
    let text = word.text;
    if word.is_quoted {
        return Form::Quoted;
    }
    let has_digit = text.contains(|char: char| char.is_ascii_digit());
    let is_numeric = text.chars().all(|char| char.is_ascii_hexdigit() || matches!(char, '.' | ':' | '/'));
    if text.contains("://") || text.contains('@') || (has_digit && is_numeric && text.matches(['.', ':']).count() >= 2)
    {
        return Form::Address;
    }
    if text.starts_with(['/', '~']) || text.contains('/') {
        return Form::Path;
    }
    let digits = text.trim_start_matches(['-', '+']);
    if digits.starts_with(|char: char| char.is_ascii_digit()) && is_amount(digits) {
        return Form::Number;
    }
    Form::Name
}

/// Whether it is a number with or without a unit: `30`, `1.5`, `80%`, `10MB`, `5min`.
fn is_amount(text: &str) -> bool {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit() || matches!(char, '.' | ','));
    unit.len() <= 3 && unit.chars().all(|char| char.is_alphabetic() || char == '%')
}

/// A word without punctuation around it. What could be a part of a path or a pattern stays: `/tmp/*` is not `/tmp/`.
fn trim(word: &str) -> &str {
    let is_folder = [".", ".."].contains(&word) || word.ends_with("/.") || word.ends_with("/..");
    if is_folder {
        return word;
    }
    let is_end = |char: char| {
        let is_bracket = matches!(
            char,
            '"' | '\'' | '`' | '(' | ')' | '[' | ']' | '{' | '}' | '“' | '”' | '‘' | '’' | '„' | '«' | '»'
        );
        is_bracket || matches!(char, '.' | ',' | ';' | ':' | '!' | '?' | '…' | '。' | '，' | '！' | '？')
    };
    let trimmed = word.trim_end_matches(is_end).trim_start_matches(|char| is_end(char) && char != '.');
    ["'s", "’s"].iter().find_map(|end| trimmed.strip_suffix(end)).unwrap_or(trimmed)
}

/// The words of a goal. What is between quotation marks is one.
fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|char: char| !char.is_whitespace()) {
        rest = &rest[start..];
        let quoted = ['"', '\'', '`'].into_iter().find_map(|mark| {
            let inside = rest.strip_prefix(mark)?;
            let end = inside.find(mark)?;
            // An apostrophe is no quotation mark: after the closing one no letter follows.
            let after = &inside[end + 1..];
            let closes = !after.starts_with(char::is_alphanumeric);
            (closes && end > 0).then_some((&inside[..end], after))
        });
        if let Some((inside, after)) = quoted {
            words.push(Word { text: inside, lower: inside.to_lowercase(), is_quoted: true });
            rest = after;
            continue;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let text = trim(word);
        if !text.is_empty() {
            words.push(Word { text, lower: text.to_lowercase().replace('’', "'"), is_quoted: false });
        }
    }
    words
}
