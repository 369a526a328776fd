//! `sec.check_baseline`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::snapshot::{self, File, Name, Snapshot};
use crate::{
    access::{Access, Privilege},
    args::{AbsolutePath, Count},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct CheckBaseline;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the baseline.
    #[serde(default)]
    name: Name,
    /// The paths that it was made of.
    paths: Vec<AbsolutePath>,
    /// Most differences to list, 1 to 500.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether all is as it was.
    unchanged: bool,
    /// What is different, by path.
    differences: Vec<Difference>,
    /// How many differences there are.
    total: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    path: String,
    /// What has changed.
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Change {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// Its bytes, or where a link leads.
    Contents,
    /// Its permissions or its kind.
    Mode,
    /// Its user or its group.
    Owner,
}

impl Tool for CheckBaseline {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.check_baseline",
        description: "Compares files with the baseline that sec.baseline made of them: what was added, removed or changed.",
        examples: &[Example {
            goal: "has the configuration changed",
            arguments: r#"{"name": "configuration", "paths": ["/etc", "/var/lib/aios/config"]}"#,
        }],
        needs: &["sec:check:{name}", "fs:read:{paths}"],
        timeout: Duration::from_secs(120),
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("sec:check:{}", input.name)).sees(snapshot::FOLDER).with(Privilege::ReadAll);
        input.paths.iter().fold(access, Access::reads)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let before = Snapshot::read(host, &input.name).map_err(|error| match error.code {
            Code::NotFound => ToolError::new(
                Code::NotFound,
                format!("there is no baseline {}; make it with sec.baseline", input.name),
            ),
            _ => error,
        })?;
        if before.paths != input.paths {
            let paths: Vec<&str> = before.paths.iter().map(AbsolutePath::as_str).collect();
            let text = format!("the baseline {} is of the paths {}; give the same ones", input.name, paths.join(" "));
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        let mut differences = compare(&before, &Snapshot::take(host, &input.paths)?);
        let total = differences.len();
        differences.truncate(input.limit.index());
        Ok(Output { unchanged: total == 0, differences, total })
    }
}

fn compare(before: &Snapshot, after: &Snapshot) -> Vec<Difference> {
    let changed = before.files.iter().filter_map(|(path, old)| {
        let changes = after.files.get(path).map_or_else(|| vec![Change::Removed], |new| changes(old, new));
        (!changes.is_empty()).then(|| Difference { path: path.clone(), changes })
    });
    let added = after.files.keys().filter(|path| !before.files.contains_key(*path));
    let added = added.map(|path| Difference { path: path.clone(), changes: vec![Change::Added] });
    let mut differences: Vec<Difference> = changed.chain(added).collect();
    differences.sort_by(|one, other| one.path.cmp(&other.path));
    differences
}

fn changes(old: &File, new: &File) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.sha256 != new.sha256 {
        changes.push(Change::Contents);
    }
    if old.mode != new.mode {
        changes.push(Change::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        changes.push(Change::Owner);
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown, symlink},
    };

    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::sec::baseline::Baseline,
        testing::{call, inverse},
        tool::Inverse,
    };

    #[test]
    fn every_kind_of_change_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        for path in [snapshot::FOLDER, "/etc/sub"] {
            fs::create_dir_all(host.path(path)).expect("folder");
        }
        for name in ["bytes", "mode", "owner", "gone", "same", "sub/deep"] {
            fs::write(host.path(format!("/etc/{name}")), name).expect("write");
        }
        symlink("/one", host.path("/etc/link")).expect("link");
        let arguments = json!({"name": "test", "paths": ["/etc"]});
        let check = || call::<CheckBaseline>(&host, arguments.clone());
        assert_eq!(check().map_err(|error| error.code), Err(Code::NotFound));
        let expected =
            Inverse::Paths { paths: vec![AbsolutePath::new(format!("{}/test.json", snapshot::FOLDER)).expect("path")] };
        assert_eq!(inverse::<Baseline>(&host, &arguments), Ok(expected));
        assert_eq!(call::<Baseline>(&host, arguments.clone()), Ok(json!({"files": 9})));
        assert_eq!(check(), Ok(json!({"unchanged": true, "differences": [], "total": 0})));

        fs::write(host.path("/etc/bytes"), "BYTES").expect("write");
        fs::set_permissions(host.path("/etc/mode"), fs::Permissions::from_mode(0o4755)).expect("mode");
        chown(host.path("/etc/owner"), Some(1), None).expect("chown needs root");
        fs::remove_file(host.path("/etc/gone")).expect("remove");
        fs::write(host.path("/etc/sub/new"), "").expect("write");
        fs::remove_file(host.path("/etc/link")).expect("remove");
        symlink("/two", host.path("/etc/link")).expect("link");
        let expected = json!([
            {"path": "/etc/bytes", "changes": ["contents"]},
            {"path": "/etc/gone", "changes": ["removed"]},
            {"path": "/etc/link", "changes": ["contents"]},
            {"path": "/etc/mode", "changes": ["mode"]},
            {"path": "/etc/owner", "changes": ["owner"]},
            {"path": "/etc/sub/new", "changes": ["added"]},
        ]);
        let answer = check().expect("check");
        assert_eq!((&answer["differences"], &answer["total"]), (&expected, &json!(6)));
        let other = call::<CheckBaseline>(&host, json!({"name": "test", "paths": ["/etc/sub"]}));
        assert_eq!(other.map_err(|error| error.code), Err(Code::FailedPrecondition));
    }

    #[test]
    fn a_baseline_can_not_be_written_elsewhere() {
        for name in ["../etc", "a/b", "", ".a", "A"] {
            let arguments = json!({"name": name, "paths": ["/etc"]});
            let code = call::<Baseline>(&Host::device(), arguments).map_err(|error| error.code);
            assert_eq!(code, Err(Code::InvalidArgument), "{name:?}");
        }
    }
}
