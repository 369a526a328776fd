//! Which pattern may be used for a goal, without a model: docs/recall.md has the rules.

use std::collections::{BTreeMap, BTreeSet};

use aios_recall::pattern::{self, Options, Pattern, Refusal, Step, reliability};

use crate::{
    index::Found,
    item::{self, Body, Item},
};

/// A pattern that may be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reuse {
    /// The pattern, with the goal's own values in its steps.
    pub item: Item,
    /// How alike the goals are: 1 for the same words.
    pub likeness: f64,
    /// Likeness and reliability together.
    pub score: f64,
}

/// The patterns that may be used for `goal`, the best first: the one that is clearly its own, and others of the same words
/// behind it. `same` are the patterns of the goal's words, `near` those of other goals with their cosines.
pub(crate) fn choose(goal: &str, same: Vec<Item>, near: Vec<(Item, Found)>) -> Vec<Reuse> {
    let of_same: BTreeSet<u64> = same.iter().map(|item| item.id).collect();
    let mut items: BTreeMap<u64, (Item, f64)> =
        near.into_iter().map(|(item, found)| (item.id, (item, found.score))).collect();
    items.extend(same.into_iter().map(|item| (item.id, (item, 1.0))));
    let patterns: Vec<(Pattern, f64)> =
        items.values().filter_map(|(item, cosine)| Some((parse(item)?, *cosine))).collect();
    let candidates = patterns.iter().map(|(pattern, cosine)| (pattern, *cosine));
    let found = pattern::find(goal, candidates, &Options::default());
    let Some(best) = found.best else { return Vec::new() };
    let is_behind =
        |id: &u64, refusal: Refusal| of_same.contains(id) && matches!(refusal, Refusal::Worse | Refusal::Ambiguous);
    let behind = found.refused.iter().filter(|(id, refusal)| is_behind(id, *refusal)).map(|(id, _)| (*id, 1.0, None));
    let chosen = [(best.id, best.likeness, Some(best.steps))].into_iter().chain(behind);
    let mut reuses: Vec<Reuse> = chosen
        .filter_map(|(id, likeness, steps)| {
            let (item, _) = items.remove(&id)?;
            Some(reuse(item, likeness, steps))
        })
        .collect();
    reuses[1..].sort_by(|one, other| other.score.total_cmp(&one.score).then(other.item.id.cmp(&one.item.id)));
    reuses
}

/// A pattern as it is compared; `None` where the arguments of a step are no JSON object.
fn parse(item: &Item) -> Option<Pattern> {
    let Body::Pattern(pattern) = &item.content.body else { return None };
    let steps = pattern.steps.iter().map(|step| {
        let arguments = if step.arguments.is_empty() { "{}" } else { &step.arguments };
        Some(Step { tool: step.tool.clone(), arguments: serde_json::from_str(arguments).ok()? })
    });
    let (successes, failures) = uses(pattern);
    Some(Pattern { id: item.id, goal: pattern.goal.clone(), steps: steps.collect::<Option<_>>()?, successes, failures })
}

/// Successes and failures. A pattern is stored because its chain succeeded, which is the first success.
fn uses(pattern: &item::Pattern) -> (u32, u32) {
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    (count(pattern.successes.saturating_add(1)), count(pattern.failures))
}

fn reuse(mut item: Item, likeness: f64, steps: Option<Vec<Step>>) -> Reuse {
    let mut score = likeness;
    if let Body::Pattern(pattern) = &mut item.content.body {
        let (successes, failures) = uses(pattern);
        score *= reliability(successes, failures);
        if let Some(steps) = steps {
            let step = |Step { tool, arguments }: Step| item::Step {
                tool,
                arguments: serde_json::Value::Object(arguments).to_string(),
            };
            pattern.steps = steps.into_iter().map(step).collect();
        }
    }
    Reuse { item, likeness, score }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use aios_policy::Origin;

    use super::*;
    use crate::{
        item::{Content, Provenance},
        kind::Tier,
    };

    fn pattern(id: u64, goal: &str, arguments: &str, failures: u64) -> Item {
        let provenance =
            Provenance { agent: "learning".into(), source: String::new(), origins: [Origin::Model].into() };
        let steps = vec![item::Step { tool: "service.restart".into(), arguments: arguments.into() }];
        let pattern = item::Pattern { goal: goal.into(), steps, failures, ..item::Pattern::default() };
        let content = Content { provenance, body: Body::Pattern(pattern) };
        Item { id, tier: Tier::Working, created: 1, updated: 1, content }
    }

    fn near(item: Item, cosine: f64) -> Vec<(Item, Found)> {
        vec![(item.clone(), Found { id: item.id, score: cosine, is_related: true })]
    }

    fn arguments(reuse: &Reuse) -> &str {
        let Body::Pattern(pattern) = &reuse.item.content.body else { panic!("{reuse:?}") };
        &pattern.steps[0].arguments
    }

    const NGINX: &str = r#"{"unit":"nginx.service"}"#;

    #[test]
    fn a_paraphrase_gets_the_chain_with_its_own_values() {
        let known = || near(pattern(7, "restart nginx", NGINX, 0), 0.9);
        let same = choose("please restart the nginx service", Vec::new(), known());
        assert_eq!((same.len(), same[0].item.id, arguments(&same[0])), (1, 7, NGINX));
        assert!(same[0].likeness >= 0.7 && same[0].score < same[0].likeness, "{same:?}");
        let other = choose("restart sshd", Vec::new(), known());
        assert_eq!(arguments(&other[0]), r#"{"unit":"sshd.service"}"#);
        assert_eq!(choose("stop nginx", Vec::new(), known()), []);
        assert_eq!(choose("don't restart nginx", Vec::new(), known()), []);
    }

    #[test]
    fn of_the_same_words_the_most_reliable_is_first_and_one_that_fails_is_not_used() {
        let same = vec![
            pattern(1, "restart nginx", NGINX, 1),
            pattern(2, "Restart nginx", r#"{"unit":"nginx"}"#, 0),
            pattern(3, "restart nginx", r#"{"unit":"web"}"#, 9),
            pattern(4, "restart nginx", "no object", 0),
        ];
        let found = choose("restart nginx", same, Vec::new());
        assert_eq!(found.iter().map(|reuse| reuse.item.id).collect::<Vec<_>>(), [2, 1]);
        assert!(found[0].score > found[1].score && found[0].likeness == 1.0);
    }
}
