//! Gives tools damaged arguments for a while: `cargo run --release -p aios-tools --example fuzz_arguments -- --seconds 60
//! --seed 1`. No tool runs.
//!
//! Nothing may panic or take a second of a processor, and where a tool takes arguments: its schema takes them, too; each path that the
//! call is shown is one of the arguments or the folder of one; each capability can be read; what it touches is no longer
//! than the arguments, but for a fixed part. The arguments that break this are printed, and the seed makes the run again.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use aios_policy::Capability;
use aios_tools::{access::Access, catalogue, pipeline::ARGUMENTS_MAX, tool::Entry};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Number, Value, json};

/// Longest that a tool may look at arguments, in time of a processor.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most that is printed of arguments.
const SHOWN: usize = 2_000;

/// What an access may be longer than its arguments, in bytes of JSON: once for each mention, and what is the tool's own.
const MENTIONS: usize = 16;
const OWN: usize = 16 << 10;

/// Texts that a blind mutator finds late.
const TEXTS: [&str; 40] = [
    "",
    " ",
    "/",
    "//",
    "/.",
    "/..",
    "/a/../b",
    "/a/",
    "a",
    "../a",
    "/proc/self/root",
    "/a*b",
    "/a\\*",
    "/a:b",
    "/\u{202e}a",
    "\0",
    "/\0",
    "\n",
    "/a\nb",
    "ä",
    "/ä",
    "*",
    "**",
    "-",
    "-rf",
    "--help",
    "$(id)",
    "127.0.0.1",
    "::1",
    "10.0.0.0/33",
    "fe80::1%lo",
    "http://a/",
    "https://u:p@a:99999/?#",
    "file:///etc/passwd",
    "a@b.c",
    "a@b\r\nBcc: c@d",
    "eth0",
    "9999999999999999999999",
    "rootfs.0",
    "refs/heads/../../x",
];

struct Target {
    tool: &'static Entry,
    schema: jsonschema::Validator,
    examples: Vec<Value>,
    /// Names of its arguments.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let (seconds, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    println!("fuzz_arguments: {seconds} s, --seed {seed}");
    let targets: Vec<Target> = catalogue::all().map(target).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut random, mut tried, mut taken) = (Random(seed), 0_u64, 0_u64);
    let mut slowest = (Duration::ZERO, "");
    while Instant::now() < end {
        for target in &targets {
            let mut given = target.examples[random.below(target.examples.len())].clone();
            for _ in 0..=random.below(3) {
                damage(&mut given, target, &mut random);
            }
            // As they come: text, not a tree. Longer ones are refused before they are read.
            let text = given.to_string();
            if text.len() > ARGUMENTS_MAX {
                continue;
            }
            let started = processor_time();
            let checked = catch_unwind(AssertUnwindSafe(|| check(target, &text)));
            let took = processor_time().saturating_sub(started);
            slowest = slowest.max((took, target.tool.spec.name));
            let broken = match checked {
                Ok(Ok(was_taken)) if took < PATIENCE => {
                    taken += u64::from(was_taken);
                    None
                }
                Ok(Ok(_)) => Some(format!("it took {took:?}")),
                Ok(Err(broken)) => Some(broken),
                Err(_) => Some("it panicked".into()),
            };
            if let Some(broken) = broken {
                let beginning: String = text.chars().take(SHOWN).collect();
                eprintln!("{}: {broken}\n{} bytes: {beginning}", target.tool.spec.name, text.len());
                return ExitCode::FAILURE;
            }
            tried += 1;
        }
    }
    println!(
        "{tried} arguments, {taken} of them taken, the slowest in {:?} by {}: nothing found",
        slowest.0, slowest.1
    );
    ExitCode::SUCCESS
}

/// What this thread has computed: other processes on the machine are no fault of a tool's.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn arguments() -> Result<(u64, u64), String> {
    let (mut seconds, mut seed) = (60, None);
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse().ok());
        match (name.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = Some(value),
            _ => return Err("fuzz_arguments [--seconds N] [--seed S]".into()),
        }
    }
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok((seconds, seed.unwrap_or_else(clock)))
}

fn target(tool: &'static Entry) -> Target {
    let schema = tool.input_schema();
    let names =
        schema.as_value()["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let examples = tool.spec.examples.iter();
    Target {
        tool,
        schema: jsonschema::validator_for(schema.as_value()).expect("invariant: tests check the schemas"),
        examples: examples
            .map(|e| serde_json::from_str(e.arguments).expect("invariant: tests check the examples"))
            .collect(),
        names,
    }
}

/// Whether the tool takes the arguments; an error where it should not, or not so.
fn check(target: &Target, text: &str) -> Result<bool, String> {
    let given: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Ok(access) = target.tool.access(&given) else { return Ok(false) };
    if let Err(error) = target.schema.validate(&given) {
        return Err(format!("it takes what its schema does not: {error}"));
    }
    paths(&access, &given)?;
    for text in &access.capabilities {
        if let Ok(read) = Capability::literal(text)
            && !read.is_exact()
        {
            return Err(format!("{text} is read as a pattern"));
        }
    }
    let long = serde_json::to_vec(&access).map_err(|error| error.to_string())?.len();
    if long > MENTIONS * text.len() + OWN {
        return Err(format!("{} bytes of arguments touch {long} bytes", text.len()));
    }
    Ok(true)
}

/// Each path that is shown as one of the arguments is a text of them, or the folder that one lies in, or where plugins are,
/// which is made by the first.
fn paths(access: &Access, given: &Value) -> Result<(), String> {
    let mut texts = Vec::new();
    collect(given, &mut texts);
    for path in access.read.iter().chain(&access.write).chain(&access.whole) {
        let named = |text: &&str| Path::new(text) == path || Path::new(text).parent() == Some(path);
        let plain = path.is_absolute() && path.components().all(|part| part.as_os_str() != "..");
        if !plain || !(texts.iter().any(named) || path == Path::new(aios_core::paths::PLUGINS)) {
            return Err(format!("{} is shown, and not among the arguments", path.display()));
        }
    }
    Ok(())
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(members) => members.values().for_each(|item| collect(item, texts)),
        _ => {}
    }
}

/// Changes one thing somewhere in the arguments.
fn damage(given: &mut Value, target: &Target, random: &mut Random) {
    let at_top = random.below(3) == 0;
    match given {
        Value::Object(members) if !at_top && !members.is_empty() => {
            let name = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
            damage_leaf(&mut members[&name], target, random);
        }
        Value::Object(members) => match random.below(4) {
            0 if !members.is_empty() => {
                let name = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
                members.remove(&name);
            }
            1 => drop(members.insert((*random.pick(&TEXTS)).to_owned(), random.value())),
            _ if !target.names.is_empty() => drop(members.insert(random.pick(&target.names).clone(), random.value())),
            _ => {}
        },
        other => *other = random.value(),
    }
}

fn damage_leaf(value: &mut Value, target: &Target, random: &mut Random) {
    match value {
        Value::String(text) if random.below(3) > 0 => random.cut(text),
        Value::Number(number) if random.below(2) > 0 => {
            let near = number.as_i64().unwrap_or(0).saturating_add(random.below(5) as i64 - 2);
            *value = json!(near);
        }
        Value::Array(items) if !items.is_empty() && random.below(4) > 0 => {
            let at = random.below(items.len());
            match random.below(4) {
                0 => {
                    // As many as a model that repeats itself would write.
                    let again = items[at].clone();
                    items.extend(std::iter::repeat_n(again, 1 << random.below(12)));
                }
                _ => damage_leaf(&mut items[at], target, random),
            }
        }
        Value::Object(_) if random.below(4) > 0 => damage(value, target, random),
        other => *other = random.value(),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn value(&mut self) -> Value {
        match self.below(10) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => json!(self.next() >> self.below(64)),
            3 => json!(-((self.next() >> (1 + self.below(63))) as i64)),
            4 => Number::from_f64(self.next() as f64 / 7.0).map_or(Value::Null, Value::Number),
            5 => json!([self.pick(&TEXTS)]),
            6 => Value::Object(Map::from_iter([((*self.pick(&TEXTS)).to_owned(), json!(0))])),
            7 => Value::from(self.pick(&TEXTS).repeat(1 << self.below(14))),
            _ => Value::from(*self.pick(&TEXTS)),
        }
    }

    /// Takes a piece out of a text, puts one in, or doubles it.
    fn cut(&mut self, text: &mut String) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.below(chars.len() + 1);
        match self.below(4) {
            0 => chars.truncate(at),
            1 => drop(chars.splice(at..at, self.pick(&TEXTS).chars())),
            2 if at < chars.len() => chars[at] = char::from_u32(self.next() as u32 % 0x11_0000).unwrap_or('\u{fffd}'),
            _ => chars.extend(chars.clone()),
        }
        *text = chars.into_iter().collect();
    }
}
