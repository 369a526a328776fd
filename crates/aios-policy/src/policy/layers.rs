//! Merging the policy's files, and naming file, line and key of what is wrong with one.

use std::ops::Range;

use serde::Deserialize as _;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Layer, Policy, PolicyError, rules};

/// Largest file that is read.
const MAX_BYTES: usize = 1 << 20;

pub(super) fn from_layers(layers: &[Layer]) -> Result<Policy, PolicyError> {
    let mut merged = Table::new();
    for layer in layers {
        let plain = |reason: String| PolicyError { path: layer.path.clone(), line: None, key: None, reason };
        if layer.text.len() > MAX_BYTES {
            return Err(plain(format!("larger than {MAX_BYTES} bytes")));
        }
        // Each file is held to the schema by itself, because only here an error still knows its line.
        toml::from_str::<Policy>(&layer.text).map_err(|error| blame(layer, &error))?;
        merge(&mut merged, layer.text.parse().map_err(|error| blame(layer, &error))?);
    }
    let last = layers.last().map(|layer| layer.path.clone()).unwrap_or_default();
    let policy = Policy::deserialize(merged).map_err(|error| PolicyError {
        path: last.clone(),
        line: None,
        key: None,
        reason: error.message().into(),
    })?;
    rules::violation(&policy).map_err(|broken| {
        let found = layers.iter().rev().find_map(|layer| Some((layer.path.clone(), line_of(layer, &broken.key)?)));
        let (path, line) = found.map_or((last, None), |(path, line)| (path, Some(line)));
        PolicyError { path, line, key: Some(dotted(&broken.key)), reason: broken.reason }
    })?;
    Ok(policy)
}

/// Lays `upper` over `lower`: sections merge, anything else replaces.
fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

fn blame(layer: &Layer, error: &toml::de::Error) -> PolicyError {
    let span = error.span();
    PolicyError {
        path: layer.path.clone(),
        line: span.as_ref().map(|span| line_at(layer, span.start)),
        key: span.and_then(|span| key_at(layer, &span)),
        reason: error.message().trim().replace('\n', ", "),
    }
}

fn line_at(layer: &Layer, offset: usize) -> usize {
    layer.text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The line on which a key is set.
fn line_of(layer: &Layer, key: &[String]) -> Option<usize> {
    let (last, sections) = key.split_last()?;
    let root = DeTable::parse(&layer.text).ok()?.into_inner();
    let mut table = &root;
    for section in sections {
        table = table.iter().find(|(key, _)| key.get_ref() == section)?.1.get_ref().as_table()?;
    }
    let (key, _) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    Some(line_at(layer, key.span().start))
}

/// The key whose name or value stands at `span`, with its sections.
fn key_at(layer: &Layer, span: &Range<usize>) -> Option<String> {
    let root = DeTable::parse(&layer.text).ok()?.into_inner();
    let mut path = Vec::new();
    descend(&root, span, &mut path).then(|| dotted(&path))
}

/// Walks towards `span`; true where an entry's key or value holds it.
fn descend(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let below = match value.get_ref() {
            DeValue::Table(inner) => descend(inner, span, path),
            DeValue::Array(list) => {
                list.iter().any(|entry| matches!(entry.get_ref(), DeValue::Table(inner) if descend(inner, span, path)))
            }
            _ => false,
        };
        if below || holds(key.span()) || holds(value.span()) {
            return true;
        }
        path.pop();
    }
    false
}

/// The key as it is written: a part with a dot stands in quotes.
fn dotted(parts: &[String]) -> String {
    let quoted = parts.iter().map(|part| if part.contains('.') { format!("{part:?}") } else { part.clone() });
    quoted.collect::<Vec<_>>().join(".")
}
