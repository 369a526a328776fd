//! The families of decoders, and what each has that others have not.

/// What a family's models have in common.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Family {
    /// `general.architecture`, and what its metadata keys begin with.
    pub(super) name: &'static str,
}

/// All families.
static FAMILIES: [Family; 1] = [
    // SmolLM2, Llama 2 and 3, Mistral, and what else has their layers.
    Family { name: "llama" },
];

impl Family {
    /// The family that files name `architecture`.
    pub(in crate::engine) fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == architecture)
    }

    /// The names of all families.
    pub(in crate::engine) fn names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|family| family.name)
    }
}
