//! How likely the model held the tokens of an answer, and others in their places.

/// A token of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of the model's own probability: at temperature 1, before `top_p` and before the answer's form left
    /// some tokens out. Negative infinity where the model gave none.
    pub logprob: f32,
    /// The likeliest tokens of this place with theirs, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Looks up `token` and the `top` likeliest in the logits of its place.
pub(super) fn logprob(logits: &[f32], token: u32, top: usize) -> TokenLogprob {
    let finite = || logits.iter().copied().filter(|logit| logit.is_finite());
    let highest = finite().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = finite().map(|logit| f64::from(logit - highest).exp()).sum();
    let normalizer = highest + total.ln() as f32;
    let of = |token: u32| match logits.get(token as usize) {
        Some(logit) if logit.is_finite() => logit - normalizer,
        _ => f32::NEG_INFINITY,
    };
    TokenLogprob { token, logprob: of(token), top: likeliest(logits, top).map(|token| (token, of(token))).collect() }
}

/// The `count` likeliest tokens in order; of equally likely ones, the first.
fn likeliest(logits: &[f32], count: usize) -> impl Iterator<Item = u32> + use<> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    for (&logit, token) in logits.iter().zip(0..) {
        let room = best.len() < count || best.last().is_some_and(|&(least, _)| logit > least);
        if room && logit.is_finite() {
            let place = best.partition_point(|&(other, _)| other >= logit);
            best.insert(place, (logit, token));
            best.truncate(count);
        }
    }
    best.into_iter().map(|(_, token)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let logits = [1.0, 3.0, f32::NAN, 2.0, 3.0, f32::NEG_INFINITY];
        let total: f64 = [1.0f64, 3.0, 2.0, 3.0].iter().map(|logit| logit.exp()).sum();
        let found = logprob(&logits, 3, 3);
        assert!((f64::from(found.logprob) - (2f64.exp() / total).ln()).abs() < 1e-6);
        let top: Vec<u32> = found.top.iter().map(|(token, _)| *token).collect();
        assert_eq!(top, [1, 4, 3]);
        assert_eq!(found.top[2].1, found.logprob);
        let all: f64 = logprob(&logits, 0, 6).top.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!((all - 1.0).abs() < 1e-6, "{all}");
        assert_eq!(logprob(&logits, 2, 0), TokenLogprob { token: 2, logprob: f32::NEG_INFINITY, top: Vec::new() });
    }
}
