//! Interfaces and what they reach.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use crate::{Options, Problem, absent, failed};

/// Sends three ICMP echo requests through each interface that has a gateway.
pub fn gateways(_: &Options) -> Result<String, Problem> {
    let table = fs::read_to_string("/proc/net/route").map_err(Problem::io("/proc/net/route"))?;
    let gateways = parse_gateways(&table);
    let mut told = Vec::new();
    for (interface, gateway) in &gateways {
        let arguments = ["-c", "3", "-W", "5", "-I", interface, &gateway.to_string()];
        let output = Command::new("ping").args(arguments).output().map_err(Problem::io("ping"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            return failed(format!(
                "{interface}: no answer from {gateway}: {}",
                said.lines().last().unwrap_or_default()
            ));
        }
        let device = Path::new("/sys/class/net").join(interface).join("device/driver");
        let driver = fs::read_link(device).ok().and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
        told.push(format!("{interface} ({}) reaches {gateway}", driver.as_deref().unwrap_or("no driver")));
    }
    if told.is_empty() { absent("no interface has a gateway") } else { Ok(told.join(", ")) }
}

/// `/proc/net/route`: interface, destination, gateway as hexadecimal numbers in the machine's byte order.
fn parse_gateways(table: &str) -> Vec<(String, Ipv4Addr)> {
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (Some(interface), Some(destination), Some(gateway)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let gateway = u32::from_str_radix(gateway, 16).map(|raw| Ipv4Addr::from(raw.to_ne_bytes()));
        if let ("00000000", Ok(gateway)) = (destination, gateway) {
            found.push((interface.to_owned(), gateway));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_those_of_default_routes() {
        let gateway = u32::from_ne_bytes([10, 0, 2, 2]);
        let table = format!(
            "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t{gateway:08X}\t0003\neth0\t0002000A\t00000000\t0001\n"
        );
        assert_eq!(parse_gateways(&table), [("eth0".to_owned(), Ipv4Addr::new(10, 0, 2, 2))]);
    }
}
