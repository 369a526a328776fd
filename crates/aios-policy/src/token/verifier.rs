//! Checking tokens.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::{
    Caveats, TokenError, TokenId, Verified,
    format::{self, Layout},
};
use crate::time::Timestamp;

/// Checks the tokens of one device.
///
/// Signatures that were found right are remembered, so that a token, or one that was narrowed from it, is checked faster
/// the next time. Expiry and revocation are looked at every time.
#[derive(Debug)]
pub struct Verifier {
    key: VerifyingKey,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    revoked: BTreeMap<TokenId, Timestamp>,
    /// Hashes of beginnings of tokens, up to the end of a block, and of whole tokens with their proof.
    recent: HashSet<[u8; 32]>,
    earlier: HashSet<[u8; 32]>,
}

/// Hashes in each of the two sets; when the newer one is full, the older one is dropped.
pub(super) const REMEMBERED: usize = 1024;

impl Verifier {
    /// `key` is the public half of the key that first blocks are signed with.
    pub fn new(key: VerifyingKey) -> Verifier {
        Verifier { key, state: Mutex::default() }
    }

    /// Reads a token and checks all that can be checked without a policy.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let bytes = format::from_text(text)?;
        let layout = format::layout(&bytes)?;
        let verified = read(&bytes, &layout)?;
        // What costs nothing comes first.
        if verified.not_after < now {
            return Err(TokenError::Expired(verified.not_after));
        }
        if let Some(id) = verified.ids.iter().find(|id| self.state().revoked.contains_key(id)) {
            return Err(TokenError::Revoked(*id));
        }
        self.signatures(&bytes, &layout)?;
        Ok(verified)
    }

    /// From now on, no token with this id, or narrowed from one, is good. `until` is the end of the longest of them:
    /// after that, the revocation need not be kept.
    pub fn revoke(&self, id: TokenId, until: Timestamp) {
        let mut state = self.state();
        let kept = state.revoked.entry(id).or_default();
        *kept = until.max(*kept);
    }

    /// What is revoked, and until when that has to be kept; for the store.
    pub fn revoked(&self) -> Vec<(TokenId, Timestamp)> {
        self.state().revoked.iter().map(|(id, until)| (*id, *until)).collect()
    }

    /// Drops revocations of tokens that have expired.
    pub fn expire(&self, now: Timestamp) {
        self.state().revoked.retain(|_, until| *until >= now);
    }

    fn signatures(&self, bytes: &[u8], layout: &Layout) -> Result<(), TokenError> {
        let whole: [u8; 32] = Sha256::digest(bytes).into();
        if self.state().knows(&whole) {
            return Ok(());
        }
        let start = layout.blocks[0].signed.start;
        let hash = |block: &format::Block| <[u8; 32]>::from(Sha256::digest(&bytes[start..block.end()]));
        let mut new: Vec<[u8; 32]> = layout.blocks.iter().map(hash).collect();
        let known = new.iter().rposition(|hash| self.state().knows(hash)).map_or(0, |last| last + 1);
        // From the first on: a token that this device never signed costs one check.
        (known..layout.blocks.len()).try_for_each(|index| self.signature(bytes, layout, index))?;
        let last = layout.blocks.last().and_then(|block| block.next.as_ref());
        if layout.proof.as_ref().map(format::lock) != last.map(|next| next.lock) {
            return Err(TokenError::Proof);
        }
        new.drain(..known);
        new.push(whole);
        self.state().remember(new);
        Ok(())
    }

    /// Checks the signature of one block by the key that the block before it names.
    fn signature(&self, bytes: &[u8], layout: &Layout, index: usize) -> Result<(), TokenError> {
        let wrong = TokenError::Signature { block: index + 1 };
        let block = &layout.blocks[index];
        let previous = index.checked_sub(1).map(|index| &layout.blocks[index]);
        let key = match previous {
            None => self.key,
            Some(previous) => {
                let key = previous.next.as_ref().and_then(|next| VerifyingKey::from_bytes(&next.key).ok());
                key.ok_or_else(|| wrong.clone())?
            }
        };
        let message = format::message(index, previous.map(|block| &block.signature), &bytes[block.signed.clone()]);
        key.verify_strict(&message, &Signature::from_bytes(&block.signature)).map_err(|_| wrong)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.state().remembered()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No call leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn knows(&self, hash: &[u8; 32]) -> bool {
        self.recent.contains(hash) || self.earlier.contains(hash)
    }

    pub(super) fn remember(&mut self, hashes: Vec<[u8; 32]>) {
        if self.recent.len() + hashes.len() > REMEMBERED {
            self.earlier = mem::take(&mut self.recent);
        }
        self.recent.extend(hashes);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.recent.len() + self.earlier.len()
    }
}

/// What the blocks say together.
pub(super) fn read(bytes: &[u8], layout: &Layout) -> Result<Verified, TokenError> {
    let authority = format::read_authority(bytes, &layout.blocks[0].payload)?;
    let mut verified = Verified {
        issuer: authority.issuer,
        subject: authority.subject,
        not_after: authority.not_after,
        ids: vec![authority.id],
        capabilities: vec![authority.capabilities],
        tools: authority.tools.into_iter().collect(),
    };
    let start = layout.blocks[0].signed.start;
    for block in &layout.blocks[1..] {
        let Caveats { capabilities, tools, not_after } = format::read_caveats(bytes, &block.payload)?;
        verified.capabilities.extend(capabilities);
        verified.tools.extend(tools);
        verified.not_after = not_after.unwrap_or(verified.not_after).min(verified.not_after);
        verified.ids.push(narrowed_id(&bytes[start..block.signed.end]));
    }
    Ok(verified)
}

/// The id of a token that was narrowed: of what was signed last and all before it.
fn narrowed_id(bytes: &[u8]) -> TokenId {
    let hash = Sha256::new().chain_update(b"aios token id 1\n").chain_update(bytes).finalize();
    TokenId(std::array::from_fn(|i| hash[i]))
}
