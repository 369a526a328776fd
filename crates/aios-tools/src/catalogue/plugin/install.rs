//! `plugin.install`

use std::{io, time::Duration};

use aios_core::paths;
use aios_plugins::{name::Name, package::Package};
use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{installed, package};
use crate::{
    access::Access,
    args::AbsolutePath,
    beneath::{Tree, open_beneath},
    catalogue::fs::remove::remove,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

/// A package that is not complete yet, or that another one has replaced.
const DRAFT: &str = "package.new";
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

pub struct Install;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder or tar archive with plugin.toml, plugin.wasm and plugin.sig.
    from: AbsolutePath,
    /// Name of the plugin. One of this name that is there is replaced, and its data stays.
    name: Name,
    /// What plugin.verify calls its digest: 64 hexadecimal digits.
    digest: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Version that is installed now.
    version: String,
    /// Version that was there before; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// Names of its tools.
    tools: Vec<String>,
    /// Name of the key that vouches for it; absent where nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
}

impl Tool for Install {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.install",
        description: "Installs or replaces a plugin that plugin.verify has shown: exactly the one with that digest. It must be signed \
                      by a key that this device trusts. Runs none of its code.",
        examples: &[Example {
            goal: "install the plugin pump-stats",
            arguments: r#"{"from": "/srv/pump-stats.tar", "name": "pump-stats", "digest": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"}"#,
        }],
        needs: &["plugin:install:{name}", "fs:read:{from}"],
        risk: Risk::High,
        reversible: true,
        timeout: Duration::from_secs(60),
        sinks: &["/from", "/name", "/digest"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let mut access = Access::needs(format!("plugin:install:{}", input.name)).reads(&input.from);
        // Made by the first plugin: until then, the folder around it is shown.
        access.write.push(paths::PLUGINS.into());
        installed::with_trust(access)
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let none = !host.path(paths::PLUGINS).exists();
        let folder = installed::folder(&input.name);
        let first = folder.parent().expect("invariant: a plugin's folder lies in one");
        Ok(Inverse::Paths { paths: vec![if none { first } else { folder }] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let new = package::read(host, &input.from)?;
        if new.manifest().name != input.name {
            let text = format!("the plugin calls itself {}, and not {}", new.manifest().name, input.name);
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        if new.digest() != input.digest {
            let text = format!(
                "the digest of the plugin is {}: it is not the one that was looked at; look at it with plugin.verify",
                new.digest()
            );
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        let signed_by = installed::trusted(host, &new)?;
        package::check_module(&new)?;
        let before = installed::load(host, &input.name).ok().map(|old| old.manifest().version.clone());
        place(host, &input.name, &new)?;
        let (_, version, tools) = package::names(&new);
        Ok(Output { version, before, tools, signed_by })
    }
}

/// Puts `package` in its place in one step: before it the old one is there, after it the new one, and nothing between.
fn place(host: &Host, name: &Name, package: &Package) -> Result<(), ToolError> {
    let path = installed::folder(name);
    let failed = |error: Errno| ToolError::io(path.as_path(), &io::Error::from(error));
    for folder in [path.parent().expect("invariant: a plugin's folder lies in one"), path.clone()] {
        let place = Tree::of(host)?.place(&folder)?;
        made(rustix::fs::mkdirat(&place.folder, place.name.as_str(), FOLDER_MODE)).map_err(failed)?;
    }
    let folder = Tree::of(host)?.folder(&path)?;
    made(rustix::fs::mkdirat(&folder, installed::DATA, FOLDER_MODE)).map_err(failed)?;
    clear(&folder).map_err(failed)?;
    rustix::fs::mkdirat(&folder, DRAFT, FOLDER_MODE).map_err(failed)?;
    let draft = open_beneath(&folder, DRAFT, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    package.write(&draft).map_err(|error| installed::broken(&error))?;
    rustix::fs::fsync(&draft).map_err(failed)?;
    let there = rustix::fs::statat(&folder, installed::PACKAGE, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let how = if there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    rustix::fs::renameat_with(&folder, DRAFT, &folder, installed::PACKAGE, how).map_err(failed)?;
    clear(&folder).and_then(|()| rustix::fs::fsync(&folder)).map_err(failed)
}

/// Removes what an interrupted installation has left, or the package that was replaced.
fn clear(folder: &std::os::fd::OwnedFd) -> Result<(), Errno> {
    let name = std::ffi::CString::new(DRAFT).expect("invariant: it has no zero byte");
    match remove(folder, &name) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// It is right where the folder was there already.
fn made(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}
