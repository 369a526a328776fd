//! `process.tree`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pid::Pid,
    proc_file::{Stat, no_process},
};
use crate::{
    access::Access,
    args::Bounded,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Tree;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Process at the top; absent for all of them.
    #[serde(default)]
    root: Option<Pid>,
    /// Generations below the top, 0 to 32.
    #[serde(default)]
    depth: Bounded<0, 32, 8>,
    /// Processes in the answer at most, 1 to 500.
    #[serde(default)]
    limit: Bounded<1, 500, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Each process after its parent.
    processes: Vec<Node>,
    /// Whether some are left out, for `depth` or for `limit`.
    truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Node {
    /// Generations below the top.
    depth: u64,
    /// Id.
    pid: Pid,
    /// Id of the parent.
    parent: i32,
    /// Name.
    name: String,
    /// Memory that is really there.
    memory_bytes: u64,
}

impl Tool for Tree {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.tree",
        description: "Shows which process started which, as a list in which each process follows its parent; threads of the kernel are left out.",
        examples: &[
            Example { goal: "who started what", arguments: "{}" },
            Example { goal: "what process 1 has started itself", arguments: r#"{"root": 1, "depth": 1}"# },
        ],
        needs: &["process:read:all"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("process:read:all").among_processes()
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let all: BTreeMap<i32, Stat> = Stat::all(host)
            .into_iter()
            .filter(|stat| !stat.is_of_kernel())
            .map(|stat| (stat.pid.into(), stat))
            .collect();
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (pid, stat) in &all {
            children.entry(stat.parent).or_default().push(*pid);
        }
        let tops: Vec<i32> = match input.root {
            Some(root) if all.contains_key(&root.into()) => vec![root.into()],
            Some(root) => return Err(no_process(root)),
            None => all.iter().filter(|(_, stat)| !all.contains_key(&stat.parent)).map(|(pid, _)| *pid).collect(),
        };
        Ok(walk(tops, all, &children, &input))
    }
}

/// Down from `tops`. A process is met once even where parents changed while they were read and form a circle.
fn walk(tops: Vec<i32>, mut all: BTreeMap<i32, Stat>, children: &BTreeMap<i32, Vec<i32>>, input: &Input) -> Output {
    let mut output = Output { processes: Vec::new(), truncated: false };
    let mut pending: Vec<(i32, u64)> = tops.into_iter().rev().map(|pid| (pid, 0)).collect();
    while let Some((pid, depth)) = pending.pop() {
        let Some(stat) = all.remove(&pid) else { continue };
        if depth > input.depth.get() || output.processes.len() == input.limit.length() {
            output.truncated = true;
            continue;
        }
        let memory_bytes = stat.resident_bytes;
        output.processes.push(Node { depth, pid: stat.pid, parent: stat.parent, name: stat.name, memory_bytes });
        let below = children.get(&pid).into_iter().flatten().rev();
        pending.extend(below.map(|child| (*child, depth + 1)));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::process::fixture::Fixture, error::Code};

    fn tree(fixture: &Fixture, arguments: serde_json::Value) -> Result<Output, ToolError> {
        Tree::run(serde_json::from_value(arguments).expect("arguments"), &fixture.host())
    }

    #[test]
    fn each_process_follows_its_parent() {
        let fixture = Fixture::new();
        for (pid, parent) in [(1, 0), (5, 1), (6, 5), (7, 1), (8, 7), (9, 8)] {
            fixture.process(pid, "p", parent, 1);
        }
        fixture.kernel_thread(2, "kthreadd");
        let shape = |output: &Output| -> Vec<(u64, i32)> {
            output.processes.iter().map(|node| (node.depth, node.pid.into())).collect()
        };
        let output = tree(&fixture, serde_json::json!({})).expect("tree");
        assert_eq!(shape(&output), [(0, 1), (1, 5), (2, 6), (1, 7), (2, 8), (3, 9)]);
        let output = tree(&fixture, serde_json::json!({"root": 7, "depth": 1})).expect("tree");
        assert_eq!((shape(&output), output.truncated), (vec![(0, 7), (1, 8)], true));
        let output = tree(&fixture, serde_json::json!({"limit": 1})).expect("tree");
        assert_eq!((shape(&output), output.truncated), (vec![(0, 1)], true));
        assert_eq!(
            tree(&fixture, serde_json::json!({"root": 2})).map_err(|error| error.code).err(),
            Some(Code::NotFound)
        );
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let fixture = Fixture::new();
        fixture.process(5, "a", 6, 1);
        fixture.process(6, "b", 5, 1);
        assert_eq!(tree(&fixture, serde_json::json!({"root": 5})).expect("tree").processes.len(), 2);
    }
}
