//! Who may ask: the bearer token, or, without one, nobody but programs on this machine.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};

use super::error::ApiError;

/// The token that requests must carry. Only its digest is kept: equal lengths make the comparison take equal time.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// A token file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It could not be read.
    #[error("token file {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no token, or something that no header can carry.
    #[error("token file {}: {reason}", path.display())]
    Content {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Shortest token. 16 characters of a random text are beyond guessing over a network.
const MIN_TOKEN: usize = 16;

impl Token {
    /// Reads a token; white space around it is dropped.
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let read = |source| TokenError::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(read)?;
        let refuse = |reason| Err(TokenError::Content { path: path.to_owned(), reason });
        let token = text.trim();
        if token.is_empty() {
            return refuse("is empty: write a token into it");
        }
        if token.len() < MIN_TOKEN {
            return refuse("holds fewer than 16 characters: write a longer token");
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("holds characters that a header can't carry: use visible ASCII");
        }
        if fs::metadata(path).map_err(read)?.permissions().mode() & 0o007 != 0 {
            tracing::warn!(path = %path.display(), "token file is open to every user of this machine: use mode 0400");
        }
        Ok(Token::new(token))
    }

    /// A token from its text.
    pub fn new(token: &str) -> Token {
        Token(Sha256::digest(token).into())
    }

    fn is(&self, candidate: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(candidate).into();
        let difference = self.0.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// Refuses requests that may not ask. `/health` answers anybody.
pub async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health"
        && let Err(error) = check(token.as_ref(), request.headers(), request.uri())
    {
        tracing::warn!(path = request.uri().path(), "request refused by the guard");
        return error.into_response();
    }
    next.run(request).await
}

fn check(token: Option<&Token>, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let Some(token) = token else { return check_host(headers, uri) };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized("Send the API key in the header Authorization: Bearer KEY."));
    };
    let candidate = value.to_str().ok().and_then(|text| text.split_once(' '));
    match candidate {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") && token.is(key.trim()) => Ok(()),
        _ => Err(ApiError::unauthorized("The API key is not the one in this device's runtime.http.token-file.")),
    }
}

/// Without a token, loopback is the only protection, and a web page gets around it by pointing its own host name at
/// 127.0.0.1 (DNS rebinding). Such a request carries that name.
fn check_host(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = uri.authority().map(|authority| authority.as_str()).or(header) else { return Ok(()) };
    let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if name.eq_ignore_ascii_case("localhost") || address.is_ok() {
        return Ok(());
    }
    Err(ApiError::forbidden(format!("The host '{host}' is not this machine: use localhost or an IP address.")))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(token: Option<&str>, name: header::HeaderName, value: &str) -> bool {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
        check(token.map(Token::new).as_ref(), &headers, &Uri::from_static("/v1/models")).is_ok()
    }

    #[test]
    fn only_the_right_token_passes() {
        let ask = |value| asked(Some("the-right-token-0"), header::AUTHORIZATION, value);
        assert!(ask("Bearer the-right-token-0"));
        assert!(ask("bearer the-right-token-0"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer the-right-token-", "Bearer the-right-token-00", "Basic the-right-token-0"]
        {
            assert!(!ask(wrong), "{wrong:?} passed");
        }
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_pass() {
        let ask = |value| asked(None, header::HOST, value);
        for own in ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]", "[::1]:8080", "10.0.2.15:80"]
        {
            assert!(ask(own), "{own} was refused");
        }
        for foreign in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!ask(foreign), "{foreign} passed");
        }
    }

    #[test]
    fn a_token_file_must_hold_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Token::read(&path)
        };
        assert!(read("  0123456789abcdef\n").expect("a good token").is("0123456789abcdef"));
        for bad in ["", " \n", "short", "0123456789 abcdef", "0123456789abcdé0"] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
        let missing = Token::read(&dir.path().join("none")).err().expect("there is no such file");
        assert!(missing.to_string().contains("none"));
    }
}
