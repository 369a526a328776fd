//! The pattern to use for a goal.

use std::collections::BTreeSet;

use super::{Found, Match, Options, Pattern, Refusal, goal::Goal, lexicon::LOOK, reliability, slots};

/// What a pattern that failed often loses of its likeness in the order of those that fit, at most.
const MOST_LOST: f64 = 0.1;

/// A pattern that fits.
struct Fit {
    matched: Match,
    /// Whether the goal is the same, word by word.
    is_exact: bool,
    /// What it is ordered by.
    rank: f64,
}

/// The pattern to use for `goal`, out of `patterns`, each with the cosine of its goal's embedding and that of `goal`.
///
/// The same goal in the same words needs no likeness; of several such patterns the most reliable is taken. Otherwise
/// likeness is the mean of the cosine and of the share of words (by their meaning) that both goals have.
pub fn find<'a>(goal: &str, patterns: impl IntoIterator<Item = (&'a Pattern, f64)>, options: &Options) -> Found {
    let goal = Goal::parse(goal);
    let (mut fits, mut refused) = (Vec::new(), Vec::new());
    for (pattern, cosine) in patterns {
        match fit(&goal, pattern, cosine, options) {
            Ok(fit) => fits.push(fit),
            Err(refusal) => refused.push((pattern.id, refusal)),
        }
    }
    fits.sort_by(|one, other| {
        let order = other.is_exact.cmp(&one.is_exact).then(other.rank.total_cmp(&one.rank));
        order.then(other.matched.id.cmp(&one.matched.id))
    });
    let mut fits = fits.into_iter();
    let Some(best) = fits.next() else { return Found { best: None, refused } };
    let others: Vec<Fit> = fits.collect();
    let rival = others.iter().find(|other| other.matched.steps != best.matched.steps);
    let is_clear = best.is_exact || rival.is_none_or(|rival| best.rank - rival.rank >= options.margin);
    if !is_clear {
        refused.push((best.matched.id, Refusal::Ambiguous));
    }
    let reason = if is_clear { Refusal::Worse } else { Refusal::Ambiguous };
    refused.extend(others.iter().map(|other| (other.matched.id, reason)));
    Found { best: is_clear.then_some(best.matched), refused }
}

fn fit(goal: &Goal, pattern: &Pattern, cosine: f64, options: &Options) -> Result<Fit, Refusal> {
    let of_pattern = Goal::parse(&pattern.goal);
    let reliability = reliability(pattern.successes, pattern.failures);
    if reliability < options.reliability {
        return Err(Refusal::Unreliable);
    }
    let lost = MOST_LOST * (1.0 - reliability);
    if of_pattern.normal == goal.normal {
        let matched = Match { id: pattern.id, steps: pattern.steps.clone(), likeness: 1.0, replaced: Vec::new() };
        return Ok(Fit { matched, is_exact: true, rank: 1.0 - lost });
    }
    check_meaning(&of_pattern, goal)?;
    let replaced = slots::align(&of_pattern, goal, &pattern.steps)?;
    let likeness = f64::midpoint(unit(cosine), overlap(&of_pattern, goal, &replaced));
    if likeness < options.likeness {
        return Err(Refusal::Unlike);
    }
    let steps = slots::fill(&pattern.steps, &replaced).ok_or(Refusal::Value)?;
    let replaced = replaced.into_iter().map(|(old, new)| (old.text, new.text)).collect();
    let matched = Match { id: pattern.id, steps, likeness, replaced };
    Ok(Fit { matched, is_exact: false, rank: likeness - lost })
}

/// Whether both goals ask for the same to be done to the same kinds of things, within the same limits.
fn check_meaning(pattern: &Goal, goal: &Goal) -> Result<(), Refusal> {
    debug_assert!(!pattern.actions.contains(&LOOK) && !goal.actions.contains(&LOOK));
    if pattern.looks != goal.looks || pattern.actions != goal.actions {
        return Err(Refusal::Action);
    }
    if pattern.limits != goal.limits {
        return Err(Refusal::Limit);
    }
    if pattern.objects != goal.objects {
        return Err(Refusal::Object);
    }
    Ok(())
}

/// The words that both goals have, of those that either has; a replaced value counts as the same word.
fn overlap(pattern: &Goal, goal: &Goal, replaced: &[(super::goal::GoalValue, super::goal::GoalValue)]) -> f64 {
    let new_of = |word: &str| replaced.iter().find(|(old, _)| old.key == word).map(|(_, new)| new.key.clone());
    let of_pattern: BTreeSet<String> =
        pattern.words.iter().map(|word| new_of(word).unwrap_or_else(|| word.clone())).collect();
    let of_goal: BTreeSet<String> = goal.words.iter().cloned().collect();
    let both = of_pattern.intersection(&of_goal).count();
    let either = of_pattern.union(&of_goal).count();
    if either == 0 { 0.0 } else { both as f64 / either as f64 }
}

fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}
