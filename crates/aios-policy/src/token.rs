//! Tokens: capabilities that one agent hands to another, narrower with each hand they pass through.
//!
//! A token is a chain of blocks (docs/formats/token.md). The device's key signs the first; each further one is signed with
//! a key that the block before it names, and whose secret half an open token carries. So who holds an open token can
//! narrow it without asking anybody, and nobody can take a narrowing off again.

mod format;
#[cfg(test)]
mod tests;
mod verifier;

use std::{collections::BTreeSet, fmt, str::FromStr};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::{capability::Capability, time::Timestamp};

pub use verifier::Verifier;

/// What the text of every token begins with.
pub const PREFIX: &str = "aios1.";
/// Most blocks that a token can have.
pub const MAX_BLOCKS: usize = 4;
/// Most bytes that a token can have, before base64.
pub const MAX_BYTES: usize = 8192;

/// A token that can be handed on. It is as good as a password: [`fmt::Debug`] doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
}

/// What the first block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Random, so that it names this token alone.
    pub id: TokenId,
    /// The agent whose rights are handed on.
    pub issuer: String,
    /// The agent that may use the token.
    pub subject: String,
    /// Which rights.
    pub capabilities: Vec<Capability>,
    /// The only tools; `None`: any.
    pub tools: Option<BTreeSet<String>>,
    /// The last second at which it is good.
    pub not_after: Timestamp,
}

/// What a further block says: each part that is there restricts the token further.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// A need has to be covered by one of these too.
    pub capabilities: Option<Vec<Capability>>,
    /// The only tools.
    pub tools: Option<BTreeSet<String>>,
    /// An earlier end.
    pub not_after: Option<Timestamp>,
}

/// What a token says, block by block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The first block.
    pub authority: Authority,
    /// The further ones, in order.
    pub caveats: Vec<Caveats>,
    /// The id of each block, the first one's included.
    pub ids: Vec<TokenId>,
    /// Whether it can be narrowed.
    pub open: bool,
}

/// Whether a token can be narrowed.
#[derive(Clone, Copy)]
pub enum Ending {
    /// It can: with the key of this seed, 32 random bytes that were used for nothing else.
    Open([u8; 32]),
    /// It can't.
    Sealed,
}

/// Why a text is no token that counts, or a token can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not `aios1.` and base64url.
    #[error("not a token: one begins with {PREFIX:?} and goes on in base64url without padding")]
    NoToken,
    /// Another version of the format.
    #[error("a token of another version; ask for a new one")]
    Version,
    /// Bytes that mean nothing.
    #[error("not a token: at byte {at}: {what}")]
    Malformed {
        /// Place in the decoded bytes, from 0.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// None, or more than [`MAX_BLOCKS`].
    #[error("a token has 1 to {MAX_BLOCKS} blocks")]
    TooManyBlocks,
    /// More than [`MAX_BYTES`].
    #[error("a token has at most {MAX_BYTES} bytes")]
    TooLong,
    /// No agent's or tool's name.
    #[error("{0:?} is no name of an agent or a tool")]
    Name(String),
    /// A signature is wrong.
    #[error("block {block} of the token was not signed by who should have; ask for a new one")]
    Signature {
        /// Which block, from 1.
        block: usize,
    },
    /// The proof that the last block is the last one is wrong.
    #[error("the token was cut off; ask for a new one")]
    Proof,
    /// It was good until then.
    #[error("the token expired ({0}); ask for a new one")]
    Expired(Timestamp),
    /// It, or what it was narrowed from, was revoked.
    #[error("the token was revoked (id {0})")]
    Revoked(TokenId),
    /// Not the id of a token.
    #[error("not the id of a token: one has 32 of 0-9 and a-f, as `aios token show` shows it")]
    Id,
    /// A sealed token can't be narrowed.
    #[error("the token is sealed: it can't be narrowed")]
    Sealed,
    /// A narrowing that would not narrow.
    #[error("the token does not allow {0}, so what is made from it can't")]
    Wider(String),
}

impl Token {
    /// Makes a token with the device's key.
    pub fn mint(device: &SigningKey, authority: &Authority, ending: Ending) -> Result<Token, TokenError> {
        let signed = format::block(ending.next().as_ref(), &format::authority(authority)?)?;
        let signature = device.sign(&format::message(0, None, &signed)).to_bytes();
        Token::of(1, &[&signed[..], &signature].concat(), ending)
    }

    /// Makes a narrower token of this one. That what it is made of is good is not checked.
    pub fn attenuate(&self, caveats: &Caveats, ending: Ending) -> Result<Token, TokenError> {
        let bytes = format::from_text(&self.text)?;
        let layout = format::layout(&bytes)?;
        narrows(&verifier::read(&bytes, &layout)?, caveats)?;
        let key = SigningKey::from_bytes(&layout.proof.ok_or(TokenError::Sealed)?);
        let (count, last) = (layout.blocks.len(), layout.blocks.last().ok_or(TokenError::TooManyBlocks)?);
        if count == MAX_BLOCKS {
            return Err(TokenError::TooManyBlocks);
        }
        let signed = format::block(ending.next().as_ref(), &format::caveats(caveats)?)?;
        let signature = key.sign(&format::message(count, Some(&last.signature), &signed)).to_bytes();
        let before = &bytes[layout.blocks[0].signed.start..last.end()];
        Token::of(count + 1, &[before, &signed, &signature].concat(), ending)
    }

    /// Takes a token as somebody wrote it down; [`Verifier::verify`] tells whether it is one that counts.
    pub fn from_text(text: &str) -> Result<Token, TokenError> {
        let bytes = format::from_text(text)?;
        verifier::read(&bytes, &format::layout(&bytes)?)?;
        Ok(Token { text: text.into() })
    }

    /// What it says, block by block. Its signatures are not checked, so nothing may be decided by this.
    pub fn content(&self) -> Result<Content, TokenError> {
        let bytes = format::from_text(&self.text)?;
        let layout = format::layout(&bytes)?;
        let caveats = layout.blocks[1..].iter().map(|block| format::read_caveats(&bytes, &block.payload));
        Ok(Content {
            authority: format::read_authority(&bytes, &layout.blocks[0].payload)?,
            caveats: caveats.collect::<Result<_, _>>()?,
            ids: verifier::read(&bytes, &layout)?.ids,
            open: layout.proof.is_some(),
        })
    }

    /// The token as it is handed on. Who has this text has the rights.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn of(blocks: usize, body: &[u8], ending: Ending) -> Result<Token, TokenError> {
        let seed = match ending {
            Ending::Open(seed) => Some(seed),
            Ending::Sealed => None,
        };
        Ok(Token { text: format::to_text(&format::token(blocks, body, seed)?) })
    }
}

impl Ending {
    fn next(self) -> Option<format::Next> {
        match self {
            Ending::Open(seed) => Some(format::Next::of(&seed)),
            Ending::Sealed => None,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}...")
    }
}

/// Whoever narrows a token should see at once what would be without effect; a check of the token needs no such rule.
fn narrows(token: &Verified, caveats: &Caveats) -> Result<(), TokenError> {
    if let Some(wider) = caveats.capabilities.iter().flatten().find(|capability| !token.covers(capability)) {
        return Err(TokenError::Wider(wider.to_string()));
    }
    match caveats.tools.iter().flatten().find(|tool| !token.allows_tool(tool)) {
        Some(wider) => Err(TokenError::Wider(wider.clone())),
        None => Ok(()),
    }
}

/// Names a token, or what was made of it by narrowing, for revocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

/// What a token says whose signatures were checked.
///
/// It gives no right that its issuer has not got when it is used ([`crate::decide()`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) not_after: Timestamp,
    pub(crate) ids: Vec<TokenId>,
    /// Of each block that narrows capabilities: one of them has to cover a need.
    pub(crate) capabilities: Vec<Vec<Capability>>,
    /// Of each block that narrows tools: the only ones.
    pub(crate) tools: Vec<BTreeSet<String>>,
}

impl Verified {
    /// The agent whose rights are handed on.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The agent that may use the token.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The last second at which it is good.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What the token and each narrowing of it is revoked by; the revocation of one is that of all behind it.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Whether each block lets `need` through.
    pub fn covers(&self, need: &Capability) -> bool {
        self.capabilities.iter().all(|block| block.iter().any(|capability| capability.covers(need)))
    }

    /// Whether each block lets something of what `pattern` stands for through. Never wrongly false.
    pub fn overlaps(&self, pattern: &Capability) -> bool {
        self.capabilities.iter().all(|block| block.iter().any(|capability| capability.overlaps(pattern)))
    }

    /// Whether each block lets the tool through.
    pub fn allows_tool(&self, tool: &str) -> bool {
        self.tools.iter().all(|block| block.contains(tool))
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<TokenId, TokenError> {
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(pair).collect();
        let bytes = bytes.filter(|_| text.len() == 32).and_then(|bytes| bytes.try_into().ok());
        bytes.map(TokenId).ok_or(TokenError::Id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
