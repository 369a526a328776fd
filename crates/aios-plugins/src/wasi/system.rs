//! Arguments, clocks, randomness, waiting.

use std::time::{Duration, Instant, SystemTime};

use rustix::{
    rand::{GetRandomFlags, getrandom},
    time::{ClockId, clock_gettime},
};

use super::{Done, Fail, Guest, Stop, abi::Errno, files::Open};

/// Most things that are waited for at once.
const SUBSCRIPTIONS_MAX: u32 = 64;
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// Kinds of what is waited for.
const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;
/// A clock's time is one of the clock, not one from now on.
const ABSOLUTE: u16 = 1;

pub(super) fn args_sizes_get(guest: &mut Guest<'_>, count: u32, bytes: u32) -> Done {
    let arguments = &guest.state.arguments;
    let length: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    guest.memory.put_u32(count, u32::try_from(arguments.len()).map_err(|_| Errno::OVERFLOW)?)?;
    Ok(guest.memory.put_u32(bytes, u32::try_from(length).map_err(|_| Errno::OVERFLOW)?)?)
}

pub(super) fn args_get(guest: &mut Guest<'_>, pointers: u32, texts: u32) -> Done {
    let (mut pointer, mut text) = (pointers, texts);
    let next = |at: u32, by: usize| u32::try_from(by).ok().and_then(|by| at.checked_add(by)).ok_or(Errno::FAULT);
    for argument in &guest.state.arguments {
        guest.memory.put_u32(pointer, text)?;
        guest.memory.put(text, argument)?;
        text = next(text, argument.len())?;
        guest.memory.put(text, &[0])?;
        (pointer, text) = (next(pointer, 4)?, next(text, 1)?);
    }
    Ok(())
}

/// There are no variables.
pub(super) fn environ_sizes_get(guest: &mut Guest<'_>, count: u32, bytes: u32) -> Done {
    guest.memory.put_u32(count, 0)?;
    Ok(guest.memory.put_u32(bytes, 0)?)
}

pub(super) fn environ_get(_: &mut Guest<'_>, _pointers: u32, _texts: u32) -> Done {
    Ok(())
}

pub(super) fn sched_yield(_: &mut Guest<'_>) -> Done {
    Ok(())
}

fn clock(number: u32) -> Result<ClockId, Errno> {
    match number {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn clock_res_get(guest: &mut Guest<'_>, number: u32, at: u32) -> Done {
    clock(number)?;
    Ok(guest.memory.put_u64(at, 1)?)
}

pub(super) fn clock_time_get(guest: &mut Guest<'_>, number: u32, _precision: u64, at: u32) -> Done {
    let time = nanoseconds(clock(number)?);
    Ok(guest.memory.put_u64(at, time)?)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

pub(super) fn random_get(guest: &mut Guest<'_>, at: u32, length: u32) -> Done {
    // A random byte costs more than a copied one.
    guest.copies(u64::from(length) * 8);
    for chunk in guest.memory.bytes_mut(at, length)?.chunks_mut(256) {
        // Up to 256 bytes are given at once.
        getrandom(chunk, GetRandomFlags::empty())?;
    }
    Ok(())
}

/// Waits for the first of some clocks. Files and streams are always ready.
pub(super) fn poll_oneoff(guest: &mut Guest<'_>, subscriptions: u32, events: u32, count: u32, at: u32) -> Done {
    if !(1..=SUBSCRIPTIONS_MAX).contains(&count) {
        return Err(Errno::INVAL.into());
    }
    let mut waiting = Vec::new();
    for index in 0..count {
        let entry = subscriptions.checked_add(SUBSCRIPTION * index).ok_or(Errno::FAULT)?;
        guest.memory.bytes(entry, SUBSCRIPTION)?;
        waiting.push(subscription(guest, entry)?);
    }
    let first = waiting.iter().map(|waiting| waiting.after).min().expect("invariant: there is one at least");
    let left = guest.state.deadline.saturating_duration_since(Instant::now());
    if first >= left {
        // It would not live to see it.
        return Err(Fail::Stop(Stop::Time));
    }
    std::thread::sleep(first);
    let mut happened = 0;
    for waiting in waiting.iter().filter(|waiting| waiting.after <= first) {
        let mut event = [0; EVENT as usize];
        event[..8].copy_from_slice(&waiting.user.to_le_bytes());
        event[8..10].copy_from_slice(&waiting.errno.to_le_bytes());
        event[10] = waiting.kind;
        event[16] = u8::from(waiting.kind != CLOCK);
        let place = events.checked_add(EVENT * happened).ok_or(Errno::FAULT)?;
        guest.memory.put(place, &event)?;
        happened += 1;
    }
    Ok(guest.memory.put_u32(at, happened)?)
}

/// Something that is waited for.
struct Waiting {
    /// What the program knows it by.
    user: u64,
    kind: u8,
    errno: u16,
    after: Duration,
}

fn subscription(guest: &Guest<'_>, at: u32) -> Result<Waiting, Fail> {
    let memory = &guest.memory;
    let (user, kind) = (memory.u64(at)?, memory.bytes(at, SUBSCRIPTION)?[8]);
    let (errno, after) = match kind {
        CLOCK => (Errno::SUCCESS, until(clock(memory.u32(at + 16)?)?, memory.u64(at + 24)?, memory.u16(at + 40)?)),
        READ | WRITE => match guest.state.files.get(memory.u32(at + 16)?) {
            Ok(Open::Folder(_)) | Err(_) => (Errno::BADF, Duration::ZERO),
            Ok(Open::Input | Open::Output | Open::Errors | Open::File(_)) => (Errno::SUCCESS, Duration::ZERO),
        },
        _ => return Err(Errno::INVAL.into()),
    };
    let errno = u16::try_from(errno.code()).expect("invariant: error numbers have 16 bits");
    Ok(Waiting { user, kind, errno, after })
}

/// How long it is until a clock shows `time`, or until so much time has gone by.
fn until(clock: ClockId, time: u64, flags: u16) -> Duration {
    if flags & ABSOLUTE == 0 {
        return Duration::from_nanos(time);
    }
    match clock {
        ClockId::Realtime => {
            let then = SystemTime::UNIX_EPOCH + Duration::from_nanos(time);
            then.duration_since(SystemTime::now()).unwrap_or_default()
        }
        _ => Duration::from_nanos(time.saturating_sub(nanoseconds(clock))),
    }
}
