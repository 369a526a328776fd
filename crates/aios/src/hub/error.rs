//! What can go wrong with a hub, and whether waiting helps.

use std::{io, time::Duration};

use ureq::{
    Body, Error,
    http::{Response, StatusCode, header},
};

/// What went wrong. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// It can't be reached.
    #[error(
        "{hub} can't be reached: {reason}. Is the device online? A mirror is named by models.hub-endpoint or HF_ENDPOINT; \
         without a network, copy the file here and use `aios model import`"
    )]
    Unreachable {
        /// Address without its path.
        hub: String,
        /// What the system said.
        reason: String,
    },
    /// It can't be trusted to be who it says.
    #[error("{hub}: no secure connection: {reason}. Is the clock of this device right, and the address a hub's?")]
    Insecure {
        /// Address without its path.
        hub: String,
        /// What TLS said.
        reason: String,
    },
    /// It wants to know who asks, or does not allow it.
    #[error("{hub} refuses access to the {what} ({status}): {advice}")]
    Refused {
        /// Address without its path.
        hub: String,
        /// What was asked for.
        what: String,
        /// Answer.
        status: u16,
        /// What would help.
        advice: &'static str,
    },
    /// It has no such thing.
    #[error("{hub} has no {what}; if it is private, a token is needed (models.hub-token-file or HF_TOKEN)")]
    Missing {
        /// Address without its path.
        hub: String,
        /// What was asked for.
        what: String,
    },
    /// It has trouble, or too much to do.
    #[error("{hub} answers {status} for the {what}{}", .after.map(|after| format!(" and asks to wait {} s", after.as_secs())).unwrap_or_default())]
    Trouble {
        /// Address without its path.
        hub: String,
        /// What was asked for.
        what: String,
        /// Answer.
        status: u16,
        /// How long to wait, as it says.
        after: Option<Duration>,
    },
    /// The connection ended too early.
    #[error("the connection was cut: {0}")]
    Cut(String),
    /// It does not speak the protocol.
    #[error("{hub} does not answer as a model hub does: {what}")]
    Strange {
        /// Address.
        hub: String,
        /// What is odd.
        what: String,
    },
}

impl HubError {
    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, HubError::Unreachable { .. } | HubError::Trouble { .. } | HubError::Cut(_))
    }

    /// How long the hub asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            HubError::Trouble { after, .. } => *after,
            _ => None,
        }
    }

    /// A body that ended too early.
    pub fn cut(error: &io::Error) -> HubError {
        HubError::Cut(error.to_string())
    }

    /// A request that got no answer.
    pub(super) fn transport(hub: &str, error: Error) -> HubError {
        let hub = hub.to_owned();
        match error {
            Error::Tls(reason) => HubError::Insecure { hub, reason: reason.to_owned() },
            Error::Rustls(error) => HubError::Insecure { hub, reason: error.to_string() },
            // TLS reports through the stream that it is under.
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                HubError::Insecure { hub, reason: error.to_string() }
            }
            Error::BadUri(_) | Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::Http(_) => {
                HubError::Strange { hub, what: error.to_string() }
            }
            error => HubError::Unreachable { hub, reason: error.to_string() },
        }
    }

    /// An answer that is a refusal.
    pub(super) fn status(hub: &str, what: &str, token: bool, response: &Response<Body>) -> HubError {
        let (hub, what, status) = (hub.to_owned(), what.to_owned(), response.status());
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = match token {
                    true => {
                        "accept the model's licence on its page with the account that the token belongs to, and check the token"
                    }
                    false => {
                        "accept the model's licence on its page, and give a token of that account (models.hub-token-file or HF_TOKEN)"
                    }
                };
                HubError::Refused { hub, what, status: status.as_u16(), advice }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => HubError::Missing { hub, what },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => trouble(hub, what, response),
            status if status.is_server_error() => trouble(hub, what, response),
            status => HubError::Strange { hub, what: format!("{status} for the {what}") },
        }
    }
}

fn trouble(hub: String, what: String, response: &Response<Body>) -> HubError {
    let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    HubError::Trouble { hub, what, status: response.status().as_u16(), after }
}
