//! `sec.baseline`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::snapshot::{self, Name, Snapshot};
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

/// Most trees of one baseline.
const PATHS_MAX: usize = 16;

pub struct Baseline;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the baseline; one of this name is replaced.
    #[serde(default)]
    name: Name,
    /// Files and folders, with all below on the same file system. 1 to 16, with 50000 files at most.
    paths: Vec<AbsolutePath>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Files and folders that it knows.
    files: usize,
}

impl Tool for Baseline {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.baseline",
        description: "Remembers what files are now (SHA-256, mode, owner), so that sec.check_baseline can tell what has changed.",
        examples: &[Example {
            goal: "remember the state of the configuration",
            arguments: r#"{"name": "configuration", "paths": ["/etc", "/var/lib/aios/config"]}"#,
        }],
        needs: &["sec:baseline:{name}", "fs:read:{paths}"],
        risk: Risk::Medium,
        reversible: true,
        timeout: Duration::from_secs(120),
        sinks: &["/name", "/paths"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access =
            Access::needs(format!("sec:baseline:{}", input.name)).changes(snapshot::FOLDER).with(Privilege::ReadAll);
        input.paths.iter().fold(access, Access::reads)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.name.file()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if !(1..=PATHS_MAX).contains(&input.paths.len()) {
            let text = format!("paths has {} entries, but must have 1 to {PATHS_MAX}", input.paths.len());
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        let snapshot = Snapshot::take(host, &input.paths)?;
        snapshot.write(host, &input.name)?;
        Ok(Output { files: snapshot.files.len() })
    }
}
