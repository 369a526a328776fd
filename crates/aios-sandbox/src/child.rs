//! The process of one call, from its birth to its end.

mod capabilities;
mod files;
pub mod filter;
mod root;

use std::{
    io::{self, Write as _},
    mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    panic,
    rc::Rc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{CWD, Mode, OFlags},
    process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid},
};

use crate::{
    Handler, Limits, Profile,
    layers::{Layer, Layers},
    plan::Plan,
    server::{outside, own_users},
    sys,
    wire::{self, Failure, Report},
};

pub use files::LANDLOCK_ABI;

/// Where the result goes.
const OUTPUT: RawFd = 3;
/// The control socket, until the handler runs.
const CONTROL: RawFd = 4;
/// Tells whether the server lives, until the handler runs.
const LEASE: RawFd = 5;

/// Descriptors that come with a request.
pub struct Streams<'a> {
    /// The profile, and then the input.
    pub memory: OwnedFd,
    /// For a report that nothing was run.
    pub control: BorrowedFd<'a>,
    /// Where the result goes.
    pub output: OwnedFd,
    /// Where standard output and error go.
    pub errors: OwnedFd,
}

/// What a call's process begins with.
pub struct Start<'a> {
    /// Layers in force.
    pub layers: Layers,
    /// What it may do.
    pub profile: Profile,
    /// System calls that it may make.
    pub filters: Rc<filter::Filters>,
    /// Mounts that it will see.
    pub plan: Plan,
    /// Gives one byte when the users are mapped, and is closed when the server is gone.
    pub lease: OwnedFd,
    /// Descriptors of the request.
    pub streams: Streams<'a>,
    /// Where in the memory the input begins.
    pub input_at: usize,
}

/// Confines the process and runs the handler.
pub fn run(start: Start<'_>, handler: Handler) -> ! {
    let input = match surround(&start) {
        Ok(input) => input,
        Err(failure) => give_up(start.streams.control, failure),
    };
    let Start { layers, profile, filters, plan, lease, streams, .. } = start;
    if let Err(error) = arrange_descriptors(&streams, &lease, &layers) {
        give_up(streams.control, Failure::at("descriptors")(error));
    }
    // Their numbers are closed, or belong to others by now: nothing may close them again.
    mem::forget((plan, lease, streams));
    if let Err(failure) = give_up_rights(&profile, &filters, &layers) {
        give_up(sys::borrow(CONTROL), failure);
    }
    let Ok(output) = panic::catch_unwind(|| handler(&input)) else { sys::exit(101) };
    let mut file = mem::ManuallyDrop::new(sys::adopt(OUTPUT));
    let written = file.write_all(&(output.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&output));
    sys::exit(if written.is_ok() { 0 } else { 1 })
}

/// Reports that nothing was run.
fn give_up(control: BorrowedFd<'_>, failure: Failure) -> ! {
    let _ = wire::send(control, &Report::Failed(failure), &[]);
    sys::exit(1)
}

/// Changes what the process sees: users, files, limits. Gives the input.
fn surround(start: &Start<'_>) -> Result<Vec<u8>, Failure> {
    let Start { layers, profile, plan, lease, streams, input_at, .. } = start;
    die_with_server(lease.as_fd())?;
    wait_for_users(lease.as_fd()).map_err(Failure::at("fork server"))?;
    become_user(profile)?;
    let input = wire::unseal(&streams.memory, *input_at, None).map_err(Failure::at("input"))?;
    sys::unshare_groups().map_err(|error| Failure::unsupported("control group namespaces", error))?;
    if layers.has(Layer::UtsNamespace) {
        rustix::system::sethostname(b"sandbox").map_err(Failure::during("host name"))?;
    }
    let own = root::build(profile, plan, layers)?;
    if layers.has(Layer::ResourceLimits) {
        limit(profile)?;
    }
    rustix::thread::set_no_new_privs(true).map_err(Failure::during("no_new_privs"))?;
    if layers.has(Layer::Landlock) {
        files::restrict(profile, plan, &own)?;
    }
    Ok(input)
}

/// Gives up what the process could do: capabilities, then system calls.
fn give_up_rights(profile: &Profile, filters: &filter::Filters, layers: &Layers) -> Result<(), Failure> {
    if layers.has(Layer::Capabilities) {
        capabilities::keep_only(profile).map_err(Failure::during("capabilities"))?;
    }
    // A change of users takes the first request back.
    die_with_server(sys::borrow(LEASE))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::during("dumpable"))?;
    if layers.has(Layer::Seccomp) {
        filter::install(filters)?;
    }
    if !layers.has(Layer::Descriptors) {
        return Ok(());
    }
    sys::close_from(CONTROL).map_err(Failure::at("descriptors"))
}

/// Asks for the end of this process when the server ends, and makes sure that it has not ended before.
fn die_with_server(lease: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::during("death signal"))?;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut watched = [PollFd::from_borrowed_fd(lease, PollFlags::empty())];
    rustix::event::poll(&mut watched, Some(&now)).map_err(Failure::during("fork server"))?;
    if watched[0].revents().contains(PollFlags::HUP) {
        sys::exit(1);
    }
    Ok(())
}

fn wait_for_users(lease: BorrowedFd<'_>) -> io::Result<()> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(lease, &mut byte))? {
        0 => sys::exit(1),
        _ => Ok(()),
    }
}

/// Takes on the profile's identity.
fn become_user(profile: &Profile) -> Result<(), Failure> {
    let failed = Failure::during("identity");
    let own_namespace = own_users(profile);
    let (uid, gid) = if own_namespace { (0, 0) } else { outside(profile.identity) };
    // Where nobody may choose groups there may be none to give up.
    if !rustix::process::getgroups().map_err(&failed)?.is_empty() {
        rustix::thread::set_thread_groups(&[]).map_err(&failed)?;
    }
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(&failed)?;
    if !own_namespace {
        rustix::thread::set_keep_capabilities(true).map_err(&failed)?;
    }
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(&failed)?;
    if !own_namespace {
        capabilities::raise_permitted().map_err(&failed)?;
    }
    Ok(())
}

/// Limits of the process itself. Those of all its processes together are its control group's.
fn limit(profile: &Profile) -> Result<(), Failure> {
    let Limits { memory_max, tasks_max, file_size_max, open_files_max, cpu_time, .. } = profile.limits;
    let mut limits = vec![
        (Resource::Core, 0),
        (Resource::Fsize, file_size_max),
        (Resource::Nofile, u64::from(open_files_max)),
        (Resource::Cpu, cpu_time.as_secs()),
        // Address space that is writable, touched or not: stacks of threads count here and hardly in the group.
        (Resource::Data, memory_max.saturating_mul(2)),
        (Resource::Memlock, 0),
    ];
    if profile.capabilities.is_empty() {
        // Counted within the call's own user namespace.
        limits.push((Resource::Nproc, u64::from(tasks_max)));
    }
    for (resource, value) in limits {
        let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let value = Some(value.min(hard));
        rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })
            .map_err(Failure::during("resource limits"))?;
    }
    Ok(())
}

/// Puts the descriptors that the process keeps into their places, and closes all others.
fn arrange_descriptors(streams: &Streams<'_>, lease: &OwnedFd, layers: &Layers) -> io::Result<()> {
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let places: [(BorrowedFd<'_>, RawFd, bool); 6] = [
        (null.as_fd(), 0, false),
        (streams.errors.as_fd(), 1, false),
        (streams.errors.as_fd(), 2, false),
        (streams.output.as_fd(), OUTPUT, true),
        (streams.control, CONTROL, true),
        (lease.as_fd(), LEASE, true),
    ];
    // Out of the way of the places first.
    let mut moved = Vec::new();
    for (from, to, close_on_exec) in places {
        moved.push((rustix::io::fcntl_dupfd_cloexec(from, LEASE + 1)?, to, close_on_exec));
    }
    for (from, to, close_on_exec) in &moved {
        sys::place(from.as_fd(), *to, *close_on_exec)?;
    }
    // What the last line closes is not closed again by its owners.
    mem::forget((null, moved));
    if layers.has(Layer::Descriptors) { sys::close_from(LEASE + 1) } else { Ok(()) }
}
