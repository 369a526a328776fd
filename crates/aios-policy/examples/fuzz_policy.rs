//! Damages policies, capabilities and tokens for a while: `cargo run --release -p aios-policy --example fuzz_policy --
//! --seconds 60 --seed 1`.
//!
//! Nothing may panic, and: a policy or capability that reads, reads back from what it writes; a capability covers no text
//! that it doesn't match, by another way of matching; no damaged token is good. The input that breaks this is printed,
//! and the seed makes the run again.

#![allow(clippy::unwrap_used, reason = "a panic is how a fuzz run fails")]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use aios_policy::{
    Capability, Policy, Timestamp, Verifier,
    policy::Layer,
    token::{Authority, Caveats, Ending, Token, TokenId},
};
use ed25519_dalek::SigningKey;

const IMAGE: &str = include_str!("../../../overlay/etc/aios/policy.toml");
const NOW: Timestamp = Timestamp(1_000);

/// Pieces that a blind mutator finds late.
const WORDS: [&str; 36] = [
    "*",
    "**",
    "***",
    "\\*",
    "\\\\",
    "\\",
    "/",
    "//",
    "/..",
    "/.",
    ":",
    "::",
    "fs",
    "read",
    "fs:read:/",
    "\u{202e}",
    "\0",
    "ä",
    "[agents.web]\n",
    "[[taint.rules]]\n",
    "tools = [\"*\"]\n",
    "capabilities = [",
    "\"",
    "]",
    "\n",
    "= ",
    "\"30/min\"",
    "\"24h\"",
    "-1",
    "99999999999999999999",
    "a.b.c",
    "{",
    "}",
    "'''",
    "aios1.",
    "AAAA",
];

const CAPABILITIES: [&str; 6] = [
    "fs:read:/var/log/**",
    "*:*:**",
    "fs:write:/a*b/**/c",
    "net:address:wlan*",
    "web:fetch:https://a/*",
    "fs:read:/x\\*",
];

fn main() -> ExitCode {
    let (seconds, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    println!("fuzz_policy: {seconds} s, --seed {seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(seed);
    let tokens = Tokens::new();
    let mut counts = [0_u64; 4];
    while Instant::now() < end {
        // A token costs most where its signature is looked at, a policy where it is long.
        for target in [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 3] {
            let input = mutated(&mut random, target, &tokens);
            let checked = catch_unwind(AssertUnwindSafe(|| check(target, &input, &tokens)));
            let broken = match checked {
                Ok(Ok(())) => None,
                Ok(Err(broken)) => Some(broken),
                Err(_) => Some("it panicked".into()),
            };
            if let Some(broken) = broken {
                eprintln!("target {target}: {broken}\n{:?}", String::from_utf8_lossy(&input));
                return ExitCode::FAILURE;
            }
            counts[target] += 1;
        }
    }
    let [pairs, policies, texts, bytes] = counts;
    println!(
        "capabilities {pairs}, policies {policies}, tokens as text {texts}, tokens as bytes {bytes}: nothing found"
    );
    ExitCode::SUCCESS
}

fn arguments() -> Result<(u64, u64), String> {
    let (mut seconds, mut seed) = (60, None);
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse().ok());
        match (name.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = Some(value),
            _ => return Err("fuzz_policy [--seconds N] [--seed S]".into()),
        }
    }
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok((seconds, seed.unwrap_or_else(clock)))
}

/// Two capabilities in two lines, a policy, or a token as text or as bytes.
fn mutated(random: &mut Random, target: usize, tokens: &Tokens) -> Vec<u8> {
    let mut input = match target {
        0 => format!("{}\n{}", random.pick(&CAPABILITIES), random.pick(&CAPABILITIES)).into_bytes(),
        1 => IMAGE.as_bytes().to_vec(),
        2 => random.pick(&tokens.texts).clone().into_bytes(),
        _ => base64(random.pick(&tokens.texts).as_str()),
    };
    for _ in 0..=random.below(if target == 0 { 8 } else { 3 }) {
        random.damage(&mut input);
    }
    input
}

fn check(target: usize, input: &[u8], tokens: &Tokens) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    match target {
        0 => capabilities(&text),
        1 => policy(&text),
        2 => tokens.check(&text),
        _ => tokens.check(&to_text(input)),
    }
}

fn capabilities(text: &str) -> Result<(), String> {
    let read: Vec<Capability> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for (line, capability) in text.lines().filter_map(|line| Some((line, line.parse::<Capability>().ok()?))) {
        if capability.to_string() != line {
            return Err(format!("{line:?} reads back as {capability}"));
        }
        if !capability.covers(&capability) || !capability.overlaps(&capability) {
            return Err(format!("{line:?} does not cover itself"));
        }
    }
    for (a, b) in read.iter().flat_map(|a| read.iter().map(move |b| (a, b))) {
        // Texts that b matches: its wildcards stand for nothing, for a letter, or for more segments.
        let texts = ["", "q", "q/q"].map(|filling| filled(&b.resource(), filling));
        for text in texts.iter().flatten() {
            let inside = glob(&symbols(&a.resource()), &text.chars().collect::<Vec<_>>());
            if a.covers(b) && !inside {
                return Err(format!("{a} covers {b}, but not {text:?}"));
            }
            let names = (a.namespace() == b.namespace()) && (a.action() == b.action());
            if names && inside && !a.overlaps(b) {
                return Err(format!("{a} and {b} both match {text:?}"));
            }
        }
        if a.covers(b) && !a.overlaps(b) || a.overlaps(b) != b.overlaps(a) {
            return Err(format!("{a} and {b} disagree"));
        }
    }
    Ok(())
}

/// A pattern's places: a character, or how many stars.
fn symbols(resource: &str) -> Vec<(char, u8)> {
    let mut symbols: Vec<(char, u8)> = Vec::new();
    let mut chars = resource.chars();
    while let Some(c) = chars.next() {
        match (c, symbols.last_mut()) {
            ('\\', _) => symbols.extend(chars.next().map(|literal| (literal, 0))),
            ('*', Some((_, stars))) if *stars == 1 => *stars = 2,
            ('*', _) => symbols.push(('*', 1)),
            (c, _) => symbols.push((c, 0)),
        }
    }
    symbols
}

/// A text that the pattern matches.
fn filled(resource: &str, filling: &str) -> Option<String> {
    let place = |(c, stars): (char, u8)| match stars {
        0 => Some(c.to_string()),
        1 if filling.contains('/') => None,
        _ => Some(filling.to_owned()),
    };
    symbols(resource).into_iter().map(place).collect()
}

/// Matching by rows: which beginnings of the pattern match which beginnings of the text.
fn glob(pattern: &[(char, u8)], text: &[char]) -> bool {
    let mut row: Vec<bool> = vec![false; text.len() + 1];
    row[0] = true;
    for (c, stars) in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match stars {
                0 => at > 0 && row[at - 1] && text[at - 1] == *c,
                _ => row[at] || (at > 0 && next[at - 1] && (*stars == 2 || text[at - 1] != '/')),
            };
        }
        row = next;
    }
    row[text.len()]
}

fn policy(text: &str) -> Result<(), String> {
    let read = |text: &str| Policy::from_layers(&[Layer { path: "policy.toml".into(), text: text.into() }]);
    let Ok(policy) = read(text) else { return Ok(()) };
    let written = toml::to_string(&policy).map_err(|error| error.to_string())?;
    match read(&written) {
        Ok(again) if again == policy => Ok(()),
        Ok(_) => Err("it reads back as another one".into()),
        Err(error) => Err(format!("it does not read back: {error}")),
    }
}

/// Good tokens, and what would be said of others.
struct Tokens {
    verifier: Verifier,
    texts: Vec<String>,
}

impl Tokens {
    fn new() -> Tokens {
        let device = SigningKey::from_bytes(&[7; 32]);
        let authority = Authority {
            id: TokenId([1; 16]),
            issuer: "operator".into(),
            subject: "web".into(),
            capabilities: CAPABILITIES.map(|text| text.parse().unwrap()).to_vec(),
            tools: Some(["fs.read".to_owned(), "web.fetch".to_owned()].into()),
            not_after: Timestamp(2_000),
        };
        let first = Token::mint(&device, &authority, Ending::Open([2; 32])).unwrap();
        let caveats = Caveats { not_after: Some(Timestamp(1_500)), ..Caveats::default() };
        let second = first.attenuate(&caveats, Ending::Open([3; 32])).unwrap();
        let third = second.attenuate(&Caveats::default(), Ending::Sealed).unwrap();
        let verifier = Verifier::new(device.verifying_key());
        let texts = [first, second, third].map(|token| token.as_str().to_owned()).to_vec();
        for text in &texts {
            verifier.verify(text, NOW).unwrap();
        }
        Tokens { verifier, texts }
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let is_damaged = !self.texts.iter().any(|good| good == text);
        if is_damaged && self.verifier.verify(text, NOW).is_ok() {
            return Err("a damaged token is good".into());
        }
        if let Ok(token) = Token::from_text(text) {
            let longer = token.attenuate(&Caveats::default(), Ending::Sealed);
            if is_damaged && longer.is_ok_and(|longer| self.verifier.verify(longer.as_str(), NOW).is_ok()) {
                return Err("what is made of a damaged token is good".into());
            }
        }
        Ok(())
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bytes of a token.
fn base64(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("aios1.").unwrap().bytes();
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == digit).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn to_text(bytes: &[u8]) -> String {
    let mut text = String::from("aios1.");
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for digit in 0..=chunk.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize].into());
        }
    }
    text
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One change: a bit, a byte, a piece taken out, doubled, moved or put in.
    fn damage(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let end = (at + 1 + self.below(8)).min(input.len());
        match self.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = self.next() as u8,
            2 if !input.is_empty() => drop(input.drain(at..end)),
            3 if !input.is_empty() => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len());
                input.splice(to..to, piece);
            }
            4 => input.truncate(at),
            _ => {
                let word = self.pick(&WORDS).as_bytes();
                input.splice(at..at, word.iter().copied());
            }
        }
    }
}
