//! From logits to the next token.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::constraint::TokenSet;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; above, logits are divided by it before the draw. At most [`Sampling::MAX_TEMPERATURE`].
    pub temperature: f32,
    /// The draw is among the likeliest tokens that together reach this probability; 1 means all of them.
    pub top_p: f32,
    /// Same seed, model, prompt and thread count: same tokens. `None` draws a seed.
    pub seed: Option<u64>,
}

/// A parameter outside of its range.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Temperature out of range.
    #[error("temperature must be from 0 to 2, not {0}")]
    Temperature(f32),
    /// Nucleus probability out of range.
    #[error("top_p must be above 0 and at most 1, not {0}")]
    TopP(f32),
}

/// No token can be chosen, as no logit of an allowed one is a number: the model file is damaged or the arithmetic
/// overflowed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the model produced no finite logit")]
pub struct NoFiniteLogit;

impl Sampling {
    /// Upper bound of the temperature, as in OpenAI's API.
    pub const MAX_TEMPERATURE: f32 = 2.0;

    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: None };

    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), SamplingError> {
        // Written so that NaN fails.
        if !(0.0..=Self::MAX_TEMPERATURE).contains(&self.temperature) {
            return Err(SamplingError::Temperature(self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SamplingError::TopP(self.top_p));
        }
        Ok(())
    }
}

/// Draws tokens; holds the random state and the scratch space of one generation.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    random: StdRng,
    candidates: Vec<(u32, f32)>,
}

/// What e to the power of it counts beside 1 is nothing: of so many tokens as any model has it is lost in the rounding of
/// their sum. Most of a vocabulary is below it.
const NOTHING: f32 = -32.0;

impl Sampler {
    /// A sampler with its own random state.
    pub fn new(sampling: &Sampling) -> Result<Self, SamplingError> {
        sampling.validate()?;
        let random = StdRng::seed_from_u64(sampling.seed.unwrap_or_else(rand::random));
        Ok(Self { temperature: sampling.temperature, top_p: sampling.top_p, random, candidates: Vec::new() })
    }

    /// Chooses a token by its logits, of those `allowed` where only some are; those that are not finite are never chosen.
    ///
    /// Where one token alone is allowed, the random state stays as it is: whether a token was forced by a grammar or left
    /// over by it makes no difference to what is drawn after it.
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&TokenSet>) -> Result<u32, NoFiniteLogit> {
        match allowed {
            None => {
                let best = likeliest(logits).ok_or(NoFiniteLogit)?;
                self.draw(best, logits.iter().copied().zip(0..))
            }
            Some(allowed) => {
                let candidates = || allowed.iter().filter_map(|token| Some((*logits.get(token as usize)?, token)));
                let best = likeliest_of(candidates()).ok_or(NoFiniteLogit)?;
                if candidates().nth(1).is_none() {
                    return Ok(best.1);
                }
                self.draw(best, candidates())
            }
        }
    }

    fn draw(
        &mut self,
        (highest, best): (f32, u32),
        candidates: impl Iterator<Item = (f32, u32)>,
    ) -> Result<u32, NoFiniteLogit> {
        if self.temperature == 0.0 {
            return Ok(best);
        }
        let mut total = 0.0;
        self.candidates.clear();
        let counted = |(logit, _): &(f32, u32)| logit.is_finite() && (logit - highest) / self.temperature > NOTHING;
        for (logit, token) in candidates.filter(counted) {
            let weight = ((logit - highest) / self.temperature).exp();
            total += weight;
            self.candidates.push((token, weight));
        }
        if self.top_p < 1.0 {
            total = nucleus(&mut self.candidates, total * self.top_p);
        }
        let mut left = self.random.random::<f32>() * total;
        for &(token, weight) in &self.candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(token);
            }
        }
        // Rounding may leave a remainder above zero.
        Ok(best)
    }
}

/// The largest logit that is finite, and the first token that has it.
///
/// All of a vocabulary is looked at for each token: so most of it in one go, without asking which of some hundred it is.
pub(crate) fn likeliest(logits: &[f32]) -> Option<(f32, u32)> {
    const AT_ONCE: usize = 128;
    let mut best: Option<(f32, u32)> = None;
    for (start, part) in (0..).step_by(AT_ONCE).zip(logits.chunks(AT_ONCE)) {
        let highest = best.map_or(f32::NEG_INFINITY, |(highest, _)| highest);
        if part.iter().fold(false, |above, logit| above | (*logit > highest)) {
            best = likeliest_of(part.iter().copied().zip(start..)).filter(|(logit, _)| *logit > highest).or(best);
        }
    }
    best
}

fn likeliest_of(logits: impl Iterator<Item = (f32, u32)>) -> Option<(f32, u32)> {
    let mut best: Option<(f32, u32)> = None;
    for (logit, token) in logits {
        if logit.is_finite() && best.is_none_or(|(highest, _)| logit > highest) {
            best = Some((logit, token));
        }
    }
    best
}

/// Shortens `candidates` to the heaviest that together reach `target`, and returns their weight.
///
/// The nucleus is usually a handful of a vocabulary of 50,000 and more, so it is sought among growing heads of the order
/// instead of by a full sort.
fn nucleus(candidates: &mut Vec<(u32, f32)>, target: f32) -> f32 {
    let heavier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut head = 64.min(candidates.len());
    loop {
        if head < candidates.len() {
            candidates.select_nth_unstable_by(head, heavier);
        }
        candidates[..head].sort_unstable_by(heavier);
        let mut sum = 0.0;
        for index in 0..head {
            sum += candidates[index].1;
            if sum >= target {
                candidates.truncate(index + 1);
                return sum;
            }
        }
        if head == candidates.len() {
            return sum;
        }
        head = (head * 8).min(candidates.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(&Sampling { temperature, top_p, seed: Some(seed) }).unwrap()
    }

    #[test]
    fn temperature_zero_takes_the_likeliest() {
        assert_eq!(sampler(0.0, 1.0, 1).sample(&[0.0, 3.0, f32::NAN, 2.0, f32::INFINITY], None), Ok(1));
    }

    #[test]
    fn the_likeliest_is_the_first_of_equals_wherever_it_is() {
        for at in [0, 1, 127, 128, 129, 500, 999] {
            let mut logits: Vec<f32> = (0..1000).map(|index| -((index % 90) as f32) - 1.0).collect();
            logits[at..].fill(0.5);
            logits[990] = f32::INFINITY;
            logits[991] = f32::NAN;
            assert_eq!(likeliest(&logits), Some((0.5, at as u32)));
        }
        assert_eq!(likeliest(&[f32::MIN; 300]), Some((f32::MIN, 0)));
        assert_eq!(likeliest(&[f32::NEG_INFINITY; 300]), None);
    }

    #[test]
    fn logits_without_a_finite_one_are_an_error() {
        assert_eq!(sampler(0.0, 1.0, 1).sample(&[f32::NAN, f32::NEG_INFINITY], None), Err(NoFiniteLogit));
        assert_eq!(sampler(1.0, 0.5, 1).sample(&[], None), Err(NoFiniteLogit));
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 7) as f32 * 0.3).collect();
        let draw = |seed| {
            let mut sampler = sampler(1.0, 0.95, seed);
            (0..50).map(|_| sampler.sample(&logits, None).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_nucleus_leaves_out_the_tail() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()];
        let mut sampler = sampler(1.0, 0.7, 3);
        let mut seen = [0; 4];
        for _ in 0..3000 {
            seen[sampler.sample(&logits, None).unwrap() as usize] += 1;
        }
        assert_eq!(seen[2] + seen[3], 0);
        let share = f64::from(seen[0]) / 3000.0;
        assert!((share - 2.0 / 3.0).abs() < 0.04, "token 0 drawn in {share} of cases");
    }

    #[test]
    fn only_what_is_allowed_is_chosen_and_by_its_share_among_the_allowed() {
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()];
        let mut allowed = TokenSet::alloc(4);
        allowed.allow_token(1);
        allowed.allow_token(3);
        let mut sampler = sampler(1.0, 1.0, 3);
        let mut seen = [0; 4];
        for _ in 0..3000 {
            seen[sampler.sample(&logits, Some(&allowed)).unwrap() as usize] += 1;
        }
        assert_eq!((seen[0], seen[2]), (0, 0));
        let share = f64::from(seen[1]) / 3000.0;
        assert!((share - 2.0 / 3.0).abs() < 0.04, "token 1 drawn in {share} of cases");
        assert_eq!(self::sampler(0.0, 1.0, 3).sample(&[9.0, 1.0, 8.0, 2.0], Some(&allowed)), Ok(3));
        assert_eq!(sampler.sample(&[1.0, f32::NAN, 1.0, f32::NAN], Some(&allowed)), Err(NoFiniteLogit));
    }

    #[test]
    fn a_token_without_an_alternative_draws_nothing() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 7) as f32 * 0.3).collect();
        let mut one = TokenSet::alloc(500);
        one.allow_token(77);
        let (mut with, mut without) = (sampler(1.0, 0.95, 7), sampler(1.0, 0.95, 7));
        for _ in 0..50 {
            assert_eq!(with.sample(&logits, Some(&one)), Ok(77));
            assert_eq!(with.sample(&logits, None), without.sample(&logits, None));
        }
    }

    #[test]
    fn draws_follow_the_probabilities_over_a_large_vocabulary() {
        let mut logits = vec![-2.0f32; 5000];
        logits[4321] = -2.0 + 5000f32.ln();
        let mut sampler = sampler(1.0, 1.0, 5);
        let hits = (0..2000).filter(|_| sampler.sample(&logits, None).unwrap() == 4321).count();
        assert!((900..1100).contains(&hits), "{hits} of 2000");
    }

    #[test]
    fn a_nucleus_wider_than_the_first_head_keeps_its_weight() {
        let mut candidates: Vec<(u32, f32)> = (0..1000).map(|i| (i, 1.0)).collect();
        let sum = nucleus(&mut candidates, 700.0);
        assert_eq!((candidates.len(), sum), (700, 700.0));
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for (temperature, top_p) in [(-0.1, 1.0), (2.1, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f32::NAN)]
        {
            assert!(Sampling { temperature, top_p, seed: None }.validate().is_err(), "{temperature} {top_p}");
        }
    }
}
