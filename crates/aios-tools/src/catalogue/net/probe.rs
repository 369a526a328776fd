//! `net.probe`

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dns;
use crate::{
    access::Access,
    args::{Count, HostName},
    error::ToolError,
    host::Host,
    text::tenths,
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

/// As many addresses of a host are tried.
const ADDRESSES_MAX: usize = 4;

pub struct Probe;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name or address.
    host: HostName,
    /// TCP port.
    port: NonZeroU16,
    /// How long each of its addresses (up to 4) has to answer, in milliseconds.
    #[serde(default)]
    timeout_ms: Count<100, 5000, 2000>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether somebody took the connection.
    open: bool,
    /// Each address that was tried, until one answered.
    attempts: Vec<Attempt>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Attempt {
    /// Address.
    address: IpAddr,
    /// How long the answer took, in milliseconds.
    latency_ms: f64,
    /// Why there is no connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Tool for Probe {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.probe",
        description: "Tries whether a TCP port of a host takes connections, and how long that takes. Sends no data.",
        examples: &[Example {
            goal: "is the broker at broker.example.org reachable",
            arguments: r#"{"host": "broker.example.org", "port": 8883}"#,
        }],
        needs: &["net:probe:{host}:{port}"],
        risk: Risk::Medium,
        timeout: Duration::from_secs(45),
        sinks: &["/host", "/port"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        dns::sees(Access::needs(format!("net:probe:{}:{}", input.host, input.port)))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let timeout = Duration::from_millis(input.timeout_ms.get());
        let mut output = Output { open: false, attempts: Vec::new() };
        for address in dns::lookup(host, &input.host)?.into_iter().take(ADDRESSES_MAX) {
            let start = Instant::now();
            let result = TcpStream::connect_timeout(&SocketAddr::new(address, input.port.get()), timeout);
            output.open = result.is_ok();
            let latency_ms = tenths(start.elapsed().as_secs_f64() * 1000.0);
            output.attempts.push(Attempt { address, latency_ms, reason: result.err().map(|error| error.to_string()) });
            if output.open {
                break;
            }
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;
    use crate::{error::Code, testing::call};

    #[test]
    fn an_open_port_and_a_closed_one_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("address").port();
        let probe =
            |port: u16| call::<Probe>(&Host::device(), json!({"host": "127.0.0.1", "port": port})).expect("probe");
        assert_eq!(probe(port)["open"], true);
        drop(listener);
        let closed = probe(port);
        assert_eq!(closed["open"], false);
        assert!(closed["attempts"][0]["reason"].as_str().expect("a reason").contains("refused"), "{closed}");
    }

    #[test]
    fn the_capability_names_host_and_port_as_they_are_used() {
        let access = |arguments| Probe::access(&serde_json::from_value(arguments).expect("arguments")).capabilities;
        assert_eq!(access(json!({"host": "Example.ORG.", "port": 80})), ["net:probe:example.org:80"]);
        assert_eq!(access(json!({"host": "2001:DB8::0:1", "port": 80})), ["net:probe:2001:db8::1:80"]);
        let code = call::<Probe>(&Host::device(), json!({"host": "127.0.0.1", "port": 0})).map_err(|error| error.code);
        assert_eq!(code, Err(Code::InvalidArgument));
    }
}
