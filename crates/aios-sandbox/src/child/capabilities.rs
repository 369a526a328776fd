//! Capabilities: all are given up but the profile's, in every set from which one could come back.

use rustix::{
    io::{self, Errno},
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets},
};

use crate::Profile;

/// Numbers are below this in every kernel so far; a kernel says which of them it knows.
const NUMBERS: u32 = 64;

/// After a change of user: what is permitted has effect again.
pub fn raise_permitted() -> io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets })
}

/// Gives up all but the profile's.
pub fn keep_only(profile: &Profile) -> io::Result<()> {
    let bits = profile.capabilities.iter().fold(0, |bits, capability| bits | 1_u64 << *capability as u32);
    let kept = CapabilitySet::from_bits_retain(bits);
    for number in 0..NUMBERS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    if !profile.execute.is_empty() {
        // Programs that the call starts have the same; a program's own set-id bits and capabilities count for nothing.
        let sets = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(None, CapabilitySets { inheritable: kept, ..sets })?;
        for capability in kept.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    rustix::thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    let inheritable = if profile.execute.is_empty() { CapabilitySet::empty() } else { kept };
    rustix::thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}
