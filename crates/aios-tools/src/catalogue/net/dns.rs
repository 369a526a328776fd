//! Questions to the name servers of `/etc/resolv.conf` (RFC 1035), after a look into `/etc/hosts`.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};

use crate::{
    access::Access,
    args::HostName,
    error::{Code, ToolError},
    host::Host,
};

/// Port of name servers.
const PORT: u16 = 53;

/// How long a server has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// As many servers are asked, each twice: what libc does.
const SERVERS_MAX: usize = 3;

/// Largest answer over UDP without extensions, with room.
const DATAGRAM_MAX: usize = 4096;

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub data: Data,
    /// For how many seconds it holds.
    pub ttl_s: u32,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A, AAAA.
    Address(IpAddr),
    /// CNAME, NS, PTR.
    Name(String),
    /// MX: preference and host.
    Mail(u16, String),
    /// SRV: priority, weight, port and host.
    Service(u16, u16, u16, String),
    /// TXT.
    Text(String),
}

/// The files that a question needs.
pub fn sees(access: Access) -> Access {
    access.on_network().sees("/etc/hosts").sees("/etc/resolv.conf").sees("/run/resolv.conf")
}

/// Addresses of `host`: itself where it is one, else of `/etc/hosts`, else of the name servers.
pub fn lookup(system: &Host, name: &HostName) -> Result<Vec<IpAddr>, ToolError> {
    if let Some(address) = name.address() {
        return Ok(vec![address]);
    }
    let listed = hosts(system, name);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let mut addresses = Vec::new();
    for kind in [TYPE::A, TYPE::AAAA] {
        addresses.extend(ask(system, name.as_str(), kind)?.into_iter().filter_map(|record| match record.data {
            Data::Address(address) => Some(address),
            _ => None,
        }));
    }
    if addresses.is_empty() {
        return Err(ToolError::new(Code::NotFound, format!("{name} has no address")));
    }
    Ok(addresses)
}

fn hosts(system: &Host, name: &HostName) -> Vec<IpAddr> {
    let text = system.text("/etc/hosts").unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name.as_str())).then_some(address)
    };
    lines.filter_map(of_line).collect()
}

fn servers(system: &Host) -> Result<Vec<IpAddr>, ToolError> {
    let text = system.line("/etc/resolv.conf").or_else(|| system.line("/run/resolv.conf")).unwrap_or_default();
    let server = |line: &str| line.strip_prefix("nameserver")?.split_ascii_whitespace().next()?.parse().ok();
    let servers: Vec<IpAddr> = text.lines().filter_map(server).take(SERVERS_MAX).collect();
    if servers.is_empty() {
        let text = "no name server is known (/etc/resolv.conf names none): the network has given none yet";
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    Ok(servers)
}

/// Asks the name servers, one after the other, twice.
pub fn ask(system: &Host, name: &str, kind: TYPE) -> Result<Vec<Record>, ToolError> {
    let servers = servers(system)?;
    let mut last = None;
    for server in servers.iter().chain(&servers) {
        match exchange(SocketAddr::new(*server, PORT), name, kind) {
            Ok(records) => return Ok(records),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Server(error)) => last = Some((server, error)),
        }
    }
    let (server, error) = last.expect("invariant: there is a server");
    let code = if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        Code::TimedOut
    } else {
        Code::Unavailable
    };
    let text = format!("no name server answered about {name}; the last one, {server}, failed: {error}");
    Err(ToolError::new(code, text))
}

enum Trouble {
    /// Another server would say the same.
    Final(ToolError),
    /// Another server may know.
    Server(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Server(error)
    }
}

fn invalid(text: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_string())
}

fn exchange(server: SocketAddr, name: &str, kind: TYPE) -> Result<Vec<Record>, Trouble> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
    let mut query = Packet::new_query(u16::from_be_bytes(id));
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let wrong =
        |error| Trouble::Final(ToolError::new(Code::InvalidArgument, format!("{name:?} can't be asked for: {error}")));
    let question = Name::new(name).map_err(wrong)?;
    query.questions.push(Question::new(question, kind.into(), CLASS::IN.into(), false));
    let bytes = query.build_bytes_vec().map_err(wrong)?;
    let mut answer = over_udp(server, &bytes)?;
    if Packet::parse(&answer).map_err(invalid)?.has_flags(PacketFlag::TRUNCATION) {
        answer = over_tcp(server, &bytes)?;
    }
    let answer = Packet::parse(&answer).map_err(invalid)?;
    let same_question = answer.questions.first().is_some_and(|asked| {
        asked.qname.to_string().eq_ignore_ascii_case(&query.questions[0].qname.to_string())
            && asked.qtype == kind.into()
    });
    if answer.id() != query.id() || !answer.has_flags(PacketFlag::RESPONSE) || !same_question {
        return Err(invalid("the answer is to another question").into());
    }
    match answer.rcode() {
        RCODE::NoError => Ok(answer
            .answers
            .iter()
            .filter_map(|record| Some(Record { data: data(&record.rdata)?, ttl_s: record.ttl }))
            .collect()),
        RCODE::NameError => {
            Err(Trouble::Final(ToolError::new(Code::NotFound, format!("{name} does not exist, says {}", server.ip()))))
        }
        code => Err(invalid(format!("the server answers {code:?}")).into()),
    }
}

fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // Connected: the kernel drops what others send.
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut answer = vec![0; DATAGRAM_MAX];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).map_err(invalid)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn data(data: &RData<'_>) -> Option<Data> {
    Some(match data {
        RData::A(a) => Data::Address(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Data::Address(IpAddr::V6(aaaa.address.into())),
        RData::CNAME(name) => Data::Name(name.0.to_string()),
        RData::NS(name) => Data::Name(name.0.to_string()),
        RData::PTR(name) => Data::Name(name.0.to_string()),
        RData::MX(mx) => Data::Mail(mx.preference, mx.exchange.to_string()),
        RData::SRV(srv) => Data::Service(srv.priority, srv.weight, srv.port, srv.target.to_string()),
        RData::TXT(txt) => Data::Text(String::try_from(txt.clone()).ok()?),
        _ => return None,
    })
}
