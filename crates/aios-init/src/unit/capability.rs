//! Linux capabilities by the names that the manual page uses.

use rustix::thread::CapabilitySet;

/// One capability, written `CAP_NET_ADMIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Capability(CapabilitySet);

impl Capability {
    pub fn union(capabilities: Vec<Capability>) -> CapabilitySet {
        capabilities.into_iter().map(|capability| capability.0).collect()
    }
}

impl TryFrom<String> for Capability {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let set = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
        set.map(Capability)
            .ok_or_else(|| format!("\"{name}\" is not a capability; write for example \"CAP_NET_ADMIN\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, number) in
            [("CAP_CHOWN", 0), ("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(Capability::try_from(name.to_string()).map(|capability| capability.0.bits()), Ok(1 << number));
        }
        assert!(Capability::try_from("NET_ADMIN".to_string()).is_err());
        assert!(Capability::try_from("CAP_net_admin".to_string()).is_err());
    }
}
