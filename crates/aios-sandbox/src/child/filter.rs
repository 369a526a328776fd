//! seccomp: the system calls that are answered. All others give `EPERM`.

mod calls;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{Capability, Network, Processes, Profile, wire::Failure};

/// Rules of a call: none means whatever the arguments.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// New namespaces, by `clone`.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64
    | 0x80; // CLONE_NEWTIME
/// Keys typed into the terminal of somebody else: `TIOCSTI`, `TIOCLINUX`.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541C];
/// Questions and names only: nothing here changes who may end, trace or dump the process.
const PRCTL: [libc::c_int; 6] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_VMA,
];
/// Netlink families with something for tools: routes, sockets, netfilter, generic.
const NETLINK: [libc::c_int; 4] =
    [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_NETFILTER, libc::NETLINK_GENERIC];

/// Refuses from now on what the profile has no need of. Nothing takes this back.
pub fn install(profile: &Profile) -> Result<(), Failure> {
    let failed = |reason: String| Failure::unsupported("seccomp", reason);
    for filter in compile(profile).map_err(|error| failed(error.to_string()))? {
        seccompiler::apply_filter(&filter).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

fn compile(profile: &Profile) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch: seccompiler::TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let allowed = SeccompFilter::new(rules(profile)?, refused, SeccompAction::Allow, arch)?;
    // Its flags lie in memory, where no filter can look. "Not there" makes C libraries take `clone`, which can be looked at.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    // The second to be installed refuses to install more.
    Ok([absent.try_into()?, allowed.try_into()?])
}

fn rules(profile: &Profile) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = calls::ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let programs = !profile.execute.is_empty();
    rules.insert(libc::SYS_clone3, Vec::new());
    let thread = if programs { 0 } else { libc::CLONE_THREAD as u64 };
    let clone = SeccompCmpOp::MaskedEq(NEW_NAMESPACES | thread);
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpArgLen::Qword, clone, thread)?]);
    if programs {
        rules.extend(calls::PROGRAMS.iter().map(|call| (*call, Vec::new())));
    }
    let executable = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let data_only = when(2, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(executable), 0)?;
        rules.insert(call, if programs { Vec::new() } else { vec![data_only] });
    }
    let not_terminals = TERMINAL_INPUT
        .iter()
        .map(|request| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *request))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(not_terminals)?]);
    rules.insert(libc::SYS_prctl, any_of(0, PRCTL.iter().map(|option| *option as u64))?);
    // To ask only: the new limits are null, of itself.
    rules.insert(libc::SYS_prlimit64, vec![when(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?]);
    rules.insert(libc::SYS_socketpair, vec![when(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?]);
    network(profile, &mut rules)?;
    for capability in &profile.capabilities {
        rules.extend(calls::of(*capability).iter().map(|call| (*call, Vec::new())));
    }
    if profile.processes == Processes::Host && profile.capabilities.contains(&Capability::Kill) {
        rules.extend(calls::PROCESSES.iter().map(|call| (*call, Vec::new())));
    }
    Ok(rules)
}

/// Sockets, by family.
fn network(profile: &Profile, rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let mut families = Vec::new();
    if profile.network == Network::Host {
        families.extend([libc::AF_INET, libc::AF_INET6]);
        if profile.capabilities.contains(&Capability::NetRaw) {
            families.push(libc::AF_PACKET);
        }
    }
    if !profile.sockets.is_empty() {
        families.push(libc::AF_UNIX);
    }
    let mut socket = any_of(0, families.iter().map(|family| *family as u64))?;
    if profile.network == Network::Host {
        for protocol in NETLINK {
            socket.push(SeccompRule::new(vec![
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_NETLINK as u64)?,
                SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, protocol as u64)?,
            ])?);
        }
    }
    if !socket.is_empty() {
        rules.insert(libc::SYS_socket, socket);
        rules.extend(calls::SOCKETS.iter().map(|call| (*call, Vec::new())));
    }
    Ok(())
}

fn when(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
}

fn any_of(argument: u8, values: impl Iterator<Item = u64>) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.map(|value| when(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)).collect()
}
