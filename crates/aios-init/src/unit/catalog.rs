//! All units of the system with their dependencies resolved: what the supervisor is made of.

use std::collections::BTreeMap;

use super::{Loaded, Unit};
use crate::failure::{Failure, Stage};
use crate::graph;
use crate::supervisor::{ReadyWhen, Restart, Spec, UnitId};

/// The units by [`UnitId`], each with its [`Spec`].
#[derive(Debug, Default)]
pub struct Catalog {
    pub entries: Vec<Entry>,
    pub specs: Vec<Spec>,
    /// For the console: what is odd but hinders no unit.
    pub warnings: Vec<String>,
}

/// A unit, or the name of one whose file is broken.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    pub unit: Option<Unit>,
}

impl Catalog {
    /// Resolves names. Broken files, unknown requirements and cycles become defects of the units concerned.
    pub fn new(loaded: Loaded) -> Self {
        let mut catalog = Catalog { warnings: loaded.problems, ..Catalog::default() };
        let ids: BTreeMap<String, UnitId> =
            loaded.units.keys().enumerate().map(|(at, name)| (name.clone(), UnitId(at))).collect();
        for (name, result) in loaded.units {
            let (unit, spec) = match result {
                Ok(unit) => {
                    let spec = catalog.resolve(&unit, &ids);
                    (Some(unit), spec)
                }
                Err(error) => (None, broken(&name, Failure::new(Stage::UnitFile, error.to_string()))),
            };
            catalog.entries.push(Entry { name, unit });
            catalog.specs.push(spec);
        }
        catalog.cut_cycles();
        catalog
    }

    fn resolve(&mut self, unit: &Unit, ids: &BTreeMap<String, UnitId>) -> Spec {
        let missing = unit.requires.iter().find(|name| !ids.contains_key(*name));
        let defect =
            missing.map(|name| Failure::new(Stage::Dependency, format!("requires {name}, which does not exist")));
        for name in unit.after.iter().filter(|name| !ids.contains_key(*name)) {
            self.warnings.push(format!("unit {}: comes after {name}, which does not exist; ignored", unit.name));
        }
        let known = |names: &[String]| names.iter().filter_map(|name| ids.get(name).copied()).collect();
        Spec {
            name: unit.name.clone(),
            requires: known(&unit.requires),
            after: known(&unit.after),
            ready: unit.ready,
            restart: unit.restart,
            start_timeout: unit.start_timeout,
            stop_timeout: unit.stop_timeout,
            defect,
        }
    }

    /// Every unit on a cycle gets the cycle as its defect, and loses its dependencies so that the rest has an order.
    fn cut_cycles(&mut self) {
        let edges = |spec: &Spec| spec.requires.iter().chain(&spec.after).map(|id| id.0).collect();
        let mut edges: Vec<Vec<usize>> = self.specs.iter().map(edges).collect();
        for cycle in graph::cut_cycles(&mut edges) {
            let names = cycle.iter().chain(cycle.first()).map(|at| self.specs[*at].name.as_str());
            let path = names.collect::<Vec<_>>().join(" -> ");
            for at in cycle {
                let spec = &mut self.specs[at];
                spec.requires.clear();
                spec.after.clear();
                spec.defect = Some(Failure::new(Stage::Dependency, format!("dependency cycle: {path}")));
            }
        }
    }
}

fn broken(name: &str, defect: Failure) -> Spec {
    Spec {
        name: name.into(),
        requires: Vec::new(),
        after: Vec::new(),
        ready: ReadyWhen::Started,
        restart: Restart::Never,
        start_timeout: Default::default(),
        stop_timeout: Default::default(),
        defect: Some(defect),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::unit::parse;

    fn catalog(units: &[(&str, &str)]) -> Catalog {
        let parse = |(name, text): &(&str, &str)| {
            (name.to_string(), parse(name, Path::new(name), &format!("command = [\"/bin/true\"]\n{text}")))
        };
        Catalog::new(Loaded { units: units.iter().map(parse).collect(), problems: Vec::new() })
    }

    fn defect(catalog: &Catalog, at: usize) -> String {
        catalog.specs[at].defect.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn a_cycle_is_named_and_spares_the_others() {
        let catalog =
            catalog(&[("a", "requires = [\"b\"]"), ("b", "after = [\"a\"]"), ("c", "requires = [\"a\"]"), ("d", "")]);
        assert_eq!(defect(&catalog, 0), "dependency: dependency cycle: a -> b -> a");
        assert_eq!(defect(&catalog, 1), "dependency: dependency cycle: a -> b -> a");
        assert_eq!((defect(&catalog, 2), defect(&catalog, 3)), (String::new(), String::new()));
        assert_eq!(catalog.specs[2].requires, [UnitId(0)]);
    }

    #[test]
    fn an_unknown_requirement_is_named_and_an_unknown_order_is_a_warning() {
        let catalog = catalog(&[("a", "requires = [\"ghost\"]"), ("b", "after = [\"ghost\"]")]);
        assert_eq!(defect(&catalog, 0), "dependency: requires ghost, which does not exist");
        assert_eq!(defect(&catalog, 1), "");
        assert_eq!(catalog.warnings, ["unit b: comes after ghost, which does not exist; ignored"]);
    }

    #[test]
    fn a_broken_file_is_a_defect_of_its_unit_alone() {
        let catalog = catalog(&[("a", "x = 1"), ("b", "after = [\"a\"]")]);
        assert!(defect(&catalog, 0).starts_with("unit file: a:2: unknown field `x`"));
        assert!(catalog.entries[0].unit.is_none());
        assert_eq!(defect(&catalog, 1), "");
    }
}
