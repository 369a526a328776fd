//! Questions to the kernel's routing tables, and changes of them (rtnetlink(7)).

use std::{fmt::Display, io, mem};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkMessage},
    neighbour::NeighbourMessage,
    route::RouteMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Code, ToolError};

/// Listings that changed while they were made are made again, so many times.
const ATTEMPTS: usize = 5;

/// A connection to the kernel.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Connects.
    pub fn open() -> Result<Self, ToolError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Netlink { socket: open().map_err(failed)?, sequence: 0 })
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<LinkMessage>, ToolError> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewLink(m) = m { Some(m) } else { None })
            .collect())
    }

    /// The interface `name`.
    pub fn link(&mut self, name: &str) -> Result<LinkMessage, ToolError> {
        let missing = || {
            ToolError::new(
                Code::NotFound,
                format!("there is no network interface {name}; net.interfaces lists those that exist"),
            )
        };
        self.links()?.into_iter().find(|link| name_of(link) == Some(name)).ok_or_else(missing)
    }

    /// All addresses.
    pub fn addresses(&mut self) -> Result<Vec<AddressMessage>, ToolError> {
        let answers = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewAddress(m) = m { Some(m) } else { None })
            .collect())
    }

    /// All routes, of all tables.
    pub fn routes(&mut self) -> Result<Vec<RouteMessage>, ToolError> {
        let answers = self.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewRoute(m) = m { Some(m) } else { None })
            .collect())
    }

    /// All neighbours.
    pub fn neighbours(&mut self) -> Result<Vec<NeighbourMessage>, ToolError> {
        let answers = self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewNeighbour(m) = m { Some(m) } else { None })
            .collect())
    }

    /// Makes a change. `what` names it where it fails.
    pub fn change(&mut self, message: RouteNetlinkMessage, flags: u16, what: impl Display) -> Result<(), ToolError> {
        self.ask(message, flags | NLM_F_ACK).map(|_| ()).map_err(|error| error.of(what))
    }

    fn dump(&mut self, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, ToolError> {
        for _ in 0..ATTEMPTS {
            let (answers, torn) = self.ask(question.clone(), NLM_F_DUMP).map_err(|error| error.of("netlink"))?;
            if !torn {
                return Ok(answers);
            }
        }
        Err(ToolError::new(Code::Unavailable, "the kernel's tables change too fast to be listed; try again"))
    }

    /// The answers to one question, and whether the list changed while it was made.
    fn ask(&mut self, question: RouteNetlinkMessage, flags: u16) -> Result<(Vec<RouteNetlinkMessage>, bool), Refusal> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (mut answers, mut torn) = (Vec::new(), false);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while rest.len() >= mem::size_of::<NetlinkHeader>() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                // Messages lie at multiples of four bytes.
                let length = (answer.header.length as usize).next_multiple_of(4).max(1);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                torn |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(Refusal(error.to_io())),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok((answers, torn)),
                    NetlinkPayload::Overrun(_) => torn = true,
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel said.
struct Refusal(io::Error);

impl Refusal {
    fn of(self, what: impl Display) -> ToolError {
        let mut error = ToolError::of_io(what, &self.0);
        // Of netlink, these numbers say more than their names do.
        error.code = match self.0.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::SRCH | rustix::io::Errno::ADDRNOTAVAIL | rustix::io::Errno::NODEV) => {
                Code::NotFound
            }
            Some(rustix::io::Errno::NETUNREACH | rustix::io::Errno::NETDOWN | rustix::io::Errno::HOSTUNREACH) => {
                Code::FailedPrecondition
            }
            Some(rustix::io::Errno::PERM) => Code::PermissionDenied,
            Some(rustix::io::Errno::OPNOTSUPP) => Code::Unsupported,
            _ => error.code,
        };
        error
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal(error)
    }
}

fn failed(error: io::Error) -> ToolError {
    let code = if error.kind() == io::ErrorKind::PermissionDenied { Code::PermissionDenied } else { Code::Failed };
    ToolError::new(code, format!("no connection to the kernel's network tables (netlink): {error}"))
}

/// Name of an interface.
pub fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| if let LinkAttribute::IfName(name) = a { Some(name.as_str()) } else { None })
}

/// Bytes of a link-layer address as text: `02:00:5e:10:00:01`.
pub fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
