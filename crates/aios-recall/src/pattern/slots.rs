//! Where the values of a goal stand in its chain, and others in their place.

use serde_json::{Map, Value};

use super::{
    Refusal, Step,
    goal::{Form, Goal, GoalValue},
};

/// Suffixes of a unit's name that a goal leaves out.
const UNIT_SUFFIXES: [&str; 7] = [".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice"];
/// Prepositions that turn a goal around.
const DIRECTIONS: [&str; 8] = ["from", "to", "into", "onto", "against", "with", "through", "via"];
/// Shorter strings are in others by chance.
const LEAST_PART: usize = 3;
/// Words that only one of two questions has, at most.
const MOST_EXTRA_WORDS: usize = 2;

/// Where a value stands in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Nowhere,
    /// It is the whole of an argument, or that with a unit's suffix.
    Clear,
    /// It is a part of an argument, of a tool's name or of a key; or an argument is a part of it.
    Tangled,
}

/// The values of `pattern` that differ from those of `goal`, each with that which stands in its place.
pub(super) fn align(pattern: &Goal, goal: &Goal, steps: &[Step]) -> Result<Vec<(GoalValue, GoalValue)>, Refusal> {
    if pattern.values.len() != goal.values.len() {
        return only_words_differ(pattern, goal, steps);
    }
    let several = pattern.values.len() > 1;
    if several && pattern.object_order != goal.object_order {
        return Err(Refusal::Value);
    }
    let mut replaced = Vec::new();
    for (old, new) in pattern.values.iter().zip(&goal.values) {
        if !is_same_place(old, new, several) {
            return Err(Refusal::Value);
        }
        if old.key != new.key {
            check_replacement(pattern, goal, steps, (old, new))?;
            replaced.push((old.clone(), new.clone()));
        }
    }
    if !replaced.is_empty() && depends_on_more(pattern, steps) {
        return Err(Refusal::Value);
    }
    Ok(replaced)
}

/// A question may have a plain word more than another, where no argument hangs on it.
fn only_words_differ(pattern: &Goal, goal: &Goal, steps: &[Step]) -> Result<Vec<(GoalValue, GoalValue)>, Refusal> {
    let (more, fewer) = if pattern.values.len() > goal.values.len() { (pattern, goal) } else { (goal, pattern) };
    let is_in = |value: &&GoalValue| fewer.values.iter().any(|other| other.key == value.key);
    let extra: Vec<_> = more.values.iter().filter(|value| !is_in(value)).collect();
    if extra.iter().any(|value| !is_plain(value)) {
        return Err(Refusal::Value);
    }
    let is_free = |value: &GoalValue| place_of(value, steps) == Place::Nowhere;
    let all_same = extra.len() + fewer.values.len() == more.values.len();
    let is_question = pattern.actions.is_empty();
    let fits = is_question && all_same && extra.len() <= MOST_EXTRA_WORDS && pattern.values.iter().all(is_free);
    if fits { Ok(Vec::new()) } else { Err(Refusal::Word) }
}

/// Whether both values play the same part in their goals.
fn is_same_place(old: &GoalValue, new: &GoalValue, several: bool) -> bool {
    let prepositions = (old.preposition.as_deref(), new.preposition.as_deref());
    if several || old.form == Form::Number {
        return prepositions.0 == prepositions.1 && (!several || old.after_actions == new.after_actions);
    }
    match prepositions {
        (Some(one), Some(other)) => one == other || ![one, other].iter().any(|word| DIRECTIONS.contains(word)),
        _ => true,
    }
}

/// Whether `new` may stand where `old` stands in the chain.
fn check_replacement(
    pattern: &Goal,
    goal: &Goal,
    steps: &[Step],
    (old, new): (&GoalValue, &GoalValue),
) -> Result<(), Refusal> {
    let count = |values: &[GoalValue], key: &str| values.iter().filter(|value| value.key == key).count();
    // Each is in its own goal once and in the other not at all: values that change places mean something else.
    let is_once =
        |here: &Goal, there: &Goal, key: &str| count(&here.values, key) == 1 && count(&there.values, key) == 0;
    let is_word = |form| matches!(form, Form::Name | Form::Quoted);
    let fits = old.form == new.form || is_word(old.form) && is_word(new.form);
    match place_of(old, steps) {
        // An option is no value, an adverb no name.
        Place::Clear if new.text.starts_with('-') || is_plain(new) && new.key.ends_with("ly") => Err(Refusal::Word),
        Place::Clear if unit(old) != unit(new) => Err(Refusal::Value),
        Place::Clear if fits && is_once(pattern, goal, &old.key) && is_once(goal, pattern, &new.key) => Ok(()),
        Place::Nowhere if is_plain(old) && is_plain(new) => Err(Refusal::Word),
        _ => Err(Refusal::Value),
    }
}

/// A word of letters alone, which may be a name or not.
fn is_plain(value: &GoalValue) -> bool {
    value.form == Form::Name && value.text.chars().all(char::is_alphabetic)
}

/// What follows the digits of an amount.
fn unit(value: &GoalValue) -> &str {
    match value.form {
        Form::Number => value.text.trim_start_matches(|char: char| !char.is_alphabetic() && char != '%'),
        _ => "",
    }
}

/// Whether the chain names things that the goal does not name, and that may hang on its values: paths, addresses and
/// names, or any string where another call of the chain has one of the values.
fn depends_on_more(pattern: &Goal, steps: &[Step]) -> bool {
    let is_value = |leaf: &Value| pattern.values.iter().any(|value| place_in(value, leaf) == Place::Clear);
    let mut keys_with_values: Vec<&str> = Vec::new();
    each_leaf(steps, &mut |key, leaf| keys_with_values.extend(is_value(leaf).then_some(key)));
    let mut depends = false;
    each_leaf(steps, &mut |key, leaf| {
        let Value::String(text) = leaf else { return };
        let names = text.contains(['/', '.', '@', ':', '-', '_']) || text.contains(|char: char| char.is_ascii_digit());
        depends |= !is_value(leaf) && (names || keys_with_values.contains(&key));
    });
    depends
}

/// Where a value stands in a chain: the worst of its places.
fn place_of(value: &GoalValue, steps: &[Step]) -> Place {
    let mut worst = Place::Nowhere;
    each_leaf(steps, &mut |key, leaf| {
        worst = worst.max(place_in(value, leaf));
        if is_part(&value.text, key) {
            worst = Place::Tangled;
        }
    });
    if steps.iter().any(|step| is_part(&value.text, &step.tool)) { Place::Tangled } else { worst }
}

fn place_in(value: &GoalValue, leaf: &Value) -> Place {
    let amount = || value.text.trim_end_matches(|char: char| char.is_alphabetic() || char == '%');
    match leaf {
        Value::Number(number) if value.form == Form::Number && number.to_string() == amount() => Place::Clear,
        Value::String(text) if text.eq_ignore_ascii_case(&value.text) => Place::Clear,
        Value::String(text) if suffix_of(value, text).is_some() => Place::Clear,
        Value::String(text) if is_part(&value.text, text) || is_part(text, &value.text) => Place::Tangled,
        _ => Place::Nowhere,
    }
}

/// The unit's suffix, where `text` is a name with one.
fn suffix_of(value: &GoalValue, text: &str) -> Option<&'static str> {
    let suffix = *UNIT_SUFFIXES.iter().find(|suffix| text.ends_with(**suffix))?;
    let stem = text.strip_suffix(suffix)?;
    (value.form == Form::Name && stem.eq_ignore_ascii_case(&value.text)).then_some(suffix)
}

/// Whether `part` is in `text`, where that is not by chance.
fn is_part(part: &str, text: &str) -> bool {
    let (part, text) = (part.to_lowercase(), text.to_lowercase());
    if part.is_empty() {
        return false;
    }
    let is_border = |char: Option<char>| char.is_none_or(|char| !char.is_alphanumeric());
    text.match_indices(&part).any(|(at, _)| {
        let is_word = is_border(text[..at].chars().next_back()) && is_border(text[at + part.len()..].chars().next());
        is_word || part.chars().count() >= LEAST_PART
    })
}

/// Calls `visit` with every string, number and truth value in the arguments, and the nearest key around it.
fn each_leaf<'a>(steps: &'a [Step], visit: &mut impl FnMut(&'a str, &'a Value)) {
    fn walk<'a>(key: &'a str, value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(key, item, visit)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(key, value, visit)),
            leaf => visit(key, leaf),
        }
    }
    steps.iter().flat_map(|step| &step.arguments).for_each(|(key, value)| walk(key, value, visit));
}

/// The chain with the new values in it, all at once. None where a number is none of JSON.
pub(super) fn fill(steps: &[Step], replaced: &[(GoalValue, GoalValue)]) -> Option<Vec<Step>> {
    let fill_step = |step: &Step| {
        let fields = step.arguments.iter().map(|(key, value)| Some((key.clone(), fill_value(value, replaced)?)));
        Some(Step { tool: step.tool.clone(), arguments: fields.collect::<Option<Map<_, _>>>()? })
    };
    steps.iter().map(fill_step).collect()
}

fn fill_value(value: &Value, replaced: &[(GoalValue, GoalValue)]) -> Option<Value> {
    match value {
        Value::Array(items) => {
            items.iter().map(|item| fill_value(item, replaced)).collect::<Option<_>>().map(Value::Array)
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Some((key.clone(), fill_value(value, replaced)?)));
            fields.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        leaf => match replaced.iter().find(|(old, _)| place_in(old, leaf) == Place::Clear) {
            None => Some(leaf.clone()),
            Some((old, new)) => fill_leaf(leaf, old, new),
        },
    }
}

fn fill_leaf(leaf: &Value, old: &GoalValue, new: &GoalValue) -> Option<Value> {
    let Value::String(text) = leaf else {
        let amount = new.text.trim_end_matches(|char: char| char.is_alphabetic() || char == '%');
        return serde_json::from_str(amount).ok().map(Value::Number);
    };
    let suffix = suffix_of(old, text).filter(|suffix| !new.text.ends_with(suffix)).unwrap_or("");
    // Where the chain has the goal's name in small letters, it has so for the new one.
    let is_lowered = !text.starts_with(&old.text);
    let name = if is_lowered { new.text.to_lowercase() } else { new.text.clone() };
    Some(Value::String(name + suffix))
}
