//! `sec.users`

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most users that are listed.
const USERS_MAX: usize = 200;

/// Longest text of a field, in characters.
const TEXT_MAX: usize = 128;

pub struct Users;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Users, in the order of the file.
    users: Vec<User>,
    /// Whether there are more than are listed.
    truncated: bool,
    /// Lines of `/etc/passwd` that are damaged.
    damaged_lines: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
    /// Whether somebody could log in with a password.
    password: Password,
    /// Groups that name the user, beside its own one.
    groups: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Password {
    /// There is one.
    Set,
    /// None is needed: anybody can log in.
    Empty,
    /// None is right.
    Locked,
}

impl Tool for Users {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.users",
        description: "Lists the users of this device: ids, groups, shell, and whether a password is set. Never shows hashes.",
        examples: &[Example { goal: "who can log in to this device", arguments: "{}" }],
        needs: &["sec:read:users"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        let access = Access::needs("sec:read:users").sees("/etc/passwd").sees("/etc/group").sees("/etc/shadow");
        access.with(Privilege::ReadAll)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let passwd = host.text("/etc/passwd")?;
        let group = host.line("/etc/group").unwrap_or_default();
        let shadow = host.line("/etc/shadow").unwrap_or_default();
        let hashes: HashMap<&str, &str> = shadow
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                Some((fields.next()?, fields.next()?))
            })
            .collect();
        let lines = passwd.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parsed: Vec<Option<User>> = lines.map(|line| user(line, &group, &hashes)).collect();
        let damaged_lines = parsed.iter().filter(|user| user.is_none()).count();
        let mut users: Vec<User> = parsed.into_iter().flatten().collect();
        let truncated = users.len() > USERS_MAX;
        users.truncate(USERS_MAX);
        Ok(Output { users, truncated, damaged_lines })
    }
}

/// A line of passwd(5).
fn user(line: &str, group: &str, hashes: &HashMap<&str, &str>) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, hash, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let hash = if *hash == "x" { hashes.get(name).copied().unwrap_or("*") } else { hash };
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [group, _, _, members] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == *name).then(|| plain(group, TEXT_MAX))
    };
    Some(User {
        name: plain(name, TEXT_MAX),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: plain(home, TEXT_MAX),
        shell: plain(shell, TEXT_MAX),
        password: match hash {
            "" => Password::Empty,
            hash if hash.starts_with(['!', '*']) => Password::Locked,
            _ => Password::Set,
        },
        groups: group.lines().filter_map(member).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::testing::call;

    #[test]
    fn users_are_shown_without_their_hashes() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir(host.path("/etc")).expect("folder");
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a remark\nopen::1:1::/:/bin/sh\nshut:*:2:2::/:\nold:abc.hash:3:3::/:/bin/sh\n\
                      lost:x:4:4::/:/bin/sh\nbad:x:minus:0::/:\nshort:x\n";
        fs::write(host.path("/etc/passwd"), passwd).expect("write");
        fs::write(host.path("/etc/shadow"), "root:$6$secret.hash:1::::::\nother\n").expect("write");
        fs::write(host.path("/etc/group"), "root:*:0:\naios:*:900:shut,root\nbroken\n").expect("write");
        let answer = call::<Users>(&host, json!({})).expect("users");
        assert!(!answer.to_string().contains("hash"), "{answer}");
        let of = |key: &str| -> Vec<_> {
            answer["users"].as_array().expect("users").iter().map(|user| user[key].clone()).collect()
        };
        assert_eq!(of("name"), ["root", "open", "shut", "old", "lost"]);
        assert_eq!(of("password"), ["set", "empty", "locked", "set", "locked"]);
        assert_eq!(answer["users"][0]["groups"], json!(["aios"]));
        assert_eq!(answer["damaged_lines"], 2);
    }
}
