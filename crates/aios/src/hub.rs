//! The model hub: what is in a repository, and getting a file of it.
//!
//! Three requests of its protocol are used: the list of a repository's files at a revision, which resolves the revision to
//! a commit; a HEAD of the file, which tells its size and SHA-256 (`X-Linked-Size`, `X-Linked-Etag`); and a GET of the
//! file, from any byte on. Tokens go to the hub alone, not to where it redirects.

pub mod cached;
mod download;
mod error;
mod progress;

use std::{io::Read as _, time::Duration};

use aios_models::manifest::is_sha256;
use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode, header},
};

pub use download::{Download, download};
pub use error::HubError;
pub use progress::Progress;

/// The largest lists of files have some thousand entries.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Hubs redirect once to a renamed repository and once to where the file lies.
const MAX_REDIRECTS: usize = 5;
/// A connection over which nothing comes for so long is dead.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(30);
/// Nobody waits longer because a hub says so.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A hub, or a mirror that speaks its protocol.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    retries: u32,
}

/// A repository at a commit.
#[derive(Debug)]
pub struct Repository {
    /// `OWNER/NAME`.
    pub name: String,
    /// The commit that the revision stands for.
    pub commit: String,
    /// Its files.
    pub files: Vec<RepositoryFile>,
    /// What its publisher says about the licence.
    pub licence: Option<String>,
}

/// A file of a repository.
#[derive(Debug)]
pub struct RepositoryFile {
    /// Path inside the repository.
    pub name: String,
    /// Size in bytes, where the hub lists it.
    pub size: Option<u64>,
    /// SHA-256, where the hub lists it.
    pub sha256: Option<String>,
}

/// What the hub says about one file.
#[derive(Debug)]
pub struct FileFacts {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256; hubs know it of large files only.
    pub sha256: Option<String>,
}

/// The hub's answer to the question for a repository. Everything else in it is ignored.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The hub at `endpoint`. Each request that fails for a reason that may pass is tried up to `retries` times again.
    pub fn new(endpoint: &str, token: Option<String>, retries: u32) -> Hub {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("aios/", env!("CARGO_PKG_VERSION")));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Hub { agent: config.build().into(), endpoint, token, retries }
    }

    /// The files of a repository at a revision: a branch, a tag or a commit.
    pub fn repository(&self, name: &str, revision: &str) -> Result<Repository, HubError> {
        let url = format!("{}/api/models/{name}/revision/{}?blobs=true", self.endpoint, encode(revision, false));
        let what = format!("repository {name} at revision {revision}");
        let listing: Listing = self.persistently(|| {
            let mut body = Vec::new();
            let response = self.follow("GET", &url, None, &what)?;
            let mut reader = response.into_body().into_reader().take(MAX_LIST_BYTES);
            reader.read_to_end(&mut body).map_err(|error| HubError::cut(&error))?;
            serde_json::from_slice(&body).map_err(|error| self.strange(&format!("its list of files: {error}")))
        })?;
        let commit = listing.sha;
        if commit.is_empty() || commit.len() > 64 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.strange(&format!("the commit of {what} is {commit:?}")));
        }
        let licence = listing.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
        let files = listing.siblings.into_iter().map(|Sibling { rfilename, size, lfs }| {
            let (sha256, lfs_size) = lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
            RepositoryFile { name: rfilename, size: lfs_size.or(size), sha256 }
        });
        Ok(Repository { name: name.to_owned(), commit, files: files.collect(), licence })
    }

    /// Where a file of a repository is.
    pub fn file_url(&self, repository: &Repository, file: &str) -> String {
        format!("{}/{}/resolve/{}/{}", self.endpoint, repository.name, repository.commit, encode(file, true))
    }

    /// Size and SHA-256 of a file.
    pub fn facts(&self, repository: &Repository, file: &str) -> Result<FileFacts, HubError> {
        let what = format!("file {file} of repository {}", repository.name);
        let mut url = self.file_url(repository, file);
        self.persistently(|| {
            for _ in 0..MAX_REDIRECTS {
                let response = self.send("HEAD", &url, None, &what)?;
                let linked = linked_facts(response.headers());
                match location(&response, &url) {
                    // The hub's own answer tells of the file; where it then lies is none of our business yet.
                    Some(_) if linked.is_some() => {}
                    Some(next) => {
                        url = next;
                        continue;
                    }
                    None => {}
                }
                let plain = || number(response.headers(), header::CONTENT_LENGTH.as_str());
                let facts = linked.or_else(|| plain().map(|size| FileFacts { size, sha256: etag(response.headers()) }));
                return facts.ok_or_else(|| self.strange(&format!("it tells no size of {what}")));
            }
            Err(self.strange("it redirects in circles"))
        })
    }

    /// A file from byte `start` on. One attempt: going on where it ended is the caller's.
    fn open(&self, url: &str, start: u64, what: &str) -> Result<Response<Body>, HubError> {
        self.follow("GET", url, Some(start).filter(|&start| start > 0), what)
    }

    /// Tries again what failed for a reason that may pass.
    fn persistently<T>(&self, mut attempt: impl FnMut() -> Result<T, HubError>) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match attempt() {
                Err(error) if error.may_pass() && failures < self.retries => self.wait(&error, &mut failures),
                result => return result,
            }
        }
    }

    /// Waits before the next attempt: as long as the hub says, else twice as long each time.
    fn wait(&self, error: &HubError, failures: &mut u32) {
        let wait = error.retry_after().unwrap_or(Duration::from_millis(500) * 2_u32.pow((*failures).min(6)));
        *failures += 1;
        let wait = wait.min(LONGEST_WAIT);
        eprintln!("{error}; attempt {} of {} in {:.1} s", *failures + 1, self.retries + 1, wait.as_secs_f32());
        std::thread::sleep(wait);
    }

    fn follow(&self, method: &str, url: &str, start: Option<u64>, what: &str) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(method, &url, start, what)?;
            match location(&response, &url) {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(self.strange("it redirects in circles"))
    }

    fn send(&self, method: &str, url: &str, start: Option<u64>, what: &str) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            "HEAD" => self.agent.head(url),
            _ => self.agent.get(url),
        };
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if let Some(start) = start {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| HubError::transport(origin(url), error))?;
        let status = response.status();
        if status.is_success() || status.is_redirection() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        Err(HubError::status(origin(url), what, self.token.is_some(), &response))
    }

    fn strange(&self, what: &str) -> HubError {
        HubError::Strange { hub: self.endpoint.clone(), what: what.to_owned() }
    }
}

fn linked_facts(headers: &HeaderMap) -> Option<FileFacts> {
    Some(FileFacts { size: number(headers, "x-linked-size")?, sha256: linked_etag(headers) })
}

fn linked_etag(headers: &HeaderMap) -> Option<String> {
    sha256_of(headers.get("x-linked-etag")?.to_str().ok()?)
}

fn etag(headers: &HeaderMap) -> Option<String> {
    sha256_of(headers.get(header::ETAG)?.to_str().ok()?)
}

/// An entity tag that is a SHA-256; those of small files are other hashes.
fn sha256_of(etag: &str) -> Option<String> {
    let bare = etag.trim_start_matches("W/").trim_matches('"');
    Some(bare.to_ascii_lowercase()).filter(|bare| is_sha256(bare))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Where a redirection leads, as an absolute address.
fn location(response: &Response<Body>, from: &str) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get(header::LOCATION)?.to_str().ok()?;
    Some(match to {
        to if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
        to if to.starts_with("//") => format!("{}:{to}", from.split_once(':').map_or("https", |(scheme, _)| scheme)),
        to => format!("{}/{}", origin(from), to.trim_start_matches('/')),
    })
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |length| host + length);
    &url[..end]
}

/// Percent-encodes what can't stand in a path; `/` too, unless `path` says that it separates.
fn encode(text: &str, path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if path => encoded.push('/'),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_put_together() {
        assert_eq!(origin("https://hub.example:8443/a/b?c"), "https://hub.example:8443");
        assert_eq!(origin("http://hub"), "http://hub");
        assert_eq!(encode("a b/ü.gguf", true), "a%20b/%C3%BC.gguf");
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        let response =
            |to: &str| Response::builder().status(302).header("location", to).body(Body::builder().data("")).unwrap();
        let from = "https://hub.example/a/b";
        assert_eq!(location(&response("/c/d"), from).unwrap(), "https://hub.example/c/d");
        assert_eq!(location(&response("//cdn.example/c"), from).unwrap(), "https://cdn.example/c");
        assert_eq!(location(&response("http://cdn.example/c"), from).unwrap(), "http://cdn.example/c");
    }

    #[test]
    fn an_entity_tag_counts_only_where_it_is_a_sha256() {
        let hash = "0a".repeat(32);
        assert_eq!(sha256_of(&format!("\"{hash}\"")), Some(hash.clone()));
        assert_eq!(sha256_of(&format!("W/\"{}\"", hash.to_uppercase())), Some(hash));
        assert_eq!(sha256_of("\"5d41402abc4b2a76b9719d911017c592\""), None);
    }
}
