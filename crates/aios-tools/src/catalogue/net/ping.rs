//! `net.ping`

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dns;
use crate::{
    access::{Access, Privilege},
    args::{Count, HostName},
    error::ToolError,
    host::Host,
    text::thousandths,
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

/// Between two packets.
const INTERVAL: Duration = Duration::from_millis(200);

/// Bytes that make an answer ours, beside its number.
const TOKEN: usize = 16;

/// Type, code, checksum, identifier and sequence number (RFC 792, RFC 4443).
const HEADER: usize = 8;

pub struct Ping;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name or address.
    host: HostName,
    /// Packets to send, 1 to 10.
    #[serde(default)]
    count: Count<1, 10, 3>,
    /// How long each packet has to come back, in milliseconds.
    #[serde(default)]
    timeout_ms: Count<50, 3000, 1000>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Address that was asked: the first one of the host.
    address: IpAddr,
    /// Packets sent.
    sent: u64,
    /// Answers.
    received: u64,
    /// Shortest way there and back, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    least_ms: Option<f64>,
    /// Mean, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_ms: Option<f64>,
    /// Longest, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    most_ms: Option<f64>,
}

impl Tool for Ping {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.ping",
        description: "Sends up to 10 echo packets (ICMP) to a host and measures how long they take.",
        examples: &[
            Example { goal: "is 192.0.2.1 there", arguments: r#"{"host": "192.0.2.1"}"# },
            Example {
                goal: "how stable is the line to example.org",
                arguments: r#"{"host": "example.org", "count": 10}"#,
            },
        ],
        needs: &["net:ping:{host}"],
        risk: Risk::Medium,
        timeout: Duration::from_secs(60),
        sinks: &["/host"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        dns::sees(Access::needs(format!("net:ping:{}", input.host))).with(Privilege::NetRaw)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let address = dns::lookup(host, &input.host)?[0];
        let failed = |error: io::Error| ToolError::of_io(address, &error);
        let mut token = [0; TOKEN];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        let socket = open(address).map_err(failed)?;
        let timeout = Duration::from_millis(input.timeout_ms.get());
        let mut times = Vec::new();
        for number in 0..input.count.get() {
            if number > 0 {
                thread::sleep(INTERVAL);
            }
            let echo = Echo { v4: address.is_ipv4(), number: number as u16, token };
            let start = Instant::now();
            rustix::net::send(&socket, &echo.request(), SendFlags::empty()).map_err(|errno| failed(errno.into()))?;
            if wait(&socket, &echo, start + timeout).map_err(failed)? {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
        let received = times.len() as u64;
        Ok(Output {
            address,
            sent: input.count.get(),
            received,
            least_ms: times.iter().copied().reduce(f64::min).map(thousandths),
            mean_ms: (received > 0).then(|| thousandths(times.iter().sum::<f64>() / received as f64)),
            most_ms: times.iter().copied().reduce(f64::max).map(thousandths),
        })
    }
}

/// A raw socket that gets the packets of `address` alone.
fn open(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) =
        if address.is_ipv4() { (AddressFamily::INET, ipproto::ICMP) } else { (AddressFamily::INET6, ipproto::ICMPV6) };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    rustix::net::connect(&socket, &SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// Waits for the answer to `echo`; `false` where it does not come in time.
fn wait(socket: &OwnedFd, echo: &Echo, deadline: Instant) -> io::Result<bool> {
    let mut packet = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Zero would mean to wait for ever.
        let left = left.max(Duration::from_millis(1));
        sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(left))?;
        match rustix::net::recv(socket, &mut packet, RecvFlags::empty()) {
            Ok((length, _)) if echo.is_answered_by(&packet[..length]) => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// One packet that is sent to come back.
struct Echo {
    v4: bool,
    number: u16,
    token: [u8; TOKEN],
}

impl Echo {
    fn request(&self) -> [u8; HEADER + TOKEN] {
        let mut packet = [0; HEADER + TOKEN];
        packet[0] = if self.v4 { 8 } else { 128 };
        packet[4..6].copy_from_slice(&self.token[..2]);
        packet[6..8].copy_from_slice(&self.number.to_be_bytes());
        packet[HEADER..].copy_from_slice(&self.token);
        // The kernel fills in ICMPv6's checksum.
        if self.v4 {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    fn is_answered_by(&self, packet: &[u8]) -> bool {
        // Raw sockets of IPv4 show the packet with the header of IP, whose length is in its first byte.
        let start = if self.v4 { packet.first().map_or(0, |byte| usize::from(byte & 15) * 4) } else { 0 };
        let Some(packet) = packet.get(start..start + HEADER + TOKEN) else { return false };
        let request = self.request();
        packet[0] == if self.v4 { 0 } else { 129 } && packet[1] == 0 && packet[4..] == request[4..]
    }
}

/// The internet's checksum (RFC 1071).
fn checksum(packet: &[u8]) -> u16 {
    let sum: u32 =
        packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::net::set_link::SetLink,
        error::Code,
        testing::{apart, call},
    };

    #[test]
    fn loopback_answers_and_what_is_not_there_does_not() {
        apart(|| {
            let host = Host::device();
            let down = call::<Ping>(&host, json!({"host": "127.0.0.1", "count": 1})).map_err(|error| error.code);
            assert_eq!(down, Err(Code::Unavailable));
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            for address in ["127.0.0.1", "::1"] {
                let answer = call::<Ping>(&host, json!({"host": address, "count": 2})).expect("ping");
                assert_eq!((&answer["sent"], &answer["received"]), (&json!(2), &json!(2)), "{address}");
                assert!(answer["least_ms"].as_f64() <= answer["most_ms"].as_f64());
            }
        });
    }

    #[test]
    fn only_the_answer_to_this_packet_counts() {
        let echo = Echo { v4: false, number: 7, token: [9; TOKEN] };
        let mut answer = echo.request();
        assert!(!echo.is_answered_by(&answer), "the request itself");
        answer[0] = 129;
        assert!(echo.is_answered_by(&answer));
        for (byte, value) in [(1, 1), (4, 0), (7, 8), (HEADER + TOKEN - 1, 0)] {
            let mut other = answer;
            other[byte] = value;
            assert!(!echo.is_answered_by(&other), "byte {byte}");
        }
        assert!((0..answer.len()).all(|length| !echo.is_answered_by(&answer[..length])));
        let v4 = Echo { v4: true, ..echo };
        assert!((0..=255).all(|first| !v4.is_answered_by(&[first])) && !v4.is_answered_by(&[]));
    }

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let echo = Echo { v4: true, number: 1, token: [0xff; TOKEN] };
        assert_eq!(checksum(&echo.request()), 0);
    }
}
