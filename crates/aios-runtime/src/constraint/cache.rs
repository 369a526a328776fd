//! The forms used last.

use std::collections::VecDeque;

/// Forms that are kept. A client asks for few different ones, over and over; each may take some MiB.
const CAPACITY: usize = 16;

/// A few entries, found by comparing all of them; the one that was not used for longest gives way.
pub(super) struct Cache<K, V> {
    /// The one used last is in front.
    entries: VecDeque<(K, V)>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<K: PartialEq, V> Cache<K, V> {
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let place = self.entries.iter().position(|(found, _)| found == key)?;
        let entry = self.entries.remove(place)?;
        self.entries.push_front(entry);
        self.entries.front().map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.entries.retain(|(found, _)| *found != key);
        self.entries.push_front((key, value));
        self.entries.truncate(CAPACITY);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.retain(|(found, _)| found != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_not_used_for_longest_gives_way() {
        let mut cache = Cache::default();
        for key in 0..CAPACITY {
            cache.insert(key, key);
        }
        assert_eq!(cache.get(&0), Some(&0));
        cache.insert(CAPACITY, CAPACITY);
        assert_eq!([0, 1, 2].map(|key| cache.get(&key).copied()), [Some(0), None, Some(2)]);
        cache.remove(&2);
        assert_eq!(cache.get(&2), None);
    }
}
