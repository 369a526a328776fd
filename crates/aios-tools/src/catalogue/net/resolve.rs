//! `net.resolve`

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simple_dns::TYPE;

use super::dns::{self, Data, Record};
use crate::{
    access::Access,
    args::HostName,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

/// Most records of one answer.
const RECORDS_MAX: usize = 32;

/// Longest text of one record, in characters.
const TEXT_MAX: usize = 512;

pub struct Resolve;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Its addresses (A, AAAA), from `/etc/hosts` too. Of an address: the names that belong to it (PTR).
    Address,
    /// Who takes its mail (MX).
    Mail,
    /// Its name servers (NS).
    NameServers,
    /// Hosts of a service (SRV), asked for as `_service._tcp.domain`.
    Service,
    /// Its texts (TXT).
    Text,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name or address.
    name: HostName,
    /// What is asked.
    #[serde(default = "address")]
    kind: Kind,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Answers. Empty where the name exists, but has nothing of this kind.
    records: Vec<Line>,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Line {
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// Name of a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Preference of a mail host, priority of a service: the smallest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u16>,
    /// Port of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// For how many seconds it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
}

fn address() -> Kind {
    Kind::Address
}

impl Tool for Resolve {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.resolve",
        description: "Asks the name servers of this device (DNS) about a name or an address. The question leaves the device.",
        examples: &[
            Example { goal: "what is the address of example.org", arguments: r#"{"name": "example.org"}"# },
            Example { goal: "who takes mail for example.org", arguments: r#"{"name": "example.org", "kind": "mail"}"# },
        ],
        needs: &["net:resolve:{name}"],
        risk: Risk::Medium,
        timeout: std::time::Duration::from_secs(30),
        sinks: &["/name"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        dns::sees(Access::needs(format!("net:resolve:{}", input.name)))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let lines: Vec<Line> = match (input.kind, input.name.address()) {
            (Kind::Address, None) => dns::lookup(host, &input.name)?
                .into_iter()
                .map(|address| Line { address: Some(address), ..Line::default() })
                .collect(),
            (Kind::Address, Some(address)) => ask(host, &reverse(address), TYPE::PTR)?,
            (_, Some(_)) => {
                return Err(ToolError::new(Code::InvalidArgument, "an address has names only: leave kind out"));
            }
            (Kind::Mail, None) => ask(host, input.name.as_str(), TYPE::MX)?,
            (Kind::NameServers, None) => ask(host, input.name.as_str(), TYPE::NS)?,
            (Kind::Service, None) => ask(host, input.name.as_str(), TYPE::SRV)?,
            (Kind::Text, None) => ask(host, input.name.as_str(), TYPE::TXT)?,
        };
        let truncated = lines.len() > RECORDS_MAX;
        Ok(Output { records: lines.into_iter().take(RECORDS_MAX).collect(), truncated })
    }
}

fn ask(host: &Host, name: &str, kind: TYPE) -> Result<Vec<Line>, ToolError> {
    Ok(dns::ask(host, name, kind)?.into_iter().map(line).collect())
}

fn line(record: Record) -> Line {
    let line = Line { ttl_s: Some(record.ttl_s), ..Line::default() };
    match record.data {
        Data::Address(address) => Line { address: Some(address), ..line },
        Data::Name(name) => Line { name: Some(plain(&name, TEXT_MAX)), ..line },
        Data::Mail(preference, name) => Line { name: Some(plain(&name, TEXT_MAX)), priority: Some(preference), ..line },
        Data::Service(priority, _, port, name) => {
            Line { name: Some(plain(&name, TEXT_MAX)), priority: Some(priority), port: Some(port), ..line }
        }
        Data::Text(text) => Line { text: Some(plain(&text, TEXT_MAX)), ..line },
    }
}

/// The name under which the names of an address are kept (RFC 1035, RFC 3596).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        net::{TcpListener, UdpSocket},
        thread,
    };

    use serde_json::{Value, json};
    use simple_dns::{
        CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord,
        rdata::{A, AAAA, MX, PTR, RData, SRV, TXT},
    };

    use super::*;
    use crate::{
        catalogue::net::set_link::SetLink,
        testing::{apart, call},
    };

    /// What a name server of the test says.
    fn reply(query: &[u8], truncate: bool) -> Vec<u8> {
        let query = Packet::parse(query).expect("a query");
        let question = query.questions[0].clone();
        let asked = question.qname.to_string();
        let mut reply = Packet::new_reply(query.id());
        let mut answer = |data: RData<'static>| {
            reply.answers.push(ResourceRecord::new(
                Name::new("example.org").expect("name").into_owned(),
                CLASS::IN,
                60,
                data,
            ));
        };
        let name = |text: &'static str| Name::new(text).expect("name");
        match (asked.as_str(), question.qtype) {
            ("example.org", QTYPE::TYPE(TYPE::A)) => {
                answer(RData::A(A { address: u32::from_be_bytes([192, 0, 2, 1]) }))
            }
            ("example.org", QTYPE::TYPE(TYPE::AAAA)) => answer(RData::AAAA(AAAA { address: 1 })),
            ("example.org", QTYPE::TYPE(TYPE::MX)) => {
                answer(RData::MX(MX { preference: 10, exchange: name("mail.example.org") }))
            }
            ("example.org", QTYPE::TYPE(TYPE::TXT)) => {
                answer(RData::TXT(TXT::new().with_string("line\nof text").expect("text")))
            }
            ("_imap._tcp.example.org", _) => {
                answer(RData::SRV(SRV { priority: 1, weight: 2, port: 143, target: name("imap.example.org") }))
            }
            ("1.2.0.192.in-addr.arpa", _) => answer(RData::PTR(PTR(name("example.org")))),
            ("long.example.org", QTYPE::TYPE(TYPE::TXT)) if truncate => reply.set_flags(PacketFlag::TRUNCATION),
            ("long.example.org", QTYPE::TYPE(TYPE::TXT)) => {
                answer(RData::TXT(TXT::new().with_string("over TCP").expect("text")))
            }
            ("spoofed.example.org", _) => reply.set_id(query.id().wrapping_add(1)),
            ("example.org", _) => {}
            _ => *reply.rcode_mut() = RCODE::NameError,
        }
        reply.questions.push(question);
        reply.build_bytes_vec().expect("a reply")
    }

    /// Resolves in a network of its own, where a name server listens at port 53.
    fn resolve(arguments: &[Value]) -> Vec<Result<Value, Code>> {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("etc")).expect("etc");
        fs::write(folder.path().join("etc/resolv.conf"), "search lan\nnameserver 127.0.0.1\n").expect("write");
        fs::write(folder.path().join("etc/hosts"), "127.0.0.1 localhost # here\n192.0.2.9 box box.lan\n")
            .expect("write");
        let host = Host::below(folder.path());
        apart(|| {
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            let udp = UdpSocket::bind("127.0.0.1:53").expect("bind");
            let tcp = TcpListener::bind("127.0.0.1:53").expect("bind");
            thread::spawn(move || {
                let mut query = [0; 512];
                while let Ok((length, from)) = udp.recv_from(&mut query) {
                    let _ = udp.send_to(&reply(&query[..length], true), from);
                }
            });
            thread::spawn(move || {
                for mut stream in tcp.incoming().flatten() {
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).expect("length");
                    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut query).expect("query");
                    let reply = reply(&query, false);
                    stream.write_all(&(reply.len() as u16).to_be_bytes()).expect("write");
                    stream.write_all(&reply).expect("write");
                }
            });
            arguments
                .iter()
                .map(|arguments| call::<Resolve>(&host, arguments.clone()).map_err(|error| error.code))
                .collect()
        })
    }

    #[test]
    fn every_kind_of_record_is_read() {
        let answers = resolve(&[
            json!({"name": "Example.org"}),
            json!({"name": "box"}),
            json!({"name": "example.org", "kind": "mail"}),
            json!({"name": "example.org", "kind": "text"}),
            json!({"name": "_imap._tcp.example.org", "kind": "service"}),
            json!({"name": "192.0.2.1"}),
            json!({"name": "example.org", "kind": "name-servers"}),
            json!({"name": "long.example.org", "kind": "text"}),
        ]);
        let expected = [
            json!([{"address": "192.0.2.1"}, {"address": "::1"}]),
            json!([{"address": "192.0.2.9"}]),
            json!([{"name": "mail.example.org", "priority": 10, "ttl_s": 60}]),
            json!([{"text": "line\u{FFFD}of text", "ttl_s": 60}]),
            json!([{"name": "imap.example.org", "priority": 1, "port": 143, "ttl_s": 60}]),
            json!([{"name": "example.org", "ttl_s": 60}]),
            json!([]),
            json!([{"text": "over TCP", "ttl_s": 60}]),
        ];
        for (answer, expected) in answers.into_iter().zip(expected) {
            assert_eq!(answer.map(|answer| answer["records"].clone()), Ok(expected));
        }
    }

    #[test]
    fn a_name_that_is_not_there_and_an_answer_that_is_not_meant_are_errors() {
        let answers = resolve(&[
            json!({"name": "none.example.org"}),
            json!({"name": "spoofed.example.org"}),
            json!({"name": "192.0.2.1", "kind": "mail"}),
        ]);
        assert_eq!(answers, [Err(Code::NotFound), Err(Code::Unavailable), Err(Code::InvalidArgument)]);
        let folder = tempfile::tempdir().expect("tempdir");
        let nowhere = call::<Resolve>(&Host::below(folder.path()), json!({"name": "example.org"}));
        assert_eq!(nowhere.map_err(|error| error.code), Err(Code::FailedPrecondition));
    }

    #[test]
    fn addresses_are_asked_for_backwards() {
        assert_eq!(reverse("192.0.2.1".parse().expect("address")), "1.2.0.192.in-addr.arpa");
        let six = reverse("2001:db8::1".parse().expect("address"));
        assert!(six.starts_with("1.0.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"), "{six}");
    }
}
