//! What the image is made of: its bill of materials (CycloneDX), and its name.

use serde::Deserialize;

use crate::{
    error::{Code, ToolError},
    host::Host,
    text::plain,
};

/// Where an image keeps its bill of materials, where it was built with one inside.
pub const SBOM: &str = "/usr/share/aios/sbom.cdx.json";

/// Name and version of the system (os-release(5)).
pub const OS_RELEASE: &str = "/usr/lib/os-release";

/// Longest text of a field, in characters.
const TEXT_MAX: usize = 200;

/// A bill of materials, as far as these tools read it.
#[derive(Deserialize)]
pub struct Sbom {
    /// Packages and crates.
    #[serde(default)]
    pub components: Vec<Component>,
}

/// A package.
#[derive(Deserialize)]
pub struct Component {
    /// Name.
    pub name: String,
    /// Version.
    #[serde(default)]
    pub version: String,
    /// Package URL: what it is in the world.
    #[serde(default)]
    pub purl: Option<String>,
    #[serde(default)]
    licenses: Vec<serde_json::Value>,
}

impl Component {
    /// Its licences, as one expression.
    pub fn licence(&self) -> Option<String> {
        let one = |entry: &serde_json::Value| {
            let text = entry["expression"]
                .as_str()
                .or(entry["license"]["id"].as_str())
                .or(entry["license"]["name"].as_str())?;
            Some(plain(text, TEXT_MAX))
        };
        let licences: Vec<String> = self.licenses.iter().filter_map(one).collect();
        (!licences.is_empty()).then(|| licences.join(" AND "))
    }
}

/// The image's bill of materials; `None` where it has none.
pub fn read(host: &Host) -> Result<Option<Sbom>, ToolError> {
    match host.text(SBOM) {
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| ToolError::new(Code::Failed, format!("{SBOM} is no bill of materials: {error}"))),
    }
}

/// Name and version of the system.
pub fn system(host: &Host) -> Result<(String, String), ToolError> {
    let text = host.text(OS_RELEASE)?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        plain(value.unwrap_or_default().trim_matches('"'), TEXT_MAX)
    };
    Ok((field("NAME"), field("VERSION_ID")))
}
