//! Vectors that were made lately, by the hash of what they are of: memory asks for those of the same goals and texts again.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use sha2::{Digest as _, Sha256};

/// Vectors that are kept: with 384 numbers each, 6 MiB.
pub(super) const MOST: usize = 4096;

/// SHA-256 of the tokens that the model reads.
pub(super) type Key = [u8; 32];

/// The key of a text's tokens.
pub(super) fn key(tokens: &[u32]) -> Key {
    let mut hash = Sha256::new();
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    hash.finalize().into()
}

/// The vectors that were used last.
pub(super) struct Cache(Mutex<LruCache<Key, Box<[f32]>>>);

impl Cache {
    fn new(most: NonZeroUsize) -> Cache {
        Cache(Mutex::new(LruCache::new(most)))
    }

    /// The vectors of those that are known.
    pub(super) fn find(&self, keys: &[Key]) -> HashMap<Key, Vec<f32>> {
        let mut cache = self.lock();
        keys.iter().filter_map(|key| Some((*key, cache.get(key)?.to_vec()))).collect()
    }

    /// Keeps a vector, in place of the one that was not used for longest where there are enough.
    pub(super) fn keep(&self, key: Key, vector: &[f32]) {
        self.lock().put(key, vector.into());
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Box<[f32]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new(NonZeroUsize::new(MOST).expect("invariant: it is not 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_that_was_not_used_for_longest_makes_room() {
        let cache = Cache::new(NonZeroUsize::new(2).unwrap());
        let [one, two, three] = [key(&[1]), key(&[2]), key(&[3])];
        cache.keep(one, &[1.0]);
        cache.keep(two, &[2.0]);
        assert_eq!(cache.find(&[one, three]), HashMap::from([(one, vec![1.0])]));
        cache.keep(three, &[3.0]);
        assert_eq!(cache.find(&[one, two, three]), HashMap::from([(one, vec![1.0]), (three, vec![3.0])]));
    }

    #[test]
    fn other_tokens_have_another_key() {
        let keys = [key(&[]), key(&[0]), key(&[0, 0]), key(&[256]), key(&[1, 2]), key(&[2, 1])];
        assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    }
}
