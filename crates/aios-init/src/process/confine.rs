//! What a unit's processes can reach: Landlock's rules, which hold for all that they start and can't be taken back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use crate::layout::Layout;
use crate::unit::{Confine, Unit};

/// Of Linux 6.12, which the images have: the first that keeps signals and abstract sockets inside.
const NEEDED: ABI = ABI::V6;

/// Restricts this process, which becomes the unit's.
pub fn confine(unit: &Unit, confine: &Confine, layout: &Layout) -> Result<(), String> {
    let status = rules(unit, confine, layout)?.restrict_self().map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        partial => Err(format!("the kernel's rules are in force in part only: {partial:?}")),
    }
}

fn rules(unit: &Unit, confine: &Confine, layout: &Layout) -> Result<RulesetCreated, String> {
    let text = |error: landlock::RulesetError| format!("Landlock: {error}");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEEDED)))
        .map_err(text)?;
    let ports = [(AccessNet::BindTcp, &confine.bind_tcp), (AccessNet::ConnectTcp, &confine.connect_tcp)];
    for (access, _) in ports.iter().filter(|(_, ports)| ports.is_some()) {
        ruleset = ruleset.handle_access(*access).map_err(text)?;
    }
    let mut created = ruleset.create().map_err(text)?;
    for (path, rights) in paths(unit, confine, layout) {
        created = allow(created, &path, rights)?;
    }
    for (access, ports) in ports {
        for port in ports.iter().flatten() {
            created = created.add_rule(NetPort::new(*port, access)).map_err(text)?;
        }
    }
    Ok(created)
}

/// The paths with the rights to all that is below them.
fn paths(unit: &Unit, confine: &Confine, layout: &Layout) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let never = AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock;
    let write = AccessFs::from_all(NEEDED) & !never;
    let execute = read | AccessFs::Execute;
    let all = |paths: &[PathBuf], rights| paths.iter().map(move |path| (path.clone(), rights)).collect::<Vec<_>>();
    let runtime = unit.runtime_directory.iter().map(|name| (layout.runtime.join(name), write));
    let state = unit.state_directory.iter().map(|name| (layout.data.join(name), write));
    let credentials = (layout.credentials.join(&unit.name), read);
    let program = unit.command.first().map(|program| (PathBuf::from(program), execute));
    let null = (PathBuf::from("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile);
    let stated = [all(&confine.read, read), all(&confine.write, write), all(&confine.execute, execute)].concat();
    stated.into_iter().chain(runtime).chain(state).chain(program).chain([credentials, null]).collect()
}

/// Allows something. What does not exist is left out.
fn allow(created: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let opened = match PathFd::new(path) {
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(created),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEEDED) };
    created.add_rule(PathBeneath::new(opened, rights)).map_err(|error| format!("{}: {error}", path.display()))
}
