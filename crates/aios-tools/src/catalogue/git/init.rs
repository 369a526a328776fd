//! `git.init`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repository::{failed, options};
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::Tree,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Init;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder that exists. Files in it stay, and are untracked at first.
    path: AbsolutePath,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Branch of the first commit to come.
    branch: String,
}

/// `.git` below the folder `path`.
pub(super) fn git_folder(path: &AbsolutePath) -> Result<AbsolutePath, ToolError> {
    AbsolutePath::new(format!("{}/.git", path.as_str().trim_end_matches('/')))
        .map_err(|error| ToolError::new(Code::InvalidArgument, error.to_string()))
}

impl Tool for Init {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.init",
        description: "Makes a git repository of a folder.",
        examples: &[Example {
            goal: "keep versions of the configuration",
            arguments: r#"{"path": "/var/lib/aios/config"}"#,
        }],
        needs: &["fs:write:{path}"],
        risk: Risk::Medium,
        idempotent: false,
        reversible: true,
        sinks: &["/path"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::default().writes(&input.path).and_below(format!("fs:write:{}", input.path));
        access.with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![git_folder(&input.path)?] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let tree = Tree::of(host)?;
        tree.folder(&input.path)?;
        if tree.place(&git_folder(&input.path)?)?.stat()?.is_some() {
            return Err(ToolError::new(Code::AlreadyExists, format!("{} is a git repository already", input.path)));
        }
        let new = gix::ThreadSafeRepository::init_opts(
            host.path(&input.path),
            gix::create::Kind::WithWorktree,
            gix::create::Options::default(),
            options(),
        );
        let repository = new.map_err(|error| failed(&input.path, error))?.to_thread_local();
        let branch = super::repository::branch(&repository)?;
        Ok(Output { branch: branch.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn a_folder_becomes_a_repository_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        check_inverse::<Init>(folder.path(), json!({"path": "/"}));
        assert!(folder.path().join(".git/HEAD").is_file());
        let again = call::<Init>(&host, json!({"path": "/"})).expect_err("again");
        assert_eq!(again.code, Code::AlreadyExists);
        assert_eq!(call::<Init>(&host, json!({"path": "/none"})).expect_err("none").code, Code::NotFound);
        std::fs::create_dir(folder.path().join("new")).expect("mkdir");
        assert_eq!(call::<Init>(&host, json!({"path": "/new"})).expect("init"), json!({"branch": "main"}));
    }
}
