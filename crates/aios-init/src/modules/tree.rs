//! One kernel's module directory: where each module's file is, what it needs, and what must stay out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{AliasIndex, Kernel, Loaded, before, canonical, insert, module_name};

/// Modules that the operator wants left alone, one name a line.
const BLACKLIST: &str = "/etc/aios/modules.blacklist";

/// The module directory can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; drivers that are not built into the kernel stay unloaded", path.display())]
pub struct TreeError {
    path: PathBuf,
    source: io::Error,
}

/// `/usr/lib/modules/<version>` of the running kernel.
#[derive(Debug)]
pub struct ModuleTree {
    dir: PathBuf,
    /// `modules.dep`: for each module its file and those it needs, relative to `dir`, nearest need first.
    needs: String,
    /// Name (underscores) to its line of `needs`.
    lines: HashMap<Box<str>, Range<usize>>,
    /// Name to the names that should be loaded before it (`modules.softdep`, `pre:`).
    before: HashMap<Box<str>, Vec<Box<str>>>,
    blacklist: HashSet<String>,
    /// Files that were offered to the kernel already, and whether it has them now.
    tried: HashMap<Box<str>, bool>,
}

impl ModuleTree {
    /// The tree of the running kernel with the operator's blacklist.
    pub fn of_running_kernel() -> Result<Self, TreeError> {
        let version = rustix::system::uname().release().to_string_lossy().into_owned();
        Self::open(&Path::new("/usr/lib/modules").join(version), Path::new(BLACKLIST))
    }

    /// Reads `modules.dep`, `modules.softdep` and the blacklist; the latter two may be absent.
    pub fn open(dir: &Path, blacklist: &Path) -> Result<Self, TreeError> {
        let needs = read(&dir.join("modules.dep"))?;
        let softdep = fs::read_to_string(dir.join("modules.softdep")).unwrap_or_default();
        let blacklist = fs::read_to_string(blacklist).unwrap_or_default();
        Ok(ModuleTree {
            dir: dir.to_owned(),
            lines: names(&needs),
            needs,
            before: softdep.lines().filter_map(soft_dependencies).collect(),
            blacklist: blacklist.lines().filter_map(blacklisted).collect(),
            tried: HashMap::new(),
        })
    }

    /// Reads `modules.alias`. Kept apart from the tree so that its megabytes can go once the devices have drivers.
    pub fn aliases(&self) -> Result<AliasIndex, TreeError> {
        Ok(AliasIndex::parse(read(&self.dir.join("modules.alias"))?))
    }

    /// Loads every module that names `alias`, with what it needs.
    pub fn load_for_alias(&mut self, index: &AliasIndex, alias: &str, kernel: &mut dyn Kernel, outcome: &mut Loaded) {
        for module in index.modules_for(alias) {
            if !self.blacklist.contains(canonical(module).as_str()) {
                self.load(module, kernel, outcome);
            }
        }
    }

    /// Loads a module by name with what it needs. A name that has no file is built in, or is not for this kernel.
    pub fn load(&mut self, module: &str, kernel: &mut dyn Kernel, outcome: &mut Loaded) {
        self.load_within(module, kernel, outcome, 0);
    }

    /// `depth` bounds soft dependencies that name each other.
    fn load_within(&mut self, module: &str, kernel: &mut dyn Kernel, outcome: &mut Loaded, depth: usize) {
        let name = canonical(module);
        let line = self.lines.get(name.as_str()).and_then(|line| self.needs.get(line.clone()));
        let files: Vec<Box<str>> = line.map(files).unwrap_or_default();
        let Some(own) = files.first().filter(|own| !self.tried.contains_key(*own) && depth <= 8) else { return };
        for earlier in self.before.get(name.as_str()).cloned().unwrap_or_default() {
            self.load_within(&earlier, kernel, outcome, depth + 1);
        }
        // modules.dep lists what is needed from near to far; the far ones must go in first, and without one of them
        // the rest can't be linked.
        for file in files.iter().rev() {
            let is_in = match self.tried.get(file) {
                Some(is_in) => *is_in,
                None => {
                    let is_in = insert(kernel, &self.dir.join(file.as_ref()), outcome);
                    self.tried.insert(file.clone(), is_in);
                    is_in
                }
            };
            if !is_in {
                self.tried.insert(own.clone(), false);
                return;
            }
        }
    }
}

fn read(path: &Path) -> Result<String, TreeError> {
    fs::read_to_string(path).map_err(|source| TreeError { path: path.to_owned(), source })
}

/// The lines of `modules.dep` by the module that they are about.
fn names(needs: &str) -> HashMap<Box<str>, Range<usize>> {
    let mut start = 0;
    let lines = needs.split_inclusive('\n').map(|line| {
        let range = start..start + line.len();
        start = range.end;
        (line, range)
    });
    lines.filter_map(|(line, range)| Some((module_name(Path::new(line.split_once(':')?.0)).into(), range))).collect()
}

/// `kernel/a/b-c.ko.xz: kernel/d.ko.xz` gives both files.
fn files(line: &str) -> Vec<Box<str>> {
    let (file, needs) = line.split_once(':').unwrap_or((line, ""));
    std::iter::once(file.trim()).chain(needs.split_ascii_whitespace()).map(Into::into).collect()
}

/// `softdep a pre: b c post: d` to (`a`, `b`, `c`). What should follow is left to the devices that appear.
fn soft_dependencies(line: &str) -> Option<(Box<str>, Vec<Box<str>>)> {
    let (name, rest) = line.strip_prefix("softdep ")?.split_once(' ')?;
    Some((canonical(name).into(), before(rest).map(Into::into).collect()))
}

fn blacklisted(line: &str) -> Option<String> {
    let name = line.split('#').next()?.trim();
    let name = name.strip_prefix("blacklist ").unwrap_or(name).trim();
    (!name.is_empty()).then(|| canonical(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::testing::Recorder;

    #[test]
    fn needs_go_in_first_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("modules.dep"), "k/ext4.ko: k/jbd2.ko k/mbcache.ko\nk/jbd2.ko:\nk/crc32c.ko:\n")
            .unwrap();
        fs::write(dir.path().join("modules.softdep"), "# soft\nsoftdep ext4 pre: crc32c ext4 post: jbd2\n").unwrap();
        let mut tree = ModuleTree::open(dir.path(), &dir.path().join("none")).unwrap();
        let (mut kernel, mut outcome) = (Recorder::default(), Loaded::default());
        tree.load("ext4", &mut kernel, &mut outcome);
        tree.load("jbd2", &mut kernel, &mut outcome);
        tree.load("built-in", &mut kernel, &mut outcome);
        assert_eq!(kernel.0, ["crc32c", "mbcache", "jbd2", "ext4"]);
        assert_eq!(outcome.inserted, 4);
    }

    #[test]
    fn a_tree_that_is_not_there_is_named() {
        let message = ModuleTree::open(Path::new("/nonexistent/6.12"), Path::new("/none")).unwrap_err().to_string();
        assert!(message.starts_with("/nonexistent/6.12/modules.dep: "), "{message}");
    }

    #[test]
    fn a_blacklist_takes_names_comments_and_modprobe_lines() {
        let names: Vec<_> = "nouveau\n# no\nblacklist snd-hda # noisy\n\n".lines().filter_map(blacklisted).collect();
        assert_eq!(names, ["nouveau", "snd_hda"]);
    }
}
