//! `pkg.show`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sbom;
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

/// Most versions of one package that are listed.
const VERSIONS_MAX: usize = 16;

pub struct Show;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the package, as pkg.list has it.
    name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Each version of it in the image.
    versions: Vec<Version>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Version {
    version: String,
    /// Its licence, as an SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    /// Package URL: where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

impl Tool for Show {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.show",
        description: "Shows version, licence and origin of a package of the image, where the image carries its SBOM.",
        examples: &[Example { goal: "under which licence is busybox", arguments: r#"{"name": "busybox"}"# }],
        needs: &["pkg:read:packages"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("pkg:read:packages").sees(sbom::SBOM)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let Some(sbom) = sbom::read(host)? else {
            let text = format!(
                "this image carries no list of its packages ({}); it lies beside the image where that was built",
                sbom::SBOM
            );
            return Err(ToolError::new(Code::NotInstalled, text));
        };
        let version = |component: &sbom::Component| Version {
            version: plain(&component.version, 100),
            licence: component.licence(),
            purl: component.purl.as_deref().map(|purl| plain(purl, 200)),
        };
        let named = sbom.components.iter().filter(|component| component.name == input.name);
        let versions: Vec<Version> = named.take(VERSIONS_MAX).map(version).collect();
        if versions.is_empty() {
            let text = format!(
                "the image has no package {:?}; pkg.list finds names by a part of them",
                plain(&input.name, 100)
            );
            return Err(ToolError::new(Code::NotFound, text));
        }
        Ok(Output { versions })
    }
}
