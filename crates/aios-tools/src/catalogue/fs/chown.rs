//! `fs.chown`

use std::borrow::Cow;

use rustix::fs::{AtFlags, Gid, Uid};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Chown;

/// Name of a user or group, or its number.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Account(String);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File, folder or link; a link itself, not what it leads to.
    path: AbsolutePath,
    /// User to own it: a name of /etc/passwd, or a number. Absent: as it is.
    #[serde(default)]
    user: Option<Account>,
    /// Group to own it: a name of /etc/group, or a number. Absent: as it is.
    #[serde(default)]
    group: Option<Account>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Number of the user that owned it.
    old_uid: u32,
    /// Number of the group that owned it.
    old_gid: u32,
    /// Number of the user that owns it now.
    uid: u32,
    /// Number of the group that owns it now.
    gid: u32,
}

impl TryFrom<String> for Account {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if (1..=32).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['-', '.']) {
            return Ok(Account(name));
        }
        Err(format!("{name:?} is no name or number of a user or group"))
    }
}

impl JsonSchema for Account {
    fn schema_name() -> Cow<'static, str> {
        "Account".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$" })
    }
}

impl Account {
    /// Its number, by a file of the form of passwd(5) and group(5).
    fn number(&self, host: &Host, file: &str) -> Result<u32, ToolError> {
        // The last number means "as it is" to the kernel.
        if let Some(number) = self.0.parse().ok().filter(|number| *number != u32::MAX) {
            return Ok(number);
        }
        let text = host.text(file)?;
        let found = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(self.0.as_str())).then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        found.ok_or_else(|| ToolError::new(Code::NotFound, format!("{:?} is not in {file}", self.0)))
    }
}

impl Tool for Chown {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.chown",
        description: "Gives a file, folder or link to another user or group. Does not reach into a folder; the kernel \
                      drops a file's set-ID bits.",
        examples: &[Example {
            goal: "the broker shall own its data",
            arguments: r#"{"path": "/var/lib/aios/mqtt", "user": "mosquitto", "group": "mosquitto"}"#,
        }],
        needs: &["fs:write:{path}"],
        risk: Risk::Medium,
        reversible: true,
        sinks: &["/path", "/user", "/group"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::default().writes(&input.path).sees("/etc/passwd").sees("/etc/group");
        access.with(Privilege::FileOwner).with(Privilege::WriteAll)
    }

    /// A file that would lose set-ID bits is kept whole.
    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let stat = Tree::of(host)?.place(&input.path)?.existing()?;
        if Kind::of(&stat) == Kind::File && stat.st_mode & 0o6000 != 0 {
            return Ok(Inverse::Paths { paths: vec![input.path.clone()] });
        }
        let (user, group) = (stat.st_uid.to_string(), stat.st_gid.to_string());
        let arguments = json!({"path": input.path, "user": user, "group": group});
        Ok(Inverse::Call { tool: Self::SPEC.name.to_owned(), arguments })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let number = |account: &Option<Account>, file| account.as_ref().map(|name| name.number(host, file)).transpose();
        let (user, group) = (number(&input.user, "/etc/passwd")?, number(&input.group, "/etc/group")?);
        if user.is_none() && group.is_none() {
            return Err(ToolError::new(Code::InvalidArgument, "give a user, a group, or both"));
        }
        let place = Tree::of(host)?.place(&input.path)?;
        let old = place.existing()?;
        let (uid, gid) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        rustix::fs::chownat(&place.folder, &place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| place.failed(error))?;
        let new = place.existing()?;
        Ok(Output { old_uid: old.st_uid, old_gid: old.st_gid, uid: new.st_uid, gid: new.st_gid })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("etc")).expect("mkdir");
        let passwd = "root:x:0:0::/:\nbroken\nhalf:x\nmqtt:x:77:78::/:\nbad:x:many:1\n";
        fs::write(folder.path().join("etc/passwd"), passwd).expect("write");
        let host = Host::below(folder.path());
        let number = |name: &str| {
            Account::try_from(name.to_owned()).expect(name).number(&host, "/etc/passwd").map_err(|error| error.code)
        };
        assert_eq!((number("mqtt"), number("root"), number("1234")), (Ok(77), Ok(0), Ok(1234)));
        for unknown in ["half", "bad", "nobody", "broken", "4294967295"] {
            assert_eq!(number(unknown), Err(Code::NotFound), "{unknown}");
        }
        for bad in ["", "-1", "a:b", "a b", "a\n"] {
            assert!(Account::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_owner_is_set_or_refused_as_the_kernel_says() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("f"), "").expect("write");
        symlink("/etc/hostname", folder.path().join("link")).expect("link");
        let host = Host::below(folder.path());
        let code = |arguments| call::<Chown>(&host, arguments).expect_err("refused").code;
        assert_eq!(code(json!({"path": "/f"})), Code::InvalidArgument);
        assert_eq!(code(json!({"path": "/none", "user": "0"})), Code::NotFound);
        if !rustix::process::geteuid().is_root() {
            assert_eq!(code(json!({"path": "/f", "user": "0"})), Code::PermissionDenied);
            return;
        }
        let changed = call::<Chown>(&host, json!({"path": "/link", "user": "12", "group": "13"})).expect("chown");
        assert_eq!(changed, json!({"old_uid": 0, "old_gid": 0, "uid": 12, "gid": 13}));
        check_inverse::<Chown>(folder.path(), json!({"path": "/f", "user": "77"}));
    }
}
