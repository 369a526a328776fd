//! The web, from within a tool: whom it reaches, how long it waits, how much it takes.

mod address;

use std::{
    io::{self, Read},
    time::Duration,
};

use address::is_public;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
    tls::{RootCerts, TlsConfig},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use crate::{
    access::Access,
    args::WebUrl,
    error::{Code, ToolError},
};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Time to find and reach a server.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Which servers can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those with a public address.
    Public,
    /// The one that was named, also if its address is this device's or the local network's.
    Local,
}

impl Reach {
    /// By the argument `local`.
    pub(crate) fn of(local: bool) -> Self {
        if local { Reach::Local } else { Reach::Public }
    }
}

/// What a request to `url` needs: `web:<action>:<host>`, and `web:local:<host>` for servers without a public address.
pub(crate) fn access(action: &str, url: &WebUrl, reach: Reach) -> Access {
    let resource = url.resource();
    let access = Access::needs(format!("web:{action}:{resource}")).on_network();
    let access = access.sees("/etc/hosts").sees("/etc/resolv.conf").sees("/run/resolv.conf");
    if reach == Reach::Local { access.and(format!("web:local:{resource}")) } else { access }
}

/// Finds addresses as the system does, and leaves out those that are not to be reached. The connection is made to just
/// these, so that a name can't stand for one address when it is checked and for another when it is used.
#[derive(Debug)]
struct Checked {
    reach: Reach,
    system: DefaultResolver,
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = self.system.resolve(uri, config, timeout)?;
        if self.reach == Reach::Local {
            return Ok(all);
        }
        let mut public = self.empty();
        all.iter().filter(|address| is_public(address.ip())).for_each(|address| public.push(*address));
        if public.is_empty() {
            let text = "its address belongs to this device or a local network; such a server takes local = true and the \
                        capability web:local for it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
        }
        Ok(public)
    }
}

/// Makes requests.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
}

impl Client {
    /// A client whose requests take no longer than `time`, bodies included.
    pub(crate) fn new(reach: Reach, time: Duration) -> Self {
        Self::trusting(reach, time, RootCerts::WebPki)
    }

    fn trusting(reach: Reach, time: Duration, roots: RootCerts) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Not by the environment: whoever sets it would see all.
            .proxy(None)
            .timeout_global(Some(time))
            .timeout_resolve(Some(CONNECT_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            .user_agent("aiOS")
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let resolver = Checked { reach, system: DefaultResolver::default() };
        Client { agent: Agent::with_parts(config, DefaultConnector::default(), resolver) }
    }

    /// `GET`, following redirects on the same server.
    pub(crate) fn get(&self, url: &WebUrl, accept: &str) -> Result<(WebUrl, Response<Body>), ToolError> {
        self.get_with(url, &[(header::ACCEPT.as_str(), accept)])
    }

    /// `GET` with headers of one's own.
    pub(crate) fn get_with(
        &self,
        url: &WebUrl,
        headers: &[(&str, &str)],
    ) -> Result<(WebUrl, Response<Body>), ToolError> {
        self.follow(url, |url| {
            let request =
                headers.iter().fold(self.agent.get(url), |request, (name, value)| request.header(*name, *value));
            request.call()
        })
    }

    /// `HEAD`, following redirects on the same server.
    pub(crate) fn head(&self, url: &WebUrl) -> Result<(WebUrl, Response<Body>), ToolError> {
        self.follow(url, |url| self.agent.head(url).call())
    }

    /// `POST` of `body`. A redirect is an answer like others: nothing is sent twice.
    pub(crate) fn post(
        &self,
        url: &WebUrl,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, ToolError> {
        let mut request = self.agent.post(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).map_err(|error| failed(url, error))
    }

    fn follow(
        &self,
        first: &WebUrl,
        call: impl Fn(&str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<(WebUrl, Response<Body>), ToolError> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = call(url.as_str()).map_err(|error| failed(&url, error))?;
            let Some(location) = redirect(&response) else { return Ok((url, response)) };
            let next = url.join(&location).map_err(|error| {
                ToolError::new(Code::FailedPrecondition, format!("{url} leads on to what can't be asked: {error}"))
            })?;
            if !next.same_server(first) {
                let text = format!(
                    "{url} leads on to another server, {next}: ask for that, which takes a capability for {}",
                    next.resource()
                );
                return Err(ToolError::new(Code::FailedPrecondition, text));
            }
            url = next;
        }
        Err(ToolError::new(Code::FailedPrecondition, format!("{first} leads on more than {REDIRECTS_MAX} times")))
    }
}

/// Where an answer leads on to.
fn redirect(response: &Response<Body>) -> Option<String> {
    use StatusCode as S;
    let statuses = [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT];
    let location = response.headers().get(header::LOCATION).filter(|_| statuses.contains(&response.status()))?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// The first `limit` bytes of a body, and whether there are more.
pub(crate) fn read(url: &WebUrl, body: Body, limit: u64) -> Result<(Vec<u8>, bool), ToolError> {
    let mut bytes = Vec::new();
    let reader = body.into_with_config().limit(u64::MAX).reader();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| broken(url, error))?;
    let more = bytes.len() as u64 > limit;
    bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((bytes, more))
}

/// What kind of content an answer says that it is, in small letters and without parameters; and the whole.
pub(crate) fn content_type(response: &Response<Body>) -> (String, String) {
    let value = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let whole = String::from_utf8_lossy(value).to_ascii_lowercase();
    (whole.split(';').next().unwrap_or_default().trim().to_owned(), whole)
}

/// What went wrong while a body was read.
pub(crate) fn broken(url: &WebUrl, error: io::Error) -> ToolError {
    failed(url, ureq::Error::from(error))
}

/// What went wrong with a request to `url`.
fn failed(url: &WebUrl, error: ureq::Error) -> ToolError {
    use ureq::Error as E;
    let server = url.resource();
    match error {
        E::Timeout(_) => ToolError::new(Code::TimedOut, format!("{server} did not answer in time")),
        E::HostNotFound => ToolError::new(Code::Unavailable, format!("{server}: no address is known for this name")),
        E::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            ToolError::new(Code::Unavailable, format!("{server} does not prove who it is: {error}"))
        }
        // The resolver's library has no kind for this.
        E::Io(error) if error.to_string().contains("failed to lookup address") => {
            ToolError::new(Code::Unavailable, format!("{server}: {error}"))
        }
        E::Io(error) => ToolError::of_io(server, &error),
        E::Rustls(error) => ToolError::new(Code::Unavailable, format!("{server} does not prove who it is: {error}")),
        error => ToolError::new(Code::Unavailable, format!("{server}: {error}")),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
