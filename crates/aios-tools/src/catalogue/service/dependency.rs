//! Which unit requires which, from the unit files: a start also starts, and a stop also stops, more than one unit.

use std::collections::{BTreeMap, BTreeSet};

use aios_core::paths;
use serde::Deserialize;

use crate::{access::Access, host::Host};

/// What PID 1 reads of a unit file about other units.
#[derive(Default, Deserialize)]
struct UnitFile {
    #[serde(default)]
    requires: Vec<String>,
}

/// What each unit requires.
pub struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    /// What reading them takes.
    pub fn visible(access: Access) -> Access {
        paths::UNIT_DIRS.into_iter().fold(access, Access::sees)
    }

    /// Those of the unit files. A file that PID 1 refuses requires nothing, for PID 1 does not run it.
    pub fn of(host: &Host) -> Self {
        let mut requires = BTreeMap::new();
        for folder in paths::UNIT_DIRS {
            for file in host.names(folder) {
                let Some(unit) = file.strip_suffix(".toml") else { continue };
                let text = host.text(format!("{folder}/{file}")).unwrap_or_default();
                let parsed: UnitFile = toml::from_str(&text).unwrap_or_default();
                requires.insert(unit.to_owned(), parsed.requires);
            }
        }
        Dependencies(requires)
    }

    /// All that must run for `unit` to run, without itself.
    pub fn required_by(&self, unit: &str) -> BTreeSet<String> {
        self.reach(unit, |from, to| self.requires(from, to))
    }

    /// All that can't run without `unit`, without itself.
    pub fn dependent_on(&self, unit: &str) -> BTreeSet<String> {
        self.reach(unit, |from, to| self.requires(to, from))
    }

    fn requires(&self, unit: &str, other: &str) -> bool {
        self.0.get(unit).is_some_and(|required| required.iter().any(|name| name == other))
    }

    fn reach(&self, unit: &str, leads: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut pending = vec![unit.to_owned()];
        while let Some(from) = pending.pop() {
            for to in self.0.keys().filter(|to| leads(&from, to)) {
                if to != unit && found.insert(to.clone()) {
                    pending.push(to.clone());
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn requirements_are_followed_both_ways_and_through_circles() {
        let init = FakeInit::start(&[]);
        init.file("/usr/lib/aios/units/a.toml", "requires = [\"b\"]\ncommand = [\"/a\"]");
        init.file("/usr/lib/aios/units/b.toml", "requires = [\"x\"]");
        init.file("/etc/aios/units/b.toml", "requires = [\"c\", \"a\"]");
        init.file("/etc/aios/units/c.toml", "broken [");
        init.file("/etc/aios/units/readme", "requires = [\"c\"]");
        let dependencies = Dependencies::of(&init.host());
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        assert_eq!(names(dependencies.required_by("a")), ["b", "c"]);
        assert_eq!(names(dependencies.dependent_on("c")), ["a", "b"]);
        assert_eq!(names(dependencies.required_by("none")), [""; 0]);
    }
}
