//! What the commands know of this device: its configuration, its directories of models, its key.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use aios_core::{
    config::{self, Config},
    paths,
};
use aios_models::{keys::Signing, store::Store, trust::Trust};
use anyhow::{Context as _, Result, bail};

use crate::{
    cli::DeviceArgs,
    hub::{Hub, cached},
};

/// This device, as far as models go.
pub struct Local {
    pub config: Config,
    pub store: Store,
    pub trust: Trust,
}

impl Local {
    /// Reads the configuration.
    pub fn open(args: &DeviceArgs) -> Result<Local> {
        let files = if args.config.is_empty() { config::system_layers() } else { args.config.clone() };
        let config = config::load(&files).context("configuration")?;
        let factory = vec![PathBuf::from(paths::FACTORY_MODELS)];
        let store = Store {
            directory: config.models.directory.clone(),
            dirs: config.runtime.model_dirs.clone(),
            factory: factory.clone(),
        };
        let trust = Trust {
            keys: config.models.keys.clone(),
            require_signature: config.models.require_signature,
            factory,
            memory: None,
        };
        Ok(Local { config, store, trust })
    }

    /// The key that signs manifests; made at its first use.
    pub fn signing(&self) -> Result<Signing> {
        Signing::open_or_make(&self.config.models.keys).context("the key that signs models (models.keys)")
    }

    /// The hub that is configured, or the one that the environment names.
    pub fn hub(&self, retries: u32) -> Result<Hub> {
        let endpoint = match env::var("HF_ENDPOINT") {
            Ok(endpoint) if !endpoint.is_empty() => endpoint,
            _ => self.config.models.hub_endpoint.clone(),
        };
        Ok(Hub::new(&endpoint, self.token()?, retries))
    }

    fn token(&self) -> Result<Option<String>> {
        if let Some(token) = env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
            return Ok(Some(token.trim().to_owned()));
        }
        let Some(file) = &self.config.models.hub_token_file else { return Ok(cached::login_token()) };
        // An absolute path stays as it is.
        let path = PathBuf::from(paths::SECRETS).join(file);
        let name = || format!("{} (models.hub-token-file)", path.display());
        let mode = fs::metadata(&path).with_context(name)?.mode();
        if mode & 0o077 != 0 {
            bail!("{}: others can read the token (mode {:o}): chmod 600 it", name(), mode & 0o777);
        }
        let token = fs::read_to_string(&path).with_context(name)?.trim().to_owned();
        if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("{}: holds no token", name());
        }
        Ok(Some(token))
    }
}
