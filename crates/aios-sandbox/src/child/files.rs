//! Landlock: rights on what is shown, on ports, and on processes and abstract sockets outside.

use std::os::fd::AsFd as _;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::root::Own;
use crate::{
    Capability, Network, Processes, Profile,
    plan::{self, Plan},
    wire::Failure,
};

/// The interface that is needed, of Linux 6.12: the first that keeps signals and abstract sockets inside.
pub const LANDLOCK_ABI: u32 = 6;
const NEEDED: ABI = ABI::V6;

/// Restricts this process and all that it starts.
pub fn restrict(profile: &Profile, plan: &Plan, own: &Own) -> Result<(), Failure> {
    let missing = |reason: String| Failure::unsupported("Landlock", reason);
    let status = rules(profile, plan, own).and_then(|rules| rules.restrict_self());
    let status = status.map_err(|error| missing(error.to_string()))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        partial => Err(missing(format!("rules are in force in part only: {partial:?}"))),
    }
}

fn rules(profile: &Profile, plan: &Plan, own: &Own) -> Result<landlock::RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .scope(Scope::AbstractUnixSocket)?;
    if !(profile.capabilities.contains(&Capability::Kill) && profile.processes == Processes::Host) {
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    if profile.network == Network::None {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEEDED))?;
    }
    let mut created = ruleset.create()?;
    for shown in &plan.shown {
        let granted = rights(shown.access);
        let granted = if shown.directory { granted } else { granted & AccessFs::from_file(NEEDED) };
        if !granted.is_empty() {
            created = created.add_rule(PathBeneath::new(shown.mount.as_fd(), granted))?;
        }
    }
    for (mount, access) in [(&own.proc, plan::Access::Read), (&own.scratch, plan::Access::Write)] {
        if let Some(mount) = mount {
            created = created.add_rule(PathBeneath::new(mount.as_fd(), rights(access)))?;
        }
    }
    Ok(created)
}

/// Rights that an access stands for.
fn rights(access: plan::Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match access {
        plan::Access::Socket => BitFlags::empty(),
        plan::Access::Read => read,
        plan::Access::Execute => read | AccessFs::Execute,
        plan::Access::Write => {
            let never = AccessFs::Execute
                | AccessFs::IoctlDev
                | AccessFs::MakeChar
                | AccessFs::MakeBlock
                | AccessFs::MakeSock
                | AccessFs::MakeFifo;
            AccessFs::from_all(NEEDED) & !never
        }
        plan::Access::Device => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
    }
}
