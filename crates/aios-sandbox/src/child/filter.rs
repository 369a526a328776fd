//! seccomp: the system calls that are answered. All others give `EPERM`.

mod calls;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

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

/// Filters in the kernel's form, in the order in which they are installed.
pub type Filters = [BpfProgram; 2];

/// Filters that were made before. Making one takes longer than the rest of a call's confinement.
#[derive(Default)]
pub struct Cache(BTreeMap<Kind, Rc<Filters>>);

/// What of a profile decides on its filters.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    programs: bool,
    sockets: bool,
    host_network: bool,
    host_processes: bool,
    capabilities: BTreeSet<Capability>,
}

impl Cache {
    /// The filters for a profile.
    pub fn get(&mut self, profile: &Profile) -> Result<Rc<Filters>, Failure> {
        let kind = Kind {
            programs: !profile.execute.is_empty(),
            sockets: !profile.sockets.is_empty(),
            host_network: profile.network == Network::Host,
            host_processes: profile.processes == Processes::Host,
            capabilities: profile.capabilities.clone(),
        };
        if let Some(filters) = self.0.get(&kind) {
            return Ok(filters.clone());
        }
        let filters = compile(&kind).map_err(|error| Failure::unsupported("seccomp", error))?;
        Ok(self.0.entry(kind).or_insert(Rc::new(filters)).clone())
    }
}

/// Refuses from now on what the profile has no need of. Nothing takes this back.
pub fn install(filters: &Filters) -> Result<(), Failure> {
    let installed = filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter));
    installed.map_err(|error| Failure::unsupported("seccomp", error))
}

fn compile(kind: &Kind) -> Result<Filters, seccompiler::BackendError> {
    let arch: seccompiler::TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let allowed = SeccompFilter::new(rules(kind)?, refused, SeccompAction::Allow, arch)?;
    // Its flags lie in memory, where no filter can look. "Not there" makes C libraries take `clone`, which can be looked at.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    // The second to be installed refuses to install more.
    Ok([absent.try_into()?, allowed.try_into()?])
}

fn rules(kind: &Kind) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = calls::ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let programs = kind.programs;
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
    network(kind, &mut rules)?;
    for capability in &kind.capabilities {
        rules.extend(calls::of(*capability).iter().map(|call| (*call, Vec::new())));
    }
    if kind.host_processes && kind.capabilities.contains(&Capability::Kill) {
        rules.extend(calls::PROCESSES.iter().map(|call| (*call, Vec::new())));
        // musl keeps a thread's number from before `clone3`, the fork server's, and its `raise` and `abort` would hit that
        // one. Refused, `abort` goes on to end its own process.
        rules.remove(&libc::SYS_tkill);
    }
    Ok(rules)
}

/// Sockets, by family.
fn network(kind: &Kind, rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let mut families = Vec::new();
    if kind.host_network {
        families.extend([libc::AF_INET, libc::AF_INET6]);
        if kind.capabilities.contains(&Capability::NetRaw) {
            families.push(libc::AF_PACKET);
        }
    }
    if kind.sockets {
        families.push(libc::AF_UNIX);
    }
    let mut socket = any_of(0, families.iter().map(|family| *family as u64))?;
    if kind.host_network {
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
