//! Plugins on this device, and whether they are trusted.
//!
//! Below `/var/lib/aios/plugins/<name>`, `package` holds the plugin's files, which change only as a whole, and `data` is
//! the folder that it may keep things in.

use aios_core::paths;
use aios_plugins::{
    name::Name,
    package::{Package, PackageError},
    trust::{Trust, TrustError},
};
use rustix::fs::OFlags;

use crate::{
    access::Access,
    args::AbsolutePath,
    beneath::Tree,
    catalogue::self_::settings,
    error::{Code, ToolError},
    host::Host,
};

/// The plugin's files, in its folder.
pub const PACKAGE: &str = "package";
/// The plugin's own folder, in its folder.
pub const DATA: &str = "data";

/// What reading all plugins, and finding out whether they are trusted, takes.
pub fn visible(access: Access) -> Access {
    with_trust(access).sees(paths::PLUGINS)
}

/// What finding out whether a plugin is trusted takes.
pub fn with_trust(access: Access) -> Access {
    paths::PLUGIN_KEYS.iter().fold(settings::visible(access), Access::sees)
}

/// The folder of the plugin `name`.
pub fn folder(name: &Name) -> AbsolutePath {
    AbsolutePath::new(format!("{}/{name}", paths::PLUGINS)).expect("invariant: a name is a part of a path")
}

/// A folder of the plugin `name`.
pub fn part(name: &Name, part: &str) -> AbsolutePath {
    AbsolutePath::new(format!("{}/{name}/{part}", paths::PLUGINS)).expect("invariant: names are parts of a path")
}

/// Names of all plugins, sorted.
pub fn names(host: &Host) -> Vec<Name> {
    host.names(paths::PLUGINS).into_iter().filter_map(|name| Name::try_from(name).ok()).collect()
}

/// The plugin `name`, trusted or not.
pub fn load(host: &Host, name: &Name) -> Result<Package, ToolError> {
    let Some(folder) = Tree::of(host)?.find(&part(name, PACKAGE), OFlags::RDONLY | OFlags::DIRECTORY)? else {
        return Err(missing(name));
    };
    let package = Package::read(folder).map_err(|error| broken(&error))?;
    if package.manifest().name != *name {
        let text = format!("the plugin in the folder {name} calls itself {}", package.manifest().name);
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    Ok(package)
}

/// There is no plugin `name`.
pub fn missing(name: &Name) -> ToolError {
    ToolError::new(
        Code::NotFound,
        format!("there is no plugin {name} on this device; plugin.list names those that are"),
    )
}

/// Name of the key that vouches for `package`; `None` where none has to. An error where it is not trusted.
pub fn trusted(host: &Host, package: &Package) -> Result<Option<String>, ToolError> {
    let require_signature = settings::in_force(host).0.plugins.require_signature;
    let folders = paths::PLUGIN_KEYS.map(|folder| host.path(folder));
    let trust = Trust::open(&folders, require_signature).and_then(|trust| trust.check(package));
    trust.map_err(|error| {
        let code = match &error {
            TrustError::Unsigned(_) | TrustError::Stranger(_) | TrustError::Changed { .. } => Code::PermissionDenied,
            TrustError::Read { .. } | TrustError::Key { .. } => Code::FailedPrecondition,
        };
        ToolError::new(code, error.to_string())
    })
}

/// The files are no plugin.
pub fn broken(error: &PackageError) -> ToolError {
    let code = match error {
        PackageError::Missing(_) => Code::NotFound,
        PackageError::TooLarge { .. } => Code::TooLarge,
        PackageError::Io { source, file } => return ToolError::of_io(file, source),
        PackageError::Text(_) | PackageError::Archive(_) | PackageError::Manifest(_) => Code::InvalidArgument,
    };
    ToolError::new(code, error.to_string())
}
