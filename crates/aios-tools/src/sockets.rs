//! Sockets of the network, as `/proc/net` lists them, and the processes that hold them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::ToolError, host::Host, text::plain};

/// The network of the thread that asks: `/proc/net` is the one of the process's first thread.
const NET: &str = "/proc/thread-self/net";

/// Longest name of a process that is shown, in characters. The kernel keeps 15 bytes.
const NAME_MAX: usize = 32;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What it speaks.
    pub protocol: Protocol,
    /// Own address and port.
    pub local: SocketAddr,
    /// The other side's; unspecified (`0.0.0.0:0`) where there is none.
    pub remote: SocketAddr,
    /// State of TCP; of UDP `listen` or `established`.
    pub state: &'static str,
    /// Who made it.
    pub uid: u32,
    /// What tells it from others; 0 of sockets that no process holds any more.
    pub inode: u64,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// Its name, which it can choose itself.
    pub name: String,
}

/// All TCP and UDP sockets. A kernel without IPv6 has none of that.
pub fn list(host: &Host) -> Result<Vec<Socket>, ToolError> {
    let mut sockets = Vec::new();
    for (file, protocol, required) in [
        ("tcp", Protocol::Tcp, true),
        ("tcp6", Protocol::Tcp, false),
        ("udp", Protocol::Udp, true),
        ("udp6", Protocol::Udp, false),
    ] {
        match host.text(format!("{NET}/{file}")) {
            Ok(text) => sockets.extend(text.lines().skip(1).filter_map(|line| parse(line, protocol))),
            Err(error) if required => return Err(error),
            Err(_) => {}
        }
    }
    Ok(sockets)
}

/// Which processes hold which sockets, by inode. Processes that end meanwhile, or may not be looked into, are left out.
pub fn holders(host: &Host) -> HashMap<u64, Vec<Holder>> {
    let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
    for pid in host.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok()) {
        let mut name = None;
        for descriptor in host.names(format!("/proc/{pid}/fd")) {
            let target = host.target(format!("/proc/{pid}/fd/{descriptor}")).unwrap_or_default();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode else { continue };
            let name = name
                .get_or_insert_with(|| plain(&host.line(format!("/proc/{pid}/comm")).unwrap_or_default(), NAME_MAX));
            let list = holders.entry(inode).or_default();
            if list.iter().all(|holder| holder.pid != pid) {
                list.push(Holder { pid, name: name.clone() });
            }
        }
    }
    holders
}

/// A line of `/proc/net/{tcp,tcp6,udp,udp6}` (proc_net_tcp(5)); `None` where it is damaged.
fn parse(line: &str, protocol: Protocol) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, remote, state, _, _, _, uid, _, inode] = fields.as_slice() else { return None };
    Some(Socket {
        protocol,
        local: endpoint(local)?,
        remote: endpoint(remote)?,
        state: state_name(u8::from_str_radix(state, 16).ok()?, protocol)?,
        uid: uid.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

/// `0100007F:1F90`: words of the address in the machine's byte order, and the port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |from: usize| Some(u32::from_str_radix(address.get(from..from + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// `include/net/tcp_states.h`. A UDP socket is `close` while it is not connected, which means that it hears everybody.
fn state_name(state: u8, protocol: Protocol) -> Option<&'static str> {
    const NAMES: [&str; 12] = [
        "established",
        "syn-sent",
        "syn-received",
        "fin-wait-1",
        "fin-wait-2",
        "time-wait",
        "close",
        "close-wait",
        "last-ack",
        "listen",
        "closing",
        "syn-received",
    ];
    let name = *NAMES.get(usize::from(state.checked_sub(1)?))?;
    Some(if protocol == Protocol::Udp && name == "close" { "listen" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   901        0 562 1 0 100 0 0 10 0";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_is_a_socket() {
        let socket = parse(LINE, Protocol::Tcp).expect("a socket");
        assert_eq!((socket.local, socket.state), ("127.0.0.1:8080".parse().expect("address"), "listen"));
        assert_eq!((socket.uid, socket.inode), (901, 562));
        let six = LINE.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(parse(&six, Protocol::Tcp).map(|s| s.local), Some("[::1]:8080".parse().expect("address")));
        let waiting = LINE.replace(" 0A ", " 07 ");
        assert_eq!(parse(&waiting, Protocol::Udp).map(|socket| socket.state), Some("listen"));
    }

    #[test]
    fn damaged_lines_are_no_sockets() {
        for length in 0..LINE.find("562").expect("inode") {
            assert_eq!(parse(&LINE[..length], Protocol::Tcp), None, "{length}");
        }
        for (from, to) in
            [("0100007F", "0100007"), ("1F90", "1F90F"), (" 0A ", " 00 "), (" 0A ", " 0D "), (" 901 ", " -1 ")]
        {
            assert_eq!(parse(&LINE.replacen(from, to, 1), Protocol::Tcp), None, "{from} {to}");
        }
        assert_eq!(parse(&LINE.replace("0100007F", "ääää"), Protocol::Tcp), None);
    }

    #[test]
    fn a_socket_is_found_with_the_process_that_holds_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        let local = listener.local_addr().expect("address");
        let sockets = list(&Host::device()).expect("sockets");
        let socket = sockets.iter().find(|socket| socket.local == local).expect("the listener");
        assert_eq!(socket.state, "listen");
        let holders = holders(&Host::device());
        assert!(holders[&socket.inode].iter().any(|holder| holder.pid == std::process::id()), "{holders:?}");
    }
}
