//! Who calls, and what the policy lets them do.

use std::{fs, sync::Arc};

use aios_policy::{Capability, Origin, Peer, Policy};
use tonic::{Request, Status, transport::server::UdsConnectInfo};

use crate::kind::Kind;

/// What a caller wants to do with items of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
}

/// What a request over TCP is known by. Only this process can put one into a request.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    /// The agent of the policy that whoever carries the token is.
    pub agent: String,
}

/// An agent of the policy.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub agent: String,
    policy: Arc<Policy>,
}

impl Caller {
    /// The agent at the other end, by the kernel's word, or by the token that was checked.
    pub fn of<T>(request: &Request<T>, policy: &Arc<Policy>) -> Result<Caller, Status> {
        let policy = policy.clone();
        if let Some(bearer) = request.extensions().get::<Bearer>() {
            return Ok(Caller { agent: bearer.agent.clone(), policy });
        }
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let uid = peer.ok_or_else(|| Status::unauthenticated("the kernel does not say who calls"))?.uid();
        let name = user_name(uid);
        let found = policy.identify(Peer::User { uid, name: name.as_deref() }).map(|(agent, _)| agent.to_owned());
        let user = || name.clone().unwrap_or_else(|| uid.to_string());
        let stranger = || Status::permission_denied(format!("user {} is no agent of the policy", user()));
        Ok(Caller { agent: found.ok_or_else(stranger)?, policy })
    }

    /// Whether it may do this with items of this kind.
    pub fn may(&self, action: Action, what: &str) -> bool {
        let action = match action {
            Action::Read => "read",
            Action::Write => "write",
        };
        self.holds(&format!("memory:{action}:{what}"))
    }

    /// Refuses where it may not.
    pub fn check(&self, action: Action, kind: Kind) -> Result<(), Status> {
        self.check_named(action, kind.name())
    }

    /// Refuses where it may not do this with what has this name in capabilities.
    pub fn check_named(&self, action: Action, what: &str) -> Result<(), Status> {
        if self.may(action, what) {
            return Ok(());
        }
        let action = if action == Action::Read { "read" } else { "write" };
        Err(self.refused(&format!("memory:{action}:{what}")))
    }

    /// Refuses where it may not erase.
    pub fn check_erase(&self) -> Result<(), Status> {
        let need = "memory:erase:all";
        if self.holds(need) { Ok(()) } else { Err(self.refused(need)) }
    }

    /// Refuses an origin that the policy trusts and that this agent may not vouch for.
    pub fn check_origin(&self, origin: &Origin) -> Result<(), Status> {
        let vouches = self.policy.agents.get(&self.agent).is_some_and(|agent| agent.vouches.contains(origin));
        if vouches || !self.policy.taint.trusted.contains(origin) {
            return Ok(());
        }
        let text =
            format!("{} may not vouch for the origin {origin}: `vouches` in the policy says who may", self.agent);
        Err(Status::permission_denied(text))
    }

    fn holds(&self, need: &str) -> bool {
        Capability::literal(need).is_ok_and(|need| self.policy.holds(&self.agent, &need))
    }

    fn refused(&self, need: &str) -> Status {
        Status::permission_denied(format!("{} may not do this: it needs {need}", self.agent))
    }
}

/// Name of the user with this number, by `/etc/passwd`.
fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
