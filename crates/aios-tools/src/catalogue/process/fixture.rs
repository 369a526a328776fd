//! A `/proc` of processes that a test makes up.

use std::fs;

use tempfile::TempDir;

use crate::host::Host;

/// A folder with a `/proc`.
pub struct Fixture {
    root: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Fixture { root: tempfile::tempdir().expect("tempdir") }
    }

    pub fn host(&self) -> Host {
        Host::below(self.root.path())
    }

    /// A process of user 0 : 100 pages of memory and a tick of processor time for each number of its pid.
    pub fn process(&self, pid: i32, name: &str, parent: i32, start_ticks: u64) {
        self.stat(pid, name, parent, start_ticks, 0);
        self.file(pid, "cmdline", &format!("/usr/bin/{name}\0--flag\0two words\0"));
        self.file(pid, "status", &format!("Name:\t{name}\nUid:\t0\t{pid}\t0\t0\nGid:\t0\t0\t0\t0\nVmHWM:\t400 kB\n"));
    }

    pub fn kernel_thread(&self, pid: i32, name: &str) {
        self.stat(pid, name, 0, 0, super::proc_file::KERNEL_THREAD);
        self.file(pid, "cmdline", "");
    }

    fn stat(&self, pid: i32, name: &str, parent: i32, start_ticks: u64, flags: u64) {
        let stat = format!(
            "{pid} ({name}) S {parent} 0 0 0 -1 {flags} 0 0 0 0 {pid} 0 0 0 20 0 1 0 {start_ticks} 8192 {} 0 0 0",
            100 * pid
        );
        self.file(pid, "stat", &stat);
    }

    pub fn file(&self, pid: i32, name: &str, text: &str) {
        let folder = self.root.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&folder).expect("create");
        fs::write(folder.join(name), text).expect("write");
    }
}
