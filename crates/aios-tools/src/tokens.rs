//! The tokens that this device made, and those that were taken back.
//!
//! A token is checked by its signatures alone. What is kept is who may take it back, and that it was: never its text.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
};

use aios_policy::{
    Capability, Policy, Timestamp, Token, Verifier,
    grants::{GrantError, check_delegation},
    token::{Authority, Ending, TokenError, TokenId},
};
use anyhow::Result;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::kept::Kept;

/// Tokens, and revocations, that may be remembered at once.
pub const TOKENS_MAX: usize = 4096;

/// A revocation of a token that this device does not know is kept for so long: the longest life of any token.
const UNKNOWN_KEPT_S: u64 = 366 * 86_400;

/// What is kept of tokens across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Book {
    /// By id.
    minted: BTreeMap<String, Minted>,
    /// Until when a revocation has to be remembered, by id.
    revoked: BTreeMap<String, Timestamp>,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Minted {
    issuer: String,
    subject: String,
    not_after: Timestamp,
}

/// Why a token is not made, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The policy does not let it.
    #[error(transparent)]
    Policy(#[from] GrantError),
    /// It can't be written as a token, or the id is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token that allows nothing.
    #[error("a token needs at least one capability")]
    Nothing,
    /// No tool has this name.
    #[error("there is no tool {0:?}: aios tool list names the tools")]
    Tool(String),
    /// Too many.
    #[error("{TOKENS_MAX} tokens are remembered, which is the most: wait until some have expired")]
    TooMany,
    /// The caller is neither issuer nor subject.
    #[error("agent {revoker:?} may not take this token back: it needs {needed}")]
    MayNot {
        /// Who wanted to.
        revoker: String,
        /// The capability for it.
        needed: Capability,
    },
    /// It can't be kept on disk, so it was not done.
    #[error("the tokens can't be kept: {0}")]
    Kept(io::Error),
    /// The kernel gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(io::Error),
}

/// What somebody wants a token for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The agent whose rights are handed on: the caller.
    pub issuer: String,
    /// The agent that may use it.
    pub subject: String,
    /// Which rights.
    pub capabilities: Vec<Capability>,
    /// The only tools; empty: any.
    pub tools: Vec<String>,
    /// Last second at which it is good.
    pub not_after: Timestamp,
    /// Whether it can't be narrowed.
    pub sealed: bool,
}

/// The device's tokens.
pub struct Tokens {
    key: SigningKey,
    file: Kept<Book>,
    book: Mutex<Book>,
}

impl Tokens {
    /// Tokens that `key` signs, and what `file` keeps of them.
    pub fn open(key: SigningKey, file: Kept<Book>) -> Result<Tokens> {
        let book = Mutex::new(file.read("tokens")?);
        Ok(Tokens { key, file, book })
    }

    /// What checks them: it knows all revocations.
    pub fn verifier(&self) -> Verifier {
        let verifier = Verifier::new(self.key.verifying_key());
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, until) in &book.revoked {
            // What is kept was parsed before it was written.
            if let Ok(id) = id.parse() {
                verifier.revoke(id, *until);
            }
        }
        verifier
    }

    /// Makes a token and remembers who may take it back.
    pub fn mint(&self, policy: &Policy, wanted: Wanted, now: Timestamp) -> Result<(Token, TokenId), TokensError> {
        if wanted.capabilities.is_empty() {
            return Err(TokensError::Nothing);
        }
        if let Some(unknown) = wanted.tools.iter().find(|tool| crate::catalogue::find(tool).is_none()) {
            return Err(TokensError::Tool(unknown.chars().take(64).collect()));
        }
        let id = TokenId(random()?);
        let authority = Authority {
            id,
            issuer: wanted.issuer,
            subject: wanted.subject,
            capabilities: wanted.capabilities,
            tools: (!wanted.tools.is_empty()).then(|| wanted.tools.into_iter().collect()),
            not_after: wanted.not_after,
        };
        check_delegation(policy, &authority, now)?;
        let ending = if wanted.sealed { Ending::Sealed } else { Ending::Open(random()?) };
        let token = Token::mint(&self.key, &authority, ending)?;
        let Authority { issuer, subject, not_after, .. } = authority;
        self.change(now, |book| {
            if book.minted.len() >= TOKENS_MAX {
                return Err(TokensError::TooMany);
            }
            book.minted.insert(id.to_string(), Minted { issuer, subject, not_after });
            Ok((token, id))
        })
    }

    /// Takes the token `id` back, or what was narrowed to this id, on behalf of the agent `revoker`: its issuer, its
    /// subject, or who holds `policy:revoke:SUBJECT`. An id that was not made here (one of a narrowing, which nobody
    /// tells the device of) takes `policy:revoke:**`.
    pub fn revoke(
        &self,
        policy: &Policy,
        verifier: &Verifier,
        revoker: &str,
        id: TokenId,
        now: Timestamp,
    ) -> Result<(), TokensError> {
        let until = self.change(now, |book| {
            let known = book.minted.get(&id.to_string());
            if !known.is_some_and(|token| token.issuer == revoker || token.subject == revoker) {
                let whose = known.map_or("**", |token| token.subject.as_str());
                let needed: Capability =
                    format!("policy:revoke:{whose}").parse().expect("invariant: names of agents have no wildcards");
                if !policy.holds(revoker, &needed) {
                    return Err(TokensError::MayNot { revoker: revoker.to_owned(), needed });
                }
            }
            let until = known.map_or(Timestamp(now.0.saturating_add(UNKNOWN_KEPT_S)), |token| token.not_after);
            if book.revoked.len() >= TOKENS_MAX && !book.revoked.contains_key(&id.to_string()) {
                return Err(TokensError::TooMany);
            }
            book.revoked.insert(id.to_string(), until);
            Ok(until)
        })?;
        verifier.revoke(id, until);
        Ok(())
    }

    /// Changes the book: what is on disk first counts then.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Book) -> Result<T, TokensError>,
    ) -> Result<T, TokensError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = book.clone();
        changed.minted.retain(|_, token| token.not_after >= now);
        changed.revoked.retain(|_, until| *until >= now);
        let done = change(&mut changed)?;
        self.file.write(&changed).map_err(TokensError::Kept)?;
        *book = changed;
        Ok(done)
    }
}

fn random<const N: usize>() -> Result<[u8; N], TokensError> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(length) if length == N => Ok(bytes),
        Ok(_) => Err(TokensError::Random(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(TokensError::Random(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn policy() -> Policy {
        let text = "[agents.operator]\ncapabilities = [\"*:*:**\"]\n[agents.web]\n[agents.task]\n\
                    capabilities = [\"fs:read:/srv/**\", \"policy:delegate:web\"]\n";
        Policy::from_layers(&[aios_core::config::Layer { path: "p".into(), text: text.into() }]).expect("a policy")
    }

    fn wanted(issuer: &str, capability: &str) -> Wanted {
        Wanted {
            issuer: issuer.into(),
            subject: "web".into(),
            capabilities: vec![capability.parse().expect("a capability")],
            tools: vec!["fs.read".into()],
            not_after: NOW.after(std::time::Duration::from_secs(60)),
            sealed: false,
        }
    }

    fn tokens(folder: &tempfile::TempDir) -> Tokens {
        let file = Kept::at(folder.path().join("tokens.json"));
        Tokens::open(SigningKey::from_bytes(&[7; 32]), file).expect("opened")
    }

    #[test]
    fn an_agent_hands_on_what_it_holds_and_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let (tokens, policy) = (tokens(&folder), policy());
        let (token, id) = tokens.mint(&policy, wanted("task", "fs:read:/srv/www/**"), NOW).expect("held");
        let verified = tokens.verifier().verify(token.as_str(), NOW).expect("good");
        assert_eq!((verified.issuer(), verified.subject(), verified.ids()), ("task", "web", &[id][..]));
        for wider in ["fs:read:/**", "fs:write:/srv/a", "*:*:**"] {
            let refused = tokens.mint(&policy, wanted("task", wider), NOW);
            assert!(matches!(refused, Err(TokensError::Policy(GrantError::NotHeld { .. }))), "{wider}: {refused:?}");
        }
        let to_task = Wanted { subject: "task".into(), ..wanted("task", "fs:read:/srv/a") };
        assert!(matches!(tokens.mint(&policy, to_task, NOW), Err(TokensError::Policy(GrantError::MayNot { .. }))));
        let nothing = Wanted { capabilities: vec![], ..wanted("operator", "fs:read:/a") };
        assert!(matches!(tokens.mint(&policy, nothing, NOW), Err(TokensError::Nothing)));
        let tool = Wanted { tools: vec!["no.tool".into()], ..wanted("operator", "fs:read:/a") };
        assert!(matches!(tokens.mint(&policy, tool, NOW), Err(TokensError::Tool(_))));
        let long = Wanted { not_after: Timestamp(NOW.0 + 25 * 3600), ..wanted("operator", "fs:read:/a") };
        assert!(matches!(tokens.mint(&policy, long, NOW), Err(TokensError::Policy(GrantError::Duration { .. }))));
    }

    #[test]
    fn a_revocation_holds_after_a_restart_and_is_forgotten_with_the_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, policy) = (tokens(&folder), policy());
        let (token, id) = first.mint(&policy, wanted("operator", "fs:read:/srv/a"), NOW).expect("held");
        let verifier = first.verifier();
        let stranger = first.revoke(&policy, &verifier, "task", id, NOW);
        assert!(matches!(stranger, Err(TokensError::MayNot { .. })), "{stranger:?}");
        assert!(verifier.verify(token.as_str(), NOW).is_ok());
        first.revoke(&policy, &verifier, "web", id, NOW).expect("the subject gives it back");
        assert_eq!(verifier.verify(token.as_str(), NOW), Err(TokenError::Revoked(id)));
        drop(first);
        let second = tokens(&folder);
        assert_eq!(second.verifier().verify(token.as_str(), NOW), Err(TokenError::Revoked(id)));
        let later = NOW.after(std::time::Duration::from_secs(61));
        second
            .mint(&policy, Wanted { not_after: Timestamp(later.0 + 9), ..wanted("operator", "fs:read:/a") }, later)
            .expect("held");
        assert!(second.verifier().revoked().is_empty());
        assert!(matches!(second.verifier().verify(token.as_str(), later), Err(TokenError::Expired(_))));
    }

    #[test]
    fn a_narrowing_is_taken_back_by_who_may_take_back_anything() {
        let folder = tempfile::tempdir().expect("a folder");
        let (tokens, policy) = (tokens(&folder), policy());
        let (token, _) = tokens.mint(&policy, wanted("task", "fs:read:/srv/a"), NOW).expect("held");
        let narrow = token.attenuate(&Default::default(), Ending::Sealed).expect("open");
        let id = *narrow.content().expect("a token").ids.last().expect("its own");
        let verifier = tokens.verifier();
        assert!(matches!(tokens.revoke(&policy, &verifier, "task", id, NOW), Err(TokensError::MayNot { .. })));
        tokens.revoke(&policy, &verifier, "operator", id, NOW).expect("may");
        assert_eq!(verifier.verify(narrow.as_str(), NOW), Err(TokenError::Revoked(id)));
        assert!(verifier.verify(token.as_str(), NOW).is_ok(), "the token that it was made of stays");
    }
}
