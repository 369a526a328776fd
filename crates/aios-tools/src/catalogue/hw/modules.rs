//! `hw.modules`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Bounded,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

const PATH: &str = "/proc/modules";

pub struct Modules;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Modules in the answer at most, 1 to 1000.
    #[serde(default)]
    limit: Bounded<1, 1000, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Modules that are loaded, by name.
    modules: Vec<Module>,
    /// How many there are.
    total: usize,
    /// Whether some are left out.
    truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Module {
    /// Name.
    name: String,
    /// Memory that it takes.
    size_bytes: u64,
    /// Modules that need it.
    used_by: Vec<String>,
}

impl Tool for Modules {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.modules",
        description: "Lists the kernel modules (drivers) that are loaded, with the memory they take (bytes) and the modules that need them.",
        examples: &[Example { goal: "which drivers are loaded", arguments: "{}" }],
        needs: &["hw:read:modules"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("hw:read:modules").sees(PATH)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let text = match host.text(PATH) {
            // A kernel without modules has no such file.
            Err(error) if error.code == Code::NotFound => String::new(),
            text => text?,
        };
        let mut modules: Vec<Module> = text.lines().filter_map(parse).collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        let total = modules.len();
        modules.truncate(input.limit.length());
        Ok(Output { truncated: modules.len() < total, modules, total })
    }
}

/// `name size references users,... state address`; `-` for no users.
fn parse(line: &str) -> Option<Module> {
    let mut fields = line.split(' ');
    let (name, size_bytes) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
    let users = fields.nth(1)?.split(',').filter(|user| !matches!(*user, "" | "-" | "[permanent]"));
    Some(Module { name, size_bytes, used_by: users.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn modules_come_by_name_with_their_users() {
        let system = FakeInit::start(&[]);
        system.file(PATH, "virtio_net 1000 0 - Live 0x0\nfat 2000 2 vfat,msdos,[permanent], Live 0x0\nbroken\n");
        let run = |limit: u64| {
            Modules::run(Input { limit: limit.try_into().expect("limit") }, &system.host()).expect("modules")
        };
        let fat = Module { name: "fat".into(), size_bytes: 2000, used_by: vec!["vfat".into(), "msdos".into()] };
        let output = run(1);
        assert_eq!((output.modules, output.total, output.truncated), (vec![fat], 2, true));
        assert!(run(2).modules[1].used_by.is_empty());
    }
}
