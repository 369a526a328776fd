//! Search by estimating all vectors, and computing those that can be among the nearest.

use std::sync::{Mutex, PoisonError};

use aios_kernels::GROUP;

use crate::{
    codes::Codes,
    nearest::{Nearest, Scored},
    quantize::Query,
    rows::Rows,
};

/// How many of the best estimates are computed first: from the nearest of these it is known what others have to reach.
const FIRST: usize = 32;

/// How far ahead of their use rows are asked for.
pub(crate) const AHEAD: usize = 4;

/// Room for the estimates of one search at a time. It is kept, because fresh memory costs more than the search.
#[derive(Debug, Default)]
pub(crate) struct Room {
    estimates: Vec<f32>,
    /// Of each group.
    largest: Vec<f32>,
    sorted: Vec<f32>,
    slots: Vec<u32>,
}

/// Rooms that no search is using.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<Vec<Room>>);

impl Rooms {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Room) -> T) -> T {
        let mut room = self.lock().pop().unwrap_or_default();
        let found = work(&mut room);
        self.lock().push(room);
        found
    }

    /// Gives back all memory.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `k` vectors nearest to the query, among those that pass the filter.
pub(crate) fn search(
    rows: &Rows,
    codes: &Codes,
    room: &mut Room,
    query: &Query,
    k: usize,
    filter: &dyn Fn(u64) -> bool,
) -> Vec<Scored> {
    let Room { estimates, largest, sorted, slots } = room;
    codes.estimate(query, rows, estimates, largest);
    let first = FIRST.max(k.saturating_mul(2));
    // So many groups have one at least that is not below, so there are enough of them, if they pass the filter.
    let floor = if first < largest.len() { nth_largest(largest, first, sorted) } else { f32::NEG_INFINITY };
    let mut best = Nearest::new(first);
    take_best(rows, estimates, largest, floor, filter, &mut best);
    if !best.is_full() && floor > f32::NEG_INFINITY {
        best = Nearest::new(first);
        take_best(rows, estimates, largest, f32::NEG_INFINITY, filter, &mut best);
    }
    let all = !best.is_full();
    let mut nearest = Nearest::new(k);
    slots.clear();
    slots.extend(best.into_sorted().iter().map(|scored| scored.slot));
    compute(rows, query, slots, &mut nearest);
    if !all {
        slots.iter().for_each(|slot| estimates[*slot as usize] = f32::NAN);
        slots.clear();
        let floor = nearest.floor() - codes.common(query);
        for (group, _) in largest.iter().enumerate().filter(|(_, largest)| **largest > floor) {
            for (at, estimate) in estimates[group * GROUP..][..GROUP].iter().enumerate() {
                let slot = (group * GROUP + at) as u32;
                if *estimate > floor {
                    slots.push(slot);
                }
            }
        }
        // All at once, so that one item's number comes from memory beside the next.
        slots.retain(|slot| filter(rows.id(*slot)));
        compute(rows, query, slots, &mut nearest);
    }
    nearest.into_sorted()
}

/// The best estimates that are not below `floor`, of what passes the filter.
fn take_best(
    rows: &Rows,
    estimates: &[f32],
    largest: &[f32],
    floor: f32,
    filter: &dyn Fn(u64) -> bool,
    best: &mut Nearest,
) {
    for (group, largest) in largest.iter().enumerate().filter(|(_, largest)| **largest >= floor) {
        if *largest <= best.floor() {
            continue;
        }
        for (at, estimate) in estimates[group * GROUP..][..GROUP].iter().enumerate() {
            let slot = (group * GROUP + at) as u32;
            if *estimate >= floor && *estimate > best.floor() && filter(rows.id(slot)) {
                best.push(Scored { score: *estimate, slot });
            }
        }
    }
}

/// The number that so many, `count`, are not below.
fn nth_largest(numbers: &[f32], count: usize, sorted: &mut Vec<f32>) -> f32 {
    sorted.clear();
    sorted.extend_from_slice(numbers);
    *sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
}

/// Computes the vectors of `slots`.
pub(crate) fn compute(rows: &Rows, query: &Query, slots: &[u32], nearest: &mut Nearest) {
    slots.iter().take(AHEAD).for_each(|slot| rows.ask(*slot));
    for (index, slot) in slots.iter().enumerate() {
        if let Some(next) = slots.get(index + AHEAD) {
            rows.ask(*next);
        }
        nearest.push(Scored { score: rows.exactly(query, *slot), slot: *slot });
    }
}
