//! A block: up to [`MOST`] texts that have a term, in the order of their numbers.

/// Most postings of a block.
pub(super) const MOST: usize = 128;

/// A text that has a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    /// Number of the text.
    pub id: u64,
    /// How often it has the term, 1 or more.
    pub times: u32,
    /// Terms of the whole text.
    pub length: u32,
}

/// The bounds of a block's postings, with which a search passes it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Number of postings, 1 or more.
    pub count: u32,
    /// Highest number of a text.
    pub last: u64,
    /// Most often that a text has the term.
    pub times: u32,
    /// Length of the shortest text.
    pub length: u32,
}

/// The block of `postings`, which are not empty and rise by id. The id of the first is the block's key.
pub(super) fn encode(postings: &[Posting]) -> Vec<u8> {
    let (first, last) = (postings[0].id, postings[postings.len() - 1].id);
    let times = postings.iter().map(|posting| posting.times).max().unwrap_or(0);
    let length = postings.iter().map(|posting| posting.length).min().unwrap_or(0);
    let mut bytes = Vec::with_capacity(16 + 4 * postings.len());
    for number in [postings.len() as u64, last - first, times.into(), length.into()] {
        write_number(&mut bytes, number);
    }
    let mut before = first;
    for posting in postings {
        write_number(&mut bytes, posting.id - before);
        write_number(&mut bytes, posting.times.into());
        write_number(&mut bytes, posting.length.into());
        before = posting.id;
    }
    bytes
}

/// The bounds of a block whose first text is `first`.
pub(super) fn bounds(first: u64, mut bytes: &[u8]) -> Option<Bounds> {
    read_bounds(first, &mut bytes)
}

/// The postings of a block whose first text is `first`, into `postings`. None where it is damaged.
pub(super) fn decode(first: u64, mut bytes: &[u8], postings: &mut Vec<Posting>) -> Option<()> {
    postings.clear();
    let bounds = read_bounds(first, &mut bytes)?;
    let mut id = first;
    for index in 0..bounds.count {
        let step = read_number(&mut bytes)?;
        // Only the first is where the block begins: each id is there once.
        if (step == 0) != (index == 0) {
            return None;
        }
        id = id.checked_add(step)?;
        let times = u32::try_from(read_number(&mut bytes)?).ok()?;
        let length = u32::try_from(read_number(&mut bytes)?).ok()?;
        if times == 0 || times > bounds.times || length < bounds.length || times > length {
            return None;
        }
        postings.push(Posting { id, times, length });
    }
    (bytes.is_empty() && id == bounds.last).then_some(())
}

fn read_bounds(first: u64, bytes: &mut &[u8]) -> Option<Bounds> {
    let count = u32::try_from(read_number(bytes)?).ok()?;
    let last = first.checked_add(read_number(bytes)?)?;
    let times = u32::try_from(read_number(bytes)?).ok()?;
    let length = u32::try_from(read_number(bytes)?).ok()?;
    (1..=MOST as u32).contains(&count).then_some(Bounds { count, last, times, length })
}

/// Writes seven bits a byte, the lowest first; all bytes but the last have the highest bit (LEB128).
pub(super) fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number off the front.
pub(super) fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_blocks_come_back(
            numbers in prop::collection::btree_map(any::<u64>(), (1_u32.., any::<u32>()), 1..=MOST),
        ) {
            let postings: Vec<_> = numbers
                .into_iter()
                .map(|(id, (times, more))| Posting { id, times, length: times.saturating_add(more) })
                .collect();
            let bytes = encode(&postings);
            let mut read = Vec::new();
            prop_assert_eq!(decode(postings[0].id, &bytes, &mut read), Some(()));
            prop_assert_eq!(&read, &postings);
            let bounds = bounds(postings[0].id, &bytes).unwrap();
            prop_assert_eq!(bounds.last, postings[postings.len() - 1].id);
            prop_assert!(postings.iter().all(|one| one.times <= bounds.times && one.length >= bounds.length));
        }

        #[test]
        fn damaged_blocks_are_refused_or_hold_what_their_bounds_say(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            first in any::<u64>(),
        ) {
            let mut read = Vec::new();
            if decode(first, &bytes, &mut read).is_some() {
                let bounds = bounds(first, &bytes).unwrap();
                prop_assert_eq!(bounds.count as usize, read.len());
                prop_assert!(read.windows(2).all(|pair| pair[0].id < pair[1].id));
                prop_assert!(read.iter().all(|one| one.times <= bounds.times && one.length >= bounds.length));
            }
        }
    }

    #[test]
    fn a_number_that_is_too_long_is_refused() {
        let mut bytes = Vec::new();
        write_number(&mut bytes, u64::MAX);
        assert_eq!(read_number(&mut bytes.as_slice()), Some(u64::MAX));
        *bytes.last_mut().unwrap() = 2;
        assert_eq!(read_number(&mut bytes.as_slice()), None);
        assert_eq!(read_number(&mut [0x80; 12].as_slice()), None);
    }
}
