//! How long the checks take that stand before every call: `cargo run --release -p aios-policy --example bench`.
//!
//! Prints the least, the median and the 99th percentile of single runs in microseconds; on a busy machine the least tells
//! most. Tokens are checked in three ways: never seen before, narrowed from one that was seen, and seen before.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aios_policy::{
    Capability, Grants, Origin, Policy, RateLimiter, Request, Risk, Taint, Timestamp, Verifier, decide,
    policy::Layer,
    token::{Authority, Caveats, Ending, Token, TokenId},
};
use ed25519_dalek::SigningKey;

const IMAGE: &str = include_str!("../../../overlay/etc/aios/policy.toml");
const NOW: Timestamp = Timestamp(1_000);
const RUNS: usize = 2_000;

fn main() {
    let device = SigningKey::from_bytes(&[7; 32]);
    let verifier = || Verifier::new(device.verifying_key());
    let tokens: Vec<Vec<Token>> = (0..RUNS).map(|n| chain(&device, n)).collect();
    for blocks in 1..=4 {
        let token = |n: usize| &tokens[n][blocks - 1];
        report(&format!("token of {blocks}, new"), |n| {
            let verifier = verifier();
            clocked(|| verifier.verify(token(n).as_str(), NOW).unwrap())
        });
        if blocks > 1 {
            report(&format!("token of {blocks}, narrowed from a known one"), |n| {
                let verifier = verifier();
                verifier.verify(tokens[n][blocks - 2].as_str(), NOW).unwrap();
                clocked(|| verifier.verify(token(n).as_str(), NOW).unwrap())
            });
        }
        let known = verifier();
        known.verify(token(0).as_str(), NOW).unwrap();
        report(&format!("token of {blocks}, known"), |_| clocked(|| known.verify(token(0).as_str(), NOW).unwrap()));
    }
    let sealed: Vec<Token> = (0..RUNS).map(|n| Token::mint(&device, &authority(n), Ending::Sealed).unwrap()).collect();
    report("token of 1, sealed, new", |n| {
        let verifier = verifier();
        clocked(|| verifier.verify(sealed[n].as_str(), NOW).unwrap())
    });
    decisions();
    capabilities();
}

fn decisions() {
    let policy = Policy::from_layers(&[Layer { path: "policy.toml".into(), text: IMAGE.into() }]).unwrap();
    let needs: Vec<Capability> = vec!["fs:read:/var/log/messages".parse().unwrap()];
    let taint = Taint::of(Origin::Model);
    let (grants, mut limiter) = (Grants::default(), RateLimiter::default());
    report("decision of a call", |n| {
        let request = Request {
            agent: "system",
            tool: "fs.read",
            risk: Risk::Low,
            needs: &needs,
            through: &[],
            sinks: &["/path"],
            taint: &taint,
            token: None,
            now: NOW,
            uptime: Duration::from_secs(n as u64),
        };
        clocked(|| decide(&policy, &grants, &mut limiter, &request))
    });
    report("reading the image's policy", |_| {
        clocked(|| Policy::from_layers(&[Layer { path: "policy.toml".into(), text: IMAGE.into() }]).unwrap())
    });
}

/// The usual case, and the worst that a capability of full length can bring about.
fn capabilities() {
    let pair = |wide: &str, narrow: &str| -> [Capability; 2] { [wide.parse().unwrap(), narrow.parse().unwrap()] };
    let [wide, narrow] = pair("fs:read:/var/log/**", "fs:read:/var/log/nginx/access.log");
    report("coverage of a path", |_| clocked(|| wide.covers(&narrow)));
    let many = "**a".repeat(1_300);
    let [wide, narrow] = pair(&format!("x:y:{many}"), &format!("x:y:{}b", "a".repeat(4_000)));
    report("coverage of the worst path", |_| clocked(|| wide.covers(&narrow)));
}

/// Tokens of one to four blocks, each made of the one before.
fn chain(device: &SigningKey, n: usize) -> Vec<Token> {
    let seed = |block: u8| {
        let mut seed = [block; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        seed
    };
    let mut tokens = vec![Token::mint(device, &authority(n), Ending::Open(seed(0))).unwrap()];
    for block in 1..4 {
        let capabilities = Some(vec!["fs:read:/srv/www/**".parse().unwrap()]);
        let caveats = Caveats { capabilities, ..Caveats::default() };
        tokens.push(tokens[usize::from(block) - 1].attenuate(&caveats, Ending::Open(seed(block))).unwrap());
    }
    tokens
}

fn authority(n: usize) -> Authority {
    Authority {
        id: TokenId(std::array::from_fn(|i| n.to_le_bytes()[i % 8])),
        issuer: "operator".into(),
        subject: "web".into(),
        capabilities: ["fs:read:/srv/**", "web:fetch:**"].map(|text| text.parse().unwrap()).to_vec(),
        tools: None,
        not_after: Timestamp(2_000),
    }
}

fn clocked<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn report(what: &str, mut run: impl FnMut(usize) -> Duration) {
    let runs = if what.contains("worst") { RUNS / 20 } else { RUNS };
    let mut times: Vec<Duration> = (0..runs).map(&mut run).collect();
    times.sort_unstable();
    let micros = |part: f64| times[(runs as f64 * part) as usize].as_nanos() as f64 / 1000.0;
    println!("{what:45} least {:9.1}   p50 {:9.1}   p99 {:9.1}", micros(0.0), micros(0.5), micros(0.99));
}
