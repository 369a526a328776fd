//! `pkg.list`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sbom;
use crate::{
    access::Access,
    args::Count,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only packages whose name holds this text.
    #[serde(default)]
    contains: String,
    /// Where to go on, as `next_offset` of the last call said.
    #[serde(default)]
    offset: usize,
    /// Most to list, 1 to 500.
    #[serde(default)]
    limit: Count<1, 500, 100>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Name of the system.
    system: String,
    /// Its version.
    version: String,
    /// Whether the image carries the list of its packages (its SBOM); without it, `packages` is empty and says nothing.
    sbom: bool,
    /// Packages, by name.
    packages: Vec<Package>,
    /// How many fit.
    total: usize,
    /// Where to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Package {
    name: String,
    version: String,
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.list",
        description: "Lists name and version of this system, and the packages of the image where the image carries its SBOM.",
        examples: &[
            Example { goal: "which version of the system is this", arguments: r#"{"limit": 1}"# },
            Example { goal: "which version of busybox is installed", arguments: r#"{"contains": "busybox"}"# },
        ],
        needs: &["pkg:read:packages"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("pkg:read:packages").sees(sbom::SBOM).sees(sbom::OS_RELEASE)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let (system, version) = sbom::system(host)?;
        let found = sbom::read(host)?;
        let sbom = found.is_some();
        let components = found.map(|sbom| sbom.components).unwrap_or_default();
        let fitting = components.iter().filter(|component| component.name.contains(&input.contains));
        let package = |component: &sbom::Component| Package {
            name: plain(&component.name, 100),
            version: plain(&component.version, 100),
        };
        let mut packages: Vec<Package> = fitting.map(package).collect();
        packages.sort();
        let total = packages.len();
        let packages: Vec<Package> = packages.into_iter().skip(input.offset).take(input.limit.index()).collect();
        let next = input.offset.saturating_add(packages.len());
        Ok(Output { system, version, sbom, packages, total, next_offset: (next < total).then_some(next) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{catalogue::pkg::show::Show, error::Code, testing::call};

    fn system(sbom: Option<&str>) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir_all(host.path("/usr/share/aios")).expect("folder");
        fs::create_dir_all(host.path("/usr/lib")).expect("folder");
        fs::write(host.path(sbom::OS_RELEASE), "NAME=\"aiOS\"\nVERSION_ID=0.1.0\n").expect("write");
        if let Some(sbom) = sbom {
            fs::write(host.path(sbom::SBOM), sbom).expect("write");
        }
        (folder, host)
    }

    const SBOM: &str = r#"{"bomFormat": "CycloneDX", "components": [
        {"name": "serde", "version": "1.0", "purl": "pkg:cargo/serde@1.0", "licenses": [{"expression": "MIT OR Apache-2.0"}]},
        {"name": "busybox", "version": "1.37", "licenses": [{"license": {"id": "GPL-2.0-only"}}]},
        {"name": "serde", "version": "2.0"}, {"name": "serde_json", "version": "1.0"}]}"#;

    #[test]
    fn packages_are_listed_piece_by_piece() {
        let (_folder, host) = system(Some(SBOM));
        let first = call::<List>(&host, json!({"limit": 3})).expect("list");
        assert_eq!(
            (&first["system"], &first["version"], &first["sbom"]),
            (&json!("aiOS"), &json!("0.1.0"), &json!(true))
        );
        assert_eq!(
            (&first["packages"][0]["name"], &first["total"], &first["next_offset"]),
            (&json!("busybox"), &json!(4), &json!(3))
        );
        let rest = call::<List>(&host, json!({"offset": 3})).expect("list");
        assert_eq!(rest["packages"], json!([{"name": "serde_json", "version": "1.0"}]));
        assert_eq!(rest.get("next_offset"), None);
        let shown = call::<Show>(&host, json!({"name": "serde"})).expect("show");
        assert_eq!(shown["versions"][0]["licence"], "MIT OR Apache-2.0");
        assert_eq!(shown["versions"].as_array().map(Vec::len), Some(2));
        let missing = call::<Show>(&host, json!({"name": "openssl"})).map_err(|error| error.code);
        assert_eq!(missing, Err(Code::NotFound));
    }

    #[test]
    fn an_image_without_a_list_says_so_and_a_damaged_list_is_an_error() {
        let (_folder, host) = system(None);
        let answer = call::<List>(&host, json!({})).expect("list");
        assert_eq!((&answer["sbom"], &answer["packages"]), (&json!(false), &json!([])));
        let shown = call::<Show>(&host, json!({"name": "busybox"})).map_err(|error| error.code);
        assert_eq!(shown, Err(Code::NotInstalled));
        let (_folder, host) = system(Some("{"));
        assert_eq!(call::<List>(&host, json!({})).map_err(|error| error.code), Err(Code::Failed));
    }
}
