//! Which instructions are used.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::fmt;
use std::str::FromStr;

/// A set of vector instructions that this CPU has: there is no way to have one that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// What every CPU has.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI, and what AVX2 stands for.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW, VL and VNNI, and what AVX2 stands for.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// What every 64-bit Arm CPU has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with dot products of bytes, as Armv8.2 and later mostly have.
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    /// Those, and products of matrices of bytes, as Armv8.6 and later have.
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

impl Isa {
    /// The fastest one.
    pub fn detect() -> Self {
        Self::available().last().copied().expect("invariant: every CPU has the portable one")
    }

    /// All that this CPU has, the slowest first.
    pub fn available() -> Vec<Self> {
        [
            Some(Kind::Portable),
            #[cfg(target_arch = "x86_64")]
            has_avx2().then_some(Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            (has_avx2() && is_x86_feature_detected!("avxvnni")).then_some(Kind::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            (has_avx2() && has_avx512()).then_some(Kind::Avx512),
            #[cfg(target_arch = "aarch64")]
            Some(Kind::Neon),
            #[cfg(target_arch = "aarch64")]
            is_aarch64_feature_detected!("dotprod").then_some(Kind::Dotprod),
            #[cfg(target_arch = "aarch64")]
            (is_aarch64_feature_detected!("dotprod") && is_aarch64_feature_detected!("i8mm")).then_some(Kind::I8mm),
        ]
        .into_iter()
        .flatten()
        .map(Self)
        .collect()
    }

    /// `portable`, `avx2`, `avxvnni`, `avx512`, `neon`, `dotprod` or `i8mm`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => "i8mm",
        }
    }

    /// Whether this is what every CPU has, which is far slower than the others.
    pub fn is_portable(self) -> bool {
        self.0 == Kind::Portable
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is not that of instructions this CPU has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaError(String);

impl fmt::Display for IsaError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        write!(formatter, "{:?} is not among the instructions of this CPU: {}", self.0, names.join(", "))
    }
}

impl std::error::Error for IsaError {}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        Self::available().into_iter().find(|isa| isa.name() == name).ok_or_else(|| IsaError(name.to_owned()))
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_available_set_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "mmx".parse::<Isa>().unwrap_err().to_string();
        assert!(error.starts_with("\"mmx\" is not among the instructions of this CPU: portable"), "{error}");
    }

    /// Whoever runs the tests for an instruction set names it, lest they pass on a CPU without it.
    #[test]
    fn the_set_that_the_environment_names_is_available() {
        if let Ok(name) = std::env::var("AIOS_TEST_ISA") {
            name.parse::<Isa>().unwrap();
        }
    }
}
