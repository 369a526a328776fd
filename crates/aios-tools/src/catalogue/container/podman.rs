//! Questions to podman's service (its libpod API, HTTP over a Unix socket).
//!
//! The service does what a tool's sandbox must not be able to: mounts, namespaces, cgroups. A tool sees its socket, no more.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    text::plain,
};

/// Where the service listens.
const SOCKET: &str = "/run/podman/podman.sock";

/// Version of the API: the one of podman 4, which podman 5 speaks too.
const API: &str = "/v4.0.0/libpod";

/// How long the service has for each piece of its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most of an answer that is read, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// Longest line of a header, in bytes.
const LINE_MAX: u64 = 8 << 10;

/// Name of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Name of an image: `localhost/sensor:1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// What the service answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// Body, as far as the limit.
    pub body: Vec<u8>,
}

/// What talking to the service takes.
pub fn access(capability: impl Into<String>) -> Access {
    Access::needs(capability).talks_to(SOCKET)
}

/// Asks the service. `path` begins with `/` and holds nothing that a caller wrote, but for checked names.
pub fn ask(host: &Host, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, ToolError> {
    let stream = UnixStream::connect(host.path(SOCKET)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let text = format!("podman is not installed on this device, or its service does not run ({SOCKET})");
            ToolError::new(Code::NotInstalled, text)
        }
        _ => ToolError::of_io(SOCKET, &error),
    })?;
    converse(stream, method, path, body).map_err(|error| ToolError::of_io("podman's service", &error))
}

fn converse(mut stream: UnixStream, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {API}{path} HTTP/1.1\r\nHost: podman\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let status =
        status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| invalid("no status line"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(&mut reader)?;
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse::<u64>().map_err(|_| invalid("content-length"))?),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        chunks(&mut reader, &mut body)?;
    } else if !matches!(status, 204 | 304) {
        reader.take(length.unwrap_or(ANSWER_MAX).min(ANSWER_MAX)).read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(reader)?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| invalid("size of a chunk"))?;
        if size == 0 {
            return Ok(());
        }
        let left = ANSWER_MAX - body.len() as u64;
        if size > left {
            reader.take(left).read_to_end(body)?;
            return Ok(());
        }
        if reader.take(size).read_to_end(body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line(reader)?;
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LINE_MAX).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no HTTP: {what}"))
}

impl Answer {
    /// Itself where it is a success, else what the service said.
    pub fn succeeded(self) -> Result<Answer, ToolError> {
        if matches!(self.status, 200..=299 | 304) {
            return Ok(self);
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = body["message"].as_str().or(body["cause"].as_str()).unwrap_or("no reason given");
        let code = match self.status {
            404 => Code::NotFound,
            // An image that is not there is an error of the service's own to podman 4.
            _ if body["cause"] == "image not known" => Code::NotFound,
            409 => Code::FailedPrecondition,
            400 => Code::InvalidArgument,
            _ => Code::Failed,
        };
        Err(ToolError::new(code, format!("podman refused ({}): {}", self.status, plain(said, 300))))
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value, ToolError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            ToolError::new(Code::Failed, format!("podman's service answered with what is no JSON: {error}"))
        })
    }
}

macro_rules! name {
    ($type:ident, $pattern:expr, $length:expr, $extra:pat, $what:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, $extra);
                let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
                if name.len() <= $length && first && name.bytes().all(allowed) && !name.contains("..") && !name.contains("//") {
                    return Ok($type(name));
                }
                Err(format!("{name:?} is not the name of {}", $what))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

name!(ContainerName, "^[a-z0-9][a-z0-9_.-]{0,62}$", 63, b'_' | b'.' | b'-', "a container");
name!(ImageName, "^[a-z0-9][a-z0-9_.:/-]{0,199}$", 200, b'_' | b'.' | b'-' | b'/' | b':', "an image");
