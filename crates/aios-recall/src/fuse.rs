//! One ranking of what vectors and words found.
//!
//! Cosines and BM25 scores have nothing in common but their order within one search, so both rankings are brought to the
//! same scale first ([`Method`]). docs/recall.md has what each method was measured to give.

use std::collections::BTreeMap;

/// How two rankings become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Reciprocal rank fusion (G. Cormack, C. Clarke, S. Büttcher: Reciprocal Rank Fusion outperforms Condorcet and
    /// individual Rank Learning Methods, 2009): each ranking gives `1 / (constant + place)`, places from 1 on; that of
    /// words counts `words`, that of vectors `1 - words`.
    ReciprocalRank {
        /// How little the first places are ahead of the next; 60 in the paper.
        constant: f64,
        /// Weight of the ranking by words, from 0 to 1.
        words: f64,
    },
    /// The sum of both scores, each divided by the best of its ranking. A cosine below 0 counts as 0.
    WeightedSum {
        /// Weight of the ranking by words, from 0 to 1.
        words: f64,
    },
}

/// Newer items are put ahead of older ones that fit as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recency {
    /// What of the score recency decides, from 0 to 1.
    pub weight: f64,
    /// Age at which recency is one half, in milliseconds.
    pub half_life: f64,
    /// The time that ages are counted from, in milliseconds since 1970.
    pub now: i64,
}

/// An item that both searches, or one, found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fused {
    /// Number of the item.
    pub id: u64,
    /// From 0 to 1; comparable within one search, and of the same scale in all.
    pub score: f64,
}

/// One ranking, the best first, of `vectors` (cosines) and `words` (BM25 scores), both the best first. Each id counts
/// where it comes first. Of equal scores the lower id is first.
pub fn fuse(vectors: &[(u64, f64)], words: &[(u64, f64)], method: Method) -> Vec<Fused> {
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    let weight = match method {
        Method::ReciprocalRank { words, .. } | Method::WeightedSum { words } => unit(words),
    };
    for (ranking, weight) in [(vectors, 1.0 - weight), (words, weight)] {
        let best = ranking.iter().map(|(_, score)| unbounded(*score)).fold(0.0, f64::max);
        let mut seen = std::collections::BTreeSet::new();
        for (place, (id, score)) in ranking.iter().enumerate() {
            if !seen.insert(*id) {
                continue;
            }
            let part = match method {
                // Divided by what the first place gives, so that the whole is between 0 and 1.
                Method::ReciprocalRank { constant, .. } => {
                    (constant.max(0.0) + 1.0) / (constant.max(0.0) + 1.0 + place as f64)
                }
                Method::WeightedSum { .. } if best > 0.0 => unbounded(*score) / best,
                Method::WeightedSum { .. } => 0.0,
            };
            *scores.entry(*id).or_default() += weight * part;
        }
    }
    sorted(scores.into_iter().map(|(id, score)| Fused { id, score }).collect())
}

/// The ranking with recency in it; `time_of` says when an item was recorded, in milliseconds since 1970.
pub fn with_recency(ranking: &[Fused], recency: &Recency, time_of: impl Fn(u64) -> i64) -> Vec<Fused> {
    let weight = unit(recency.weight);
    let newer = ranking.iter().map(|fused| {
        let age = recency.now.saturating_sub(time_of(fused.id)).max(0) as f64;
        let share = if age == 0.0 { 1.0 } else { (-age / recency.half_life.max(0.0)).exp2() };
        Fused { id: fused.id, score: (1.0 - weight) * fused.score + weight * share }
    });
    sorted(newer.collect())
}

fn sorted(mut ranking: Vec<Fused>) -> Vec<Fused> {
    ranking.sort_by(|one, other| other.score.total_cmp(&one.score).then(one.id.cmp(&other.id)));
    ranking
}

/// `value` from 0 on, NaN as 0.
fn unbounded(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, f64::MAX) }
}

fn unit(value: f64) -> f64 {
    unbounded(value).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECIPROCAL: Method = Method::ReciprocalRank { constant: 60.0, words: 0.5 };

    fn ids(ranking: &[Fused]) -> Vec<u64> {
        ranking.iter().map(|fused| fused.id).collect()
    }

    #[test]
    fn what_both_found_is_ahead_of_what_one_found() {
        let (vectors, words) = ([(1, 0.9), (2, 0.8), (3, 0.7)], [(4, 12.0), (3, 11.0), (2, 1.0)]);
        assert_eq!(ids(&fuse(&vectors, &words, RECIPROCAL)), [2, 3, 1, 4]);
        assert_eq!(ids(&fuse(&vectors, &words, Method::WeightedSum { words: 0.5 })), [3, 1, 4, 2]);
    }

    #[test]
    fn an_item_that_is_first_in_both_has_the_score_one() {
        for method in [RECIPROCAL, Method::WeightedSum { words: 0.3 }] {
            assert_eq!(fuse(&[(7, 0.2)], &[(7, 30.0)], method)[0].score, 1.0);
        }
    }

    #[test]
    fn recency_decides_between_items_that_fit_as_well() {
        let ranking = [Fused { id: 1, score: 0.5 }, Fused { id: 2, score: 0.5 }, Fused { id: 3, score: 0.9 }];
        let recency = Recency { weight: 0.2, half_life: 1000.0, now: 10_000 };
        let newer = with_recency(&ranking, &recency, |id| if id == 2 { 10_000 } else { 0 });
        assert_eq!(ids(&newer), [3, 2, 1]);
        let none = Recency { weight: 0.0, ..recency };
        assert_eq!(ids(&with_recency(&ranking, &none, |id| id as i64)), [3, 1, 2]);
    }

    proptest! {
        #[test]
        fn every_item_is_there_once_with_a_score_between_0_and_1(
            vectors in prop::collection::vec((0_u64..20, any::<f64>()), 0..20),
            words in prop::collection::vec((0_u64..20, any::<f64>()), 0..20),
            weight in any::<f64>(),
            is_sum in any::<bool>(),
        ) {
            let reciprocal = Method::ReciprocalRank { constant: 60.0, words: weight };
            let method = if is_sum { Method::WeightedSum { words: weight } } else { reciprocal };
            let ranking = fuse(&vectors, &words, method);
            let mut expected: Vec<u64> = vectors.iter().chain(&words).map(|(id, _)| *id).collect();
            expected.sort_unstable();
            expected.dedup();
            let mut found = ids(&ranking);
            found.sort_unstable();
            prop_assert_eq!(found, expected);
            prop_assert!(ranking.iter().all(|fused| (0.0..=1.0 + 1e-9).contains(&fused.score)));
            prop_assert!(ranking.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
    }
}
