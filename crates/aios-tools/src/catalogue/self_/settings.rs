//! The configuration of this device, in its layers.

use aios_core::{
    config::{self, Config},
    paths,
};

use crate::{access::Access, host::Host};

/// What reading the configuration takes.
pub fn visible(access: Access) -> Access {
    access.sees(paths::IMAGE_CONFIG).sees(paths::DEVICE_CONFIG)
}

/// The configuration in force, and what is wrong with the files that are left out of it: as PID 1 reads them at boot, a file
/// that is wrong is left out, and those after it.
pub fn in_force(host: &Host) -> (Config, Vec<String>) {
    let files: Vec<_> = config::system_layers().iter().map(|path| host.path(path)).collect();
    let mut problems = Vec::new();
    for kept in (0..=files.len()).rev() {
        match config::load(&files[..kept]) {
            Ok(config) => return (config, problems),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (Config::default(), problems)
}

/// The value of `key`, for example `runtime.http.listen`, with its sections below it if it is one.
pub fn value(config: &Config, key: &str) -> Option<serde_json::Value> {
    let all = serde_json::to_value(config).expect("invariant: a configuration is JSON");
    all.pointer(&format!("/{}", key.replace('.', "/"))).cloned()
}
