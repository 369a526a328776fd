//! Users and groups from `/etc/passwd` and `/etc/group`. A static binary has no name service, and the image has no other.

use std::fs;
use std::path::Path;

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one included.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Looks a user up; the error says what is missing where.
pub fn look_up(name: &str, passwd: &Path, group: &Path) -> Result<Account, String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut account = match read(passwd) {
        Ok(text) => find_user(name, &text).ok_or_else(|| format!("no user {name} in {}", passwd.display())),
        Err(error) => Err(error),
    }
    // Root needs no file to exist, so that the machine stays operable without one.
    .or_else(|error| if name == "root" { Ok(root()) } else { Err(error) })?;
    // Without the file there are no supplementary groups to be in.
    let members = read(group).map(|text| groups_of(name, &text)).unwrap_or_default();
    account.groups = [account.gid].into_iter().chain(members).collect();
    account.groups.sort_unstable();
    account.groups.dedup();
    Ok(account)
}

fn root() -> Account {
    Account { name: "root".into(), uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() }
}

/// `name:password:uid:gid:comment:home:shell`
fn find_user(name: &str, passwd: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/");
        Some(Account { name: name.into(), uid, gid, groups: Vec::new(), home: home.into() })
    })
}

/// `name:password:gid:member,member`
fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let gid_if_member = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == name).then_some(gid)
    };
    group.lines().filter_map(gid_if_member).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_is_found_with_its_groups() {
        let directory = tempfile::tempdir().unwrap();
        let (passwd, group) = (directory.path().join("passwd"), directory.path().join("group"));
        fs::write(
            &passwd,
            "root:x:0:0:root:/root:/bin/sh\nruntime:x:200:201:Runtime:/var/lib/aios/runtime:/bin/false\n",
        )
        .unwrap();
        fs::write(&group, "root:x:0:\nruntime:x:201:\nrender:x:44:other,runtime\nvideo:x:45:other\n").unwrap();
        let account = look_up("runtime", &passwd, &group).unwrap();
        assert_eq!((account.uid, account.gid, account.groups), (200, 201, vec![44, 201]));
        assert_eq!(account.home, "/var/lib/aios/runtime");
        assert!(look_up("ghost", &passwd, &group).unwrap_err().starts_with("no user ghost in "));
        assert_eq!(look_up("root", &directory.path().join("none"), &group).unwrap().uid, 0);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "[a:,0-9\n]*") {
            let _ = find_user("a", &text);
            let _ = groups_of("a", &text);
        }
    }
}
