//! `web.download`

use std::{
    borrow::Cow,
    io::{Read as _, Write as _},
    time::Duration,
};

use aios_keys::hex;
use rustix::fs::Mode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::Body;

use crate::{
    access::{Access, Privilege},
    args::{AbsolutePath, Count, WebUrl},
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
    http::{self, Client, Reach},
    replacement::{Over, Replacement},
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

/// Time for all of it.
const TIME_MAX: Duration = Duration::from_secs(590);

pub struct Download;

/// SHA-256 as 64 hexadecimal digits.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Digest(String);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address to fetch.
    url: WebUrl,
    /// File to store it in. Its folder must exist.
    path: AbsolutePath,
    /// SHA-256 that the content must have; else nothing is stored.
    #[serde(default)]
    sha256: Option<Digest>,
    /// Bytes at most; nothing is stored of what is longer.
    #[serde(default)]
    max_bytes: Count<1, 17_179_869_184, 268_435_456>,
    /// Whether a file that exists is replaced.
    #[serde(default)]
    overwrite: bool,
    /// Whether the server may be this device or in the local network; takes `web:local:<host>`.
    #[serde(default)]
    local: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Address that answered, after redirects on the same server.
    url: WebUrl,
    /// Size in bytes.
    size_bytes: u64,
    /// SHA-256 of the contents.
    sha256: String,
    /// Content type as the server states it.
    content_type: String,
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Digest(text.to_ascii_lowercase()));
        }
        Err(format!("{text:?} is no SHA-256: 64 hexadecimal digits"))
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" })
    }
}

impl Tool for Download {
    const SPEC: ToolSpec = ToolSpec {
        name: "web.download",
        description: "Downloads a file from the web into a file, which appears whole or not at all: up to 256 MiB unless \
                      more is allowed (16 GiB at most), in up to 10 minutes. A redirect to another server is reported, \
                      not followed.",
        examples: &[Example {
            goal: "get the new model",
            arguments: r#"{"url": "https://example.com/a.gguf", "path": "/var/lib/aios/models/a.gguf", "max_bytes": 2000000000}"#,
        }],
        needs: &["web:fetch:{url}", "web:local:{url}", "fs:write:{path}"],
        risk: Risk::Medium,
        reversible: true,
        timeout: Duration::from_secs(600),
        sinks: &["/url", "/path"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = http::access("fetch", &input.url, Reach::of(input.local)).replaces(&input.path);
        access.with(Privilege::FileOwner).with(Privilege::WriteAll).with_files_of(input.max_bytes.get())
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let place = Tree::of(host)?.place(&input.path)?;
        match place.stat()?.map(|stat| Kind::of(&stat)) {
            None => {}
            Some(Kind::File) if input.overwrite => {}
            Some(_) => return Err(ToolError::new(Code::AlreadyExists, format!("{} exists already", input.path))),
        }
        let client = Client::new(Reach::of(input.local), TIME_MAX);
        let (url, response) = client.get(&input.url, "*/*")?;
        let status = response.status();
        if status != 200 {
            return Err(ToolError::new(Code::Unavailable, format!("{url} answers with {status} instead of the file")));
        }
        let content_type = http::content_type(&response).0;
        let mut new = Replacement::begin(&place, Mode::from_raw_mode(0o644))?;
        if input.overwrite {
            new = new.like_old()?;
        }
        let (size_bytes, sha256) = store(&url, response.into_body(), &mut new, &input)?;
        if let Some(expected) = input.sha256.filter(|expected| expected.0 != sha256) {
            let text = format!("{url} has the SHA-256 {sha256} instead of {}: nothing was stored", expected.0);
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        new.place(if input.overwrite { Over::Anything } else { Over::Nothing })?;
        Ok(Output { url, size_bytes, sha256, content_type })
    }
}

/// Writes a body, and returns its length and hash.
fn store(url: &WebUrl, body: Body, new: &mut Replacement<'_>, input: &Input) -> Result<(u64, String), ToolError> {
    let limit = input.max_bytes.get();
    let too_large = || ToolError::new(Code::TooLarge, format!("{url} is longer than {limit} bytes (max_bytes)"));
    if body.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = body.into_with_config().limit(u64::MAX).reader();
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = body.read(&mut buffer).map_err(|error| http::broken(url, error))?;
        if read == 0 {
            return Ok((size, hex::encode(&hash.finalize())));
        }
        size += read as u64;
        if size > limit {
            return Err(too_large());
        }
        hash.update(&buffer[..read]);
        new.file().write_all(&buffer[..read]).map_err(|error| ToolError::io(input.path.as_path(), &error))?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::fs::testing::{call, check_inverse, states},
        http::testing::{Server, respond},
    };

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn server() -> Server {
        Server::start(|request, to| match request.head.split(' ').nth(1).unwrap_or_default() {
            "/abc" => respond(to, "200 OK", "Content-Type: text/plain\r\n", b"abc"),
            "/endless" => {
                let _ = to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while to.write_all(b"4\r\naaaa\r\n").is_ok() {}
            }
            "/broken" => drop(to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")),
            _ => respond(to, "404 Not Found", "", b"abc"),
        })
    }

    #[test]
    fn a_file_is_downloaded_whole_and_can_be_undone() {
        let (server, folder) = (server(), tempfile::tempdir().expect("tempdir"));
        let arguments = json!({"url": server.url("/abc"), "path": "/f", "local": true, "sha256": ABC.to_uppercase()});
        let got = call::<Download>(&Host::below(folder.path()), arguments.clone()).expect("download");
        assert_eq!(
            got,
            json!({"url": server.url("/abc"), "size_bytes": 3, "sha256": ABC, "content_type": "text/plain"})
        );
        assert_eq!(fs::read_to_string(folder.path().join("f")).expect("read"), "abc");
        let again = call::<Download>(&Host::below(folder.path()), arguments).expect_err("exists");
        assert_eq!(again.code, Code::AlreadyExists);
        fs::write(folder.path().join("f"), "old").expect("write");
        check_inverse::<Download>(
            folder.path(),
            json!({"url": server.url("/abc"), "path": "/f", "local": true, "overwrite": true}),
        );
        check_inverse::<Download>(folder.path(), json!({"url": server.url("/abc"), "path": "/g", "local": true}));
    }

    #[test]
    fn nothing_is_stored_of_what_is_not_as_it_should_be() {
        let (server, folder) = (server(), tempfile::tempdir().expect("tempdir"));
        fs::write(folder.path().join("f"), "old").expect("write");
        let before = states(folder.path());
        let host = Host::below(folder.path());
        for (path, more, code) in [
            ("/abc", json!({"sha256": "0".repeat(64)}), Code::FailedPrecondition),
            ("/abc", json!({"max_bytes": 2}), Code::TooLarge),
            ("/endless", json!({"max_bytes": 100_000}), Code::TooLarge),
            ("/broken", json!({}), Code::Unavailable),
            ("/none", json!({}), Code::Unavailable),
            ("/abc", json!({"local": false}), Code::PermissionDenied),
            ("/abc", json!({"path": "/none/f"}), Code::NotFound),
        ] {
            let mut arguments = json!({"url": server.url(path), "path": "/f", "local": true, "overwrite": true});
            arguments.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            let error = call::<Download>(&host, arguments.clone()).expect_err(path);
            assert_eq!(error.code, code, "{arguments}: {error}");
            assert_eq!(states(folder.path()), before, "{arguments}");
        }
    }
}
