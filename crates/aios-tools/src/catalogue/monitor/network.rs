//! `monitor.network`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Interface,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/class/net";
/// Interfaces that are shown at most.
const INTERFACES_MAX: usize = 64;

pub struct Network;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this interface; absent for all.
    #[serde(default)]
    interface: Option<Interface>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Counters since each interface appeared, the first 64 interfaces by name.
    interfaces: Vec<Counters>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Counters {
    /// Name.
    interface: String,
    /// `up`, `down`, `unknown` (most virtual ones) or another word of the kernel's.
    state: String,
    /// Received.
    received_bytes: u64,
    /// Received.
    received_packets: u64,
    /// Received, and wrong.
    receive_errors: u64,
    /// Received, and thrown away for want of room.
    receive_dropped: u64,
    /// Sent.
    sent_bytes: u64,
    /// Sent.
    sent_packets: u64,
    /// Not sent, for an error.
    send_errors: u64,
    /// Not sent, for want of room.
    send_dropped: u64,
}

impl Tool for Network {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.network",
        description: "Shows what each network interface has received and sent (bytes, packets), with errors and losses, since it appeared.",
        examples: &[
            Example { goal: "how much went over the network", arguments: "{}" },
            Example { goal: "does eth0 lose packets", arguments: r#"{"interface": "eth0"}"# },
        ],
        needs: &["monitor:read:network"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        // The entries of the folder are links to the devices.
        Access::needs("monitor:read:network").sees(FOLDER).sees("/sys/devices")
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let wanted = |name: &String| input.interface.as_ref().is_none_or(|interface| interface.as_str() == name);
        let names = host.names(FOLDER).into_iter().filter(wanted).take(INTERFACES_MAX);
        // What is no interface (bonding_masters) has no counters.
        let interfaces: Vec<Counters> = names.filter_map(|name| counters(&name, host)).collect();
        match input.interface {
            Some(name) if interfaces.is_empty() => {
                Err(ToolError::new(Code::NotFound, format!("there is no network interface {name}")))
            }
            _ => Ok(Output { interfaces }),
        }
    }
}

fn counters(name: &str, host: &Host) -> Option<Counters> {
    let folder = format!("{FOLDER}/{name}");
    let count = |what: &str| host.line(format!("{folder}/statistics/{what}"))?.trim().parse().ok();
    Some(Counters {
        interface: plain(name, 15),
        state: plain(&host.line(format!("{folder}/operstate"))?, 32),
        received_bytes: count("rx_bytes")?,
        received_packets: count("rx_packets")?,
        receive_errors: count("rx_errors")?,
        receive_dropped: count("rx_dropped")?,
        sent_bytes: count("tx_bytes")?,
        sent_packets: count("tx_packets")?,
        send_errors: count("tx_errors")?,
        send_dropped: count("tx_dropped")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn each_interface_is_counted_and_what_is_none_left_out() {
        let system = FakeInit::start(&[]);
        system.file("/sys/class/net/bonding_masters", "\n");
        for name in ["eth0", "lo"] {
            system.file(&format!("{FOLDER}/{name}/operstate"), "up\n");
            for side in ["rx", "tx"] {
                for what in ["bytes", "packets", "errors", "dropped"] {
                    system.file(&format!("{FOLDER}/{name}/statistics/{side}_{what}"), "7\n");
                }
            }
        }
        let run = |interface: Option<&str>| {
            let interface = interface.map(|name| name.to_owned().try_into().expect("name"));
            Network::run(Input { interface }, &system.host())
        };
        let all = run(None).expect("network").interfaces;
        assert_eq!(all.iter().map(|one| one.interface.as_str()).collect::<Vec<_>>(), ["eth0", "lo"]);
        assert_eq!((run(Some("lo")).expect("lo").interfaces.len(), all[0].sent_bytes), (1, 7));
        assert_eq!(run(Some("wlan0")).map_err(|error| error.code).err(), Some(Code::NotFound));
    }
}
