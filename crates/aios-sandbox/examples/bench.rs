//! How long a call takes from the request to its result, for a handler that does nothing.
//!
//! `cargo run --release -p aios-sandbox --example bench -- [calls]`

use std::time::{Duration, Instant};

use aios_sandbox::{Enforcement, Error, Identity, Network, Options, Processes, Profile, Sandbox};

fn main() -> Result<(), Error> {
    aios_sandbox::serve_if_asked(|_| Vec::new());
    let calls = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let sandbox = match Sandbox::start(Options::default()) {
        Err(Error::Unsupported { reason, .. }) => {
            eprintln!("without limits on memory and processes: {reason}");
            Sandbox::start(Options { enforcement: Enforcement::WhereOffered, ..Options::default() })?
        }
        other => other?,
    };
    let files = Profile {
        read: vec!["/usr/share".into()],
        system: vec!["/etc/hosts".into(), "/etc/resolv.conf".into()],
        identity: Identity::Daemon,
        ..Profile::default()
    };
    let programs = Profile {
        execute: vec!["/bin/echo".into()],
        network: Network::Host,
        processes: Processes::Host,
        ..files.clone()
    };
    for (name, profile) in [("nothing", Profile::default()), ("files", files), ("programs, host", programs)] {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let started = Instant::now();
            sandbox.run(&profile, b"", Duration::from_secs(10))?;
            times.push(started.elapsed());
        }
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!("{name:16} p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  ({calls} calls)", at(50), at(90), at(99));
    }
    Ok(())
}
