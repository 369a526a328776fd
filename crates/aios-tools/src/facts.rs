//! What the service looks up for a call that could not see it itself.
//!
//! Landlock lets no confined process look into another: where its program and its open files are stays hidden, whatever
//! capability it has. So the service, which is not confined, reads that for the tools that name it, before the call, and
//! hands it in as text. It follows nothing and opens nothing but files of `/proc`; who may ask for it is the capability of
//! the call.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

use crate::host::Host;

/// Most links that are handed to one call.
const LINKS_MAX: usize = 50_000;

/// Longest target of a link that is handed on, in bytes: a path of Linux.
const TARGET_MAX: usize = 4096;

/// Something that a call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Program, open files, and input and output of a process.
    Process(u32),
    /// Which processes hold which sockets.
    Sockets,
    /// What is mounted where the first process lives.
    Mounts,
}

/// What a call is told: files of `/proc` by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Targets of links.
    links: BTreeMap<String, String>,
    /// Contents.
    texts: BTreeMap<String, String>,
}

impl Facts {
    /// Looks up `facts` on `host`. What is not there, or ends meanwhile, is left out: the call finds it missing, too.
    pub fn look_up(facts: &[Fact], host: &Host) -> Facts {
        let mut found = Facts::default();
        for fact in facts {
            match fact {
                Fact::Process(pid) => {
                    found.link(host, format!("/proc/{pid}/exe"), |_| true);
                    found.descriptors(host, *pid, |_| true);
                    found.text_of(host, format!("/proc/{pid}/io"));
                }
                Fact::Sockets => {
                    for pid in host.names("/proc").iter().filter_map(|name| name.parse().ok()) {
                        found.descriptors(host, pid, |target| target.starts_with("socket:["));
                    }
                }
                Fact::Mounts => found.text_of(host, "/proc/1/mountinfo".to_owned()),
            }
        }
        found
    }

    /// Where a link leads.
    pub fn target(&self, path: &str) -> Option<&str> {
        self.links.get(path).map(String::as_str)
    }

    /// What a file holds.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Names of the links in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let first = format!("{folder}/");
        let below = self.links.range(first.clone()..).map_while(|(path, _)| path.strip_prefix(&first));
        below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    fn descriptors(&mut self, host: &Host, pid: u32, is_asked_for: impl Fn(&str) -> bool + Copy) {
        let folder = format!("/proc/{pid}/fd");
        for name in host.names(&folder) {
            self.link(host, format!("{folder}/{name}"), is_asked_for);
        }
    }

    fn link(&mut self, host: &Host, path: String, is_asked_for: impl Fn(&str) -> bool) {
        let Ok(target) = fs::read_link(host.path(&path)) else { return };
        let target = target.to_string_lossy().into_owned();
        if self.links.len() < LINKS_MAX && target.len() <= TARGET_MAX && is_asked_for(&target) {
            self.links.insert(path, target);
        }
    }

    fn text_of(&mut self, host: &Host, path: String) {
        if let Ok(text) = host.text(&path) {
            self.texts.insert(path, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sockets;

    /// A `/proc` with process 7, which has a file and a socket open, and process 70, which has another socket.
    fn proc() -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        for pid in ["7", "70"] {
            fs::create_dir_all(host.path(format!("/proc/{pid}/fd"))).expect("mkdir");
            fs::write(host.path(format!("/proc/{pid}/comm")), format!("name-{pid}\n")).expect("write");
            fs::write(host.path(format!("/proc/{pid}/io")), "rchar: 1\n").expect("write");
            symlink("/bin/program", host.path(format!("/proc/{pid}/exe"))).expect("link");
        }
        for (link, target) in [("7/fd/0", "/srv/open"), ("7/fd/3", "socket:[41]"), ("70/fd/3", "socket:[42]")] {
            symlink(target, host.path(format!("/proc/{link}"))).expect("link");
        }
        (folder, host)
    }

    #[test]
    fn a_call_is_told_what_it_names_and_no_more() {
        let (_kept, host) = proc();
        let told = Facts::look_up(&[Fact::Process(7)], &host);
        assert_eq!(told.names("/proc/7/fd"), ["0", "3"]);
        assert_eq!(told.target("/proc/7/fd/0"), Some("/srv/open"));
        assert_eq!((told.target("/proc/7/exe"), told.text("/proc/7/io")), (Some("/bin/program"), Some("rchar: 1\n")));
        assert_eq!((told.target("/proc/70/exe"), told.names("/proc/70/fd")), (None, Vec::new()));
        let sockets = Facts::look_up(&[Fact::Sockets], &host);
        assert_eq!((sockets.names("/proc/7/fd"), sockets.names("/proc/70/fd")), (vec!["3".into()], vec!["3".into()]));
        assert_eq!(Facts::look_up(&[Fact::Process(8)], &host), Facts::default());
    }

    #[test]
    fn a_call_that_can_not_look_into_processes_finds_what_it_was_told() {
        let (_kept, host) = proc();
        let told = Facts::look_up(&[Fact::Sockets, Fact::Process(7)], &host);
        for pid in ["7", "70"] {
            fs::remove_dir_all(host.path(format!("/proc/{pid}/fd"))).expect("remove");
        }
        assert!(sockets::holders(&host).is_empty());
        let host = host.told(told);
        let holders = sockets::holders(&host);
        assert_eq!((holders[&41][0].pid, holders[&42][0].name.as_str()), (7, "name-70"));
        assert_eq!(host.target("/proc/7/exe").as_deref(), Some("/bin/program"));
    }
}
