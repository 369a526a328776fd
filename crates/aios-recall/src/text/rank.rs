//! BM25: what a term says of a text.
//!
//! S. Robertson, H. Zaragoza: The Probabilistic Relevance Framework: BM25 and Beyond (2009), with the inverse document
//! frequency that is never negative: ln(1 + (N - n + 0.5) / (n + 0.5)) for a term in n of N texts.

/// How soon more occurrences of a term say nothing new; no unit.
pub const K1: f64 = 1.2;
/// How much a text's length counts: 0 not at all, 1 in full.
pub const B: f64 = 0.75;

/// What a term says of texts in one index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// Inverse document frequency, times how often the query has the term, times K1 + 1.
    scale: f64,
    /// K1 * (1 - B).
    flat: f64,
    /// K1 * B / mean length of a text.
    slope: f64,
}

impl Weight {
    /// Of a term that is `times` in the query, and in `with` of `texts` texts that have `terms` terms together.
    pub fn new(times: u32, with: u64, texts: u64, terms: u64) -> Weight {
        let (with, texts) = (with as f64, texts as f64);
        let rarity = (1.0 + (texts - with + 0.5).max(0.0) / (with + 0.5)).ln();
        let mean = (terms as f64 / texts).max(f64::MIN_POSITIVE);
        Weight { scale: rarity * f64::from(times) * (K1 + 1.0), flat: K1 * (1.0 - B), slope: K1 * B / mean }
    }

    /// Score of a text of `length` terms that has the term `times`.
    pub fn score(self, times: u32, length: u32) -> f64 {
        let times = f64::from(times);
        self.scale * times / (times + self.flat + self.slope * f64::from(length))
    }
}
