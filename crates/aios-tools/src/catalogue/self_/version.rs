//! `self.version`

use rustix::system::uname;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

/// What the image says about itself.
const OS_RELEASE: &str = "/usr/lib/os-release";
/// Longest value that is shown, in characters.
const VALUE_MAX: usize = 128;

pub struct Version;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Version of these tools.
    version: &'static str,
    /// Name of the image, from its os-release.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// Version of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_version: Option<String>,
    /// Build of the image, where it has a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    /// Release of the kernel.
    kernel: String,
    /// Kind of processor.
    architecture: String,
}

impl Tool for Version {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.version",
        description: "Shows the versions of aiOS, of the image and of the kernel.",
        examples: &[Example { goal: "which version runs here", arguments: "{}" }],
        needs: &["self:read:version"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:read:version").sees(OS_RELEASE)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let release = host.text(OS_RELEASE).unwrap_or_default();
        let kernel = uname();
        Ok(Output {
            version: env!("CARGO_PKG_VERSION"),
            image: value(&release, "NAME"),
            image_version: value(&release, "VERSION_ID"),
            build: value(&release, "BUILD_ID"),
            kernel: kernel.release().to_string_lossy().into_owned(),
            architecture: kernel.machine().to_string_lossy().into_owned(),
        })
    }
}

/// A value of os-release(5): plain, or between quotation marks.
fn value(release: &str, key: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim();
    let inner = ['"', '\''].into_iter().find_map(|mark| value.strip_prefix(mark)?.strip_suffix(mark));
    Some(plain(inner.unwrap_or(value), VALUE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_and_without_marks() {
        let release = "PRETTY_NAME=x\nNAME=\"aiOS\"\nVERSION_ID=0.1.0\nBUILD_ID='a b'\nODD=\"\n";
        let read = |key| value(release, key);
        assert_eq!(read("NAME").as_deref(), Some("aiOS"));
        assert_eq!((read("VERSION_ID").as_deref(), read("BUILD_ID").as_deref()), (Some("0.1.0"), Some("a b")));
        assert_eq!((read("ODD").as_deref(), read("ID")), (Some("\""), None));
    }

    #[test]
    fn the_kernel_is_named_without_an_image() {
        let output = Version::run(Input {}, &Host::below("/nonexistent")).expect("version");
        assert!(!output.kernel.is_empty() && output.image.is_none());
    }
}
