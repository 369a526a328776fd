//! The bytes of tokens (docs/formats/token.md).

use std::{collections::BTreeSet, ops::Range};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};

use super::{Authority, Caveats, MAX_BLOCKS, MAX_BYTES, PREFIX, TokenError, TokenId};
use crate::{
    capability::Capability,
    policy::{is_agent_name, is_tool_name},
    time::Timestamp,
};

const VERSION: u8 = 1;
const SEALED: u8 = 0;
const OPEN: u8 = 1;

const HAS_NOT_AFTER: u8 = 1;
const HAS_CAPABILITIES: u8 = 2;
const HAS_TOOLS: u8 = 4;

/// What is signed begins with this, so that the signature of a block is never one of anything else.
const PURPOSE: &[u8] = b"aios token block 1\n";
const LOCK_PURPOSE: &[u8] = b"aios token lock 1\n";

/// Where the parts of a token are, in its bytes.
pub(super) struct Layout {
    pub(super) blocks: Vec<Block>,
    /// Seed of the key for the next block; a sealed token has none.
    pub(super) proof: Option<[u8; 32]>,
}

/// One block.
pub(super) struct Block {
    /// All that its signature is of, apart from what comes before the block.
    pub(super) signed: Range<usize>,
    pub(super) next: Option<Next>,
    pub(super) payload: Range<usize>,
    pub(super) signature: [u8; 64],
}

/// What an open block says about the one behind it.
pub(super) struct Next {
    /// Public key of its signature.
    pub(super) key: [u8; 32],
    /// Hash of that key's seed: comparing it costs a hundredth of making the public key of the seed.
    pub(super) lock: [u8; 32],
}

impl Next {
    pub(super) fn of(seed: &[u8; 32]) -> Next {
        Next { key: SigningKey::from_bytes(seed).verifying_key().to_bytes(), lock: lock(seed) }
    }
}

/// The hash of a seed.
pub(super) fn lock(seed: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(LOCK_PURPOSE).chain_update(seed).finalize().into()
}

impl Block {
    pub(super) fn end(&self) -> usize {
        self.signed.end + 64
    }
}

/// What the key of block `index` signs.
pub(super) fn message(index: usize, previous: Option<&[u8; 64]>, signed: &[u8]) -> Vec<u8> {
    let index = u8::try_from(index).expect("invariant: a token has at most four blocks");
    [PURPOSE, &[index], previous.map_or(&[], |signature| &signature[..]), signed].concat()
}

/// The signed part of a block.
pub(super) fn block(next: Option<&Next>, payload: &[u8]) -> Result<Vec<u8>, TokenError> {
    let mut bytes = match next {
        Some(Next { key, lock }) => [&[OPEN][..], key, lock].concat(),
        None => vec![SEALED],
    };
    put_count(&mut bytes, payload.len())?;
    bytes.extend(payload);
    Ok(bytes)
}

/// A token of blocks (each with its signature) and proof.
pub(super) fn token(blocks: usize, body: &[u8], proof: Option<[u8; 32]>) -> Result<Vec<u8>, TokenError> {
    let count = u8::try_from(blocks).ok().filter(|_| blocks <= MAX_BLOCKS).ok_or(TokenError::TooManyBlocks)?;
    let bytes = [&[VERSION, count][..], body, proof.as_ref().map_or(&[], |seed| &seed[..])].concat();
    if bytes.len() > MAX_BYTES { Err(TokenError::TooLong) } else { Ok(bytes) }
}

pub(super) fn to_text(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn from_text(text: &str) -> Result<Vec<u8>, TokenError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::NoToken)?;
    if encoded.len() > MAX_BYTES.div_ceil(3) * 4 {
        return Err(TokenError::TooLong);
    }
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::NoToken)
}

/// Takes a token apart; nothing is believed yet.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout, TokenError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.byte()? != VERSION {
        return Err(TokenError::Version);
    }
    let count = usize::from(reader.byte()?);
    if !(1..=MAX_BLOCKS).contains(&count) {
        return Err(TokenError::TooManyBlocks);
    }
    let mut blocks: Vec<Block> = Vec::with_capacity(count);
    for _ in 0..count {
        if blocks.last().is_some_and(|block| block.next.is_none()) {
            return Err(reader.fault("a block behind a sealed one"));
        }
        let start = reader.at;
        let next = match reader.byte()? {
            SEALED => None,
            OPEN => Some(Next { key: reader.array()?, lock: reader.array()? }),
            _ => return Err(reader.fault("an unknown kind of block")),
        };
        let length = reader.count()?;
        let payload = reader.at..reader.at + length;
        reader.take(length)?;
        let signed = start..reader.at;
        blocks.push(Block { signed, next, payload, signature: reader.array()? });
    }
    let is_open = blocks.last().is_some_and(|block| block.next.is_some());
    let proof = if is_open { Some(reader.array()?) } else { None };
    reader.end()?;
    Ok(Layout { blocks, proof })
}

/// The payload of the first block.
pub(super) fn authority(authority: &Authority) -> Result<Vec<u8>, TokenError> {
    let mut bytes = authority.id.0.to_vec();
    for name in [&authority.issuer, &authority.subject] {
        if !is_agent_name(name) {
            return Err(TokenError::Name(name.clone()));
        }
        put_short(&mut bytes, name)?;
    }
    let Authority { capabilities, tools, not_after, .. } = authority;
    put_caveats(&mut bytes, Some(*not_after), Some(capabilities), tools.as_ref())?;
    Ok(bytes)
}

/// The payload of a further block.
pub(super) fn caveats(caveats: &Caveats) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::new();
    put_caveats(&mut bytes, caveats.not_after, caveats.capabilities.as_deref(), caveats.tools.as_ref())?;
    Ok(bytes)
}

pub(super) fn read_authority(bytes: &[u8], payload: &Range<usize>) -> Result<Authority, TokenError> {
    let mut reader = Reader { bytes: &bytes[..payload.end], at: payload.start };
    let id = TokenId(reader.array()?);
    let issuer = reader.name(is_agent_name)?;
    let subject = reader.name(is_agent_name)?;
    let caveats = reader.caveats()?;
    reader.end()?;
    match caveats {
        Caveats { capabilities: Some(capabilities), tools, not_after: Some(not_after) } => {
            Ok(Authority { id, issuer, subject, capabilities, tools, not_after })
        }
        _ => Err(reader.fault("a first block without capabilities or end")),
    }
}

pub(super) fn read_caveats(bytes: &[u8], payload: &Range<usize>) -> Result<Caveats, TokenError> {
    let mut reader = Reader { bytes: &bytes[..payload.end], at: payload.start };
    let caveats = reader.caveats()?;
    reader.end()?;
    Ok(caveats)
}

fn put_caveats(
    bytes: &mut Vec<u8>,
    not_after: Option<Timestamp>,
    capabilities: Option<&[Capability]>,
    tools: Option<&BTreeSet<String>>,
) -> Result<(), TokenError> {
    let flag = |is_there, flag| if is_there { flag } else { 0 };
    bytes.push(
        flag(not_after.is_some(), HAS_NOT_AFTER)
            | flag(capabilities.is_some(), HAS_CAPABILITIES)
            | flag(tools.is_some(), HAS_TOOLS),
    );
    if let Some(Timestamp(seconds)) = not_after {
        bytes.extend(seconds.to_be_bytes());
    }
    if let Some(capabilities) = capabilities {
        put_count(bytes, capabilities.len())?;
        for capability in capabilities {
            let text = capability.to_string();
            put_count(bytes, text.len())?;
            bytes.extend(text.as_bytes());
        }
    }
    if let Some(tools) = tools {
        put_count(bytes, tools.len())?;
        for tool in tools {
            if !is_tool_name(tool) {
                return Err(TokenError::Name(tool.clone()));
            }
            put_short(bytes, tool)?;
        }
    }
    Ok(())
}

fn put_count(bytes: &mut Vec<u8>, count: usize) -> Result<(), TokenError> {
    bytes.extend(u16::try_from(count).map_err(|_| TokenError::TooLong)?.to_be_bytes());
    Ok(())
}

fn put_short(bytes: &mut Vec<u8>, text: &str) -> Result<(), TokenError> {
    bytes.push(u8::try_from(text.len()).map_err(|_| TokenError::TooLong)?);
    bytes.extend(text.as_bytes());
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fault(&self, what: &'static str) -> TokenError {
        TokenError::Malformed { at: self.at, what }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TokenError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let taken = taken.ok_or_else(|| self.fault("ends too early"))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        Ok(self.take(N)?.try_into().expect("invariant: N bytes were taken"))
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        Ok(self.array::<1>()?[0])
    }

    fn count(&mut self) -> Result<usize, TokenError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn text(&mut self, length: usize) -> Result<&'a str, TokenError> {
        let at = self.at;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| TokenError::Malformed { at, what: "text that is not UTF-8" })
    }

    fn name(&mut self, is_name: fn(&str) -> bool) -> Result<String, TokenError> {
        let length = self.byte()?.into();
        let at = self.at;
        let name = self.text(length)?;
        if is_name(name) { Ok(name.into()) } else { Err(TokenError::Malformed { at, what: "a bad name" }) }
    }

    fn capability(&mut self) -> Result<Capability, TokenError> {
        let length = self.count()?;
        let at = self.at;
        self.text(length)?.parse().map_err(|_| TokenError::Malformed { at, what: "a bad capability" })
    }

    fn caveats(&mut self) -> Result<Caveats, TokenError> {
        let flags = self.byte()?;
        if flags & !(HAS_NOT_AFTER | HAS_CAPABILITIES | HAS_TOOLS) != 0 {
            return Err(self.fault("an unknown restriction"));
        }
        let mut caveats = Caveats::default();
        if flags & HAS_NOT_AFTER != 0 {
            caveats.not_after = Some(Timestamp(u64::from_be_bytes(self.array()?)));
        }
        if flags & HAS_CAPABILITIES != 0 {
            let count = self.count()?;
            caveats.capabilities = Some((0..count).map(|_| self.capability()).collect::<Result<_, _>>()?);
        }
        if flags & HAS_TOOLS != 0 {
            let count = self.count()?;
            caveats.tools = Some((0..count).map(|_| self.name(is_tool_name)).collect::<Result<_, _>>()?);
        }
        Ok(caveats)
    }

    fn end(&self) -> Result<(), TokenError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault("more bytes than there should be")) }
    }
}
