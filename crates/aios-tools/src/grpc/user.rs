//! Names of users.

use std::fs;

/// Name of the user with this number, by `/etc/passwd`.
pub fn name(uid: u32) -> Option<String> {
    parse(&fs::read_to_string("/etc/passwd").ok()?, uid)
}

fn parse(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_of_the_first_line_with_its_number() {
        let passwd = "root:*:0:0::/:\nbroken\nagent-web:*:910:910::/:\nagain:*:910:1::/:\n";
        assert_eq!(parse(passwd, 910).as_deref(), Some("agent-web"));
        assert_eq!(parse(passwd, 0).as_deref(), Some("root"));
        assert_eq!(parse(passwd, 1), None);
    }
}
