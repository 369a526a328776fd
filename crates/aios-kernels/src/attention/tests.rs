use super::*;
use crate::samples::{at, panels};
use crate::{Span, float16, samples};

/// From -1 to 1.
fn number(seed: usize) -> f32 {
    samples::number(seed) / 3.0
}

/// As one would write it down, in double precision.
fn reference(
    attention: &Attention,
    key_heads: usize,
    size: usize,
    position: usize,
    head: usize,
    query: &[f32],
) -> Vec<f64> {
    let key_head = head / (attention.heads / key_heads);
    let first = (position + 1).saturating_sub(attention.window);
    let half = |value: f32| f64::from(float16::to_f32(float16::from_f32(value)));
    let key = |at: usize, column: usize| half(number(key_head * 1_000_003 + at * 1009 + column));
    let value = |at: usize, column: usize| half(number(key_head * 1_000_003 + at * 1009 + column + 500));
    let scores: Vec<f64> = (first..=position)
        .map(|at| {
            let product: f64 = (0..size).map(|column| f64::from(query[column]) * key(at, column)).sum();
            (product * f64::from(attention.scale)).exp()
        })
        .collect();
    let total: f64 = scores.iter().sum();
    (0..size)
        .map(|column| scores.iter().enumerate().map(|(at, score)| score / total * value(first + at, column)).sum())
        .collect()
}

fn check(isa: Isa, heads: usize, key_heads: usize, size: usize, window: usize, steps: &[usize]) {
    let team = Team::new(2);
    let attention = Attention { heads, scale: 0.3, window };
    let mut cache = Cache::new(2, key_heads, size, steps.iter().sum());
    let mut first = 0;
    for &tokens in steps {
        let stored = |offset: usize| {
            panels(key_heads * size, tokens, |token, column| {
                number(column / size * 1_000_003 + (first + token) * 1009 + column % size + offset)
            })
        };
        let span = Span { start: 0, tokens, batch: tokens };
        cache.store(isa, &team, 1, first, span, &stored(0), &stored(500));
        let query = |token: usize, column: usize| number((first + token) * 31 + column * 17 + 5);
        let queries = panels(heads * size, tokens, query);
        let mut out = vec![f32::NAN; queries.len()];
        let sequence = std::iter::once(Sequence { cache: &cache, first, tokens });
        attend(isa, &team, &attention, 1, sequence, &queries, &mut out);
        for token in 0..tokens {
            for head in 0..heads {
                let row: Vec<f32> = (0..size).map(|column| query(token, head * size + column)).collect();
                let expected = reference(&attention, key_heads, size, first + token, head, &row);
                for (column, expected) in expected.iter().enumerate() {
                    let found = at(&out, tokens, token, head * size + column);
                    let error = (found - expected).abs();
                    assert!(error < 2e-5, "{} position {} head {head}: {found} {expected}", isa.name(), first + token);
                }
            }
        }
        first += tokens;
    }
}

#[test]
fn attention_is_the_weighted_mean_of_what_is_seen() {
    for isa in Isa::available() {
        check(isa, 9, 3, 64, usize::MAX, &[37, 1, 1, 16, 5, 1]);
        check(isa, 4, 1, 48, usize::MAX, &[1, 1, 3, 30]);
        check(isa, 2, 2, 16, usize::MAX, &[20, 1]);
        check(isa, 14, 2, 32, usize::MAX, &[5, 1, 1]);
    }
}

#[test]
fn a_window_hides_what_is_further_away() {
    for isa in Isa::available() {
        for window in [1, 7, 16, 33] {
            check(isa, 4, 2, 32, window, &[40, 1, 1, 9, 1]);
        }
    }
}

#[test]
fn contexts_longer_than_a_chunk_are_seen_to_their_begin() {
    for isa in Isa::available() {
        check(isa, 2, 1, 16, usize::MAX, &[CHUNK - 2, 1, 1, 1, 10]);
        check(isa, 2, 1, 16, 270, &[CHUNK, 21, 1]);
    }
}

/// One token's values, out of those of a batch.
fn row(values: &[f32], batch: usize, token: usize) -> Vec<u32> {
    values.chunks_exact(LANES).skip(token).step_by(batch).flatten().map(|value| value.to_bits()).collect()
}

#[test]
fn what_a_token_gets_does_not_depend_on_the_rest_of_its_batch() {
    const SPANS: [(usize, usize); 4] = [(300, 1), (0, 7), (255, 2), (40, 1)];
    let (team, heads, key_heads, size) = (Team::new(2), 6, 2, 32);
    let batch: usize = SPANS.iter().map(|(_, tokens)| tokens).sum();
    let fresh =
        |columns: usize, seed: usize| panels(columns, batch, |token, column| number(seed + token * 7001 + column));
    let (keys, values, queries) = (fresh(key_heads * size, 3), fresh(key_heads * size, 5), fresh(heads * size, 9));
    for isa in Isa::available() {
        for window in [usize::MAX, 50] {
            let attention = Attention { heads, scale: 0.3, window };
            let mut caches = SPANS.map(|(first, tokens)| {
                let mut cache = Cache::new(1, key_heads, size, first + tokens);
                let old = panels(key_heads * size, first.max(1), |token, column| number(token * 31 + column));
                let span = Span { start: 0, tokens: first, batch: first.max(1) };
                cache.store(isa, &team, 0, 0, span, &old, &old);
                cache
            });
            let mut start = 0;
            for (cache, (first, tokens)) in caches.iter_mut().zip(SPANS) {
                cache.store(isa, &team, 0, first, Span { start, tokens, batch }, &keys, &values);
                start += tokens;
            }
            let mut together = vec![f32::NAN; queries.len()];
            let sequences = caches.iter().zip(SPANS).map(|(cache, (first, tokens))| Sequence { cache, first, tokens });
            attend(isa, &team, &attention, 0, sequences.clone(), &queries, &mut together);
            let mut token = 0;
            for sequence in sequences {
                for position in 0..sequence.tokens {
                    let query: Vec<f32> = row(&queries, batch, token).into_iter().map(f32::from_bits).collect();
                    let alone = std::iter::once(Sequence { first: sequence.first + position, tokens: 1, ..sequence });
                    let mut out = vec![f32::NAN; query.len()];
                    attend(isa, &team, &attention, 0, alone, &query, &mut out);
                    assert_eq!(row(&out, 1, 0), row(&together, batch, token), "{} token {token}", isa.name());
                    token += 1;
                }
            }
        }
    }
}
