//! The families of decoders, and what each has that others have not.

/// What a family's models have in common.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Family {
    /// `general.architecture`, and what its metadata keys begin with.
    pub(super) name: &'static str,
    pub(super) pairs: Pairs,
    /// Whether each frequency of the rope may be divided by a factor of its own (`rope_freqs.weight`).
    pub(super) rope_factors: bool,
    /// Whether queries, keys and values have a bias each.
    pub(super) biases: bool,
    /// Whether queries and keys are normed, head by head, before they are turned.
    pub(super) head_norms: bool,
    /// Whether what attention and feed-forward add is normed before it is added.
    pub(super) post_norms: bool,
    pub(super) gate: Gate,
    /// Whether embeddings are multiplied by the square root of their length.
    pub(super) scaled_embedding: bool,
    /// Where most layers see only the nearest positions: how they alternate unless the file says otherwise.
    pub(super) local: Option<Alternation>,
    /// Models of so many layers divide scores by the root of `embedding / heads`, which is not their head size.
    pub(super) scale_of_shared: Option<usize>,
    /// Whether candle computes what the kernels can't.
    pub(super) candle: bool,
}

/// Which values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pairs {
    /// Neighbours: files of this family have the rows of queries and keys in that order.
    Adjacent,
    /// Those at the same place of both halves.
    Halves,
}

/// What the gate of the feed-forward network goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gate {
    Silu,
    /// The approximation by `tanh`.
    Gelu,
}

/// Local layers and global ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Alternation {
    /// Each layer of this number is global.
    pub(super) period: usize,
    /// Base of the local layers' rope.
    pub(super) rope_base: f64,
}

/// What Llama has.
const LLAMA: Family = Family {
    name: "llama",
    pairs: Pairs::Adjacent,
    rope_factors: true,
    biases: false,
    head_norms: false,
    post_norms: false,
    gate: Gate::Silu,
    scaled_embedding: false,
    local: None,
    scale_of_shared: None,
    candle: true,
};

/// What the others have beside it, as far as they are alike.
const OTHER: Family = Family { pairs: Pairs::Halves, rope_factors: false, candle: false, ..LLAMA };

/// All families.
static FAMILIES: [Family; 4] = [
    // SmolLM2, Llama 2 and 3, Mistral, and what else has their layers.
    LLAMA,
    // Qwen 2 and 2.5, and what was distilled into them.
    Family { name: "qwen2", biases: true, ..OTHER },
    Family { name: "qwen3", head_norms: true, ..OTHER },
    Family {
        name: "gemma3",
        head_norms: true,
        post_norms: true,
        gate: Gate::Gelu,
        scaled_embedding: true,
        local: Some(Alternation { period: 6, rope_base: 10_000.0 }),
        // The one with 27 billion weights.
        scale_of_shared: Some(62),
        ..OTHER
    },
];

impl Family {
    /// The family that files name `architecture`.
    pub(in crate::engine) fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == architecture)
    }
}
