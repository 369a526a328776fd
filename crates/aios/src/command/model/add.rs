//! What all ways to add a model have in common, and `aios model import`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use aios_models::{
    formats,
    gguf::Gguf,
    manifest::{MODEL_FILE, Manifest, is_sha256},
    store::{Staging, StoreError, size_text},
    trust,
};
use anyhow::{Context as _, Result, bail};

use super::local::Local;
use crate::cli::ImportArgs;

/// What is known about a model that is added, besides its file.
pub struct Facts {
    pub sha256: String,
    pub source: String,
    pub revision: Option<String>,
    pub licence: Option<String>,
}

/// `aios model import`
pub fn import(args: &ImportArgs, json: bool) -> Result<()> {
    let local = Local::open(&args.device)?;
    let expected = expected_hash(args.sha256.as_deref())?;
    let name = args.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let id = args.id.clone().unwrap_or_else(|| id_of(name));
    // A file that is no model is said before it is copied.
    let gguf = Gguf::open(&args.file).map_err(|error| anyhow::anyhow!("{error}"))?;
    let size = gguf.size();
    drop(gguf);
    let staging = local.store.stage(&id)?;
    if let Err(error) = local.store.check_room(size, local.config.models.reserve.0) {
        staging.discard();
        return Err(error.into());
    }
    let sha256 = match copy(&args.file, &staging.file()) {
        Ok(sha256) => sha256,
        Err(error) => {
            staging.discard();
            return Err(error);
        }
    };
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        staging.discard();
        bail!("{}: expected sha256 {expected}, found {sha256}; nothing of it was kept", args.file.display());
    }
    let facts = Facts { sha256, source: format!("file:{name}"), revision: None, licence: args.licence.clone() };
    finish(&local, staging, &id, facts, json)
}

/// Copies a file, and returns the SHA-256 of what was written.
pub fn copy(from: &Path, to: &PathBuf) -> Result<String> {
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    let mut target = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)
        .map_err(|error| StoreError::io(to, error))?;
    io::copy(&mut source, &mut target).map_err(|error| StoreError::io(to, error))?;
    // What was written is hashed, not what was meant.
    let mut written = File::open(to).map_err(|error| StoreError::io(to, error))?;
    Ok(trust::hash(&mut written).map_err(|error| StoreError::io(to, error))?)
}

/// Checks the file of a staged model, signs it and puts it in its place.
pub fn finish(local: &Local, staging: Staging, id: &str, facts: Facts, json: bool) -> Result<()> {
    let gguf = match Gguf::open(&staging.file()) {
        Ok(gguf) => gguf,
        Err(error) => {
            staging.discard();
            bail!("{} {}; nothing of it was kept", facts.source, error.reason);
        }
    };
    let signing = match local.signing() {
        Ok(signing) => signing,
        Err(error) => {
            staging.discard();
            return Err(error);
        }
    };
    let manifest = manifest(id, &gguf, facts);
    let advice = formats::advice(&gguf);
    let folder = staging.install(&manifest, &signing)?;
    report(&manifest, &folder, &advice, json)
}

/// The manifest of a file: what is given, and what the file itself says.
pub fn manifest(id: &str, gguf: &Gguf, facts: Facts) -> Manifest {
    let Facts { sha256, source, revision, licence } = facts;
    let text = |key: &str| gguf.string(key).ok().flatten().map(str::to_owned);
    let architecture = text("general.architecture").unwrap_or_default();
    let context = gguf.count(&format!("{architecture}.context_length")).ok().flatten();
    Manifest {
        id: id.to_owned(),
        file: MODEL_FILE.to_owned(),
        sha256,
        size: gguf.size(),
        licence: licence.or_else(|| text("general.license")).unwrap_or_else(|| "unknown".to_owned()),
        source,
        revision,
        context: context.map(|context| context as u64),
        also: Vec::new(),
    }
}

fn report(manifest: &Manifest, folder: &Path, advice: &[String], json: bool) -> Result<()> {
    if json {
        let mut object = serde_json::to_value(manifest)?;
        object["folder"] = folder.display().to_string().into();
        object["advice"] = advice.into();
        println!("{}", serde_json::to_string_pretty(&object)?);
        return Ok(());
    }
    println!("{}: {}, sha256 {}, in {}", manifest.id, size_text(manifest.size), manifest.sha256, folder.display());
    for sentence in advice {
        println!("note: {sentence}");
    }
    println!("try it: aios model load {}", manifest.id);
    Ok(())
}

/// The id for a file of that name.
pub fn id_of(file: &str) -> String {
    let stem = file.rsplit('/').next().unwrap_or(file);
    let stem = stem.strip_suffix(".gguf").unwrap_or(stem).to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    stem.trim_start_matches('.').chars().map(plain).collect()
}

/// The hash that a person gave, as manifests have it.
pub fn expected_hash(given: Option<&str>) -> Result<Option<String>> {
    let Some(given) = given else { return Ok(None) };
    let hash = given.trim().to_ascii_lowercase();
    if !is_sha256(&hash) {
        bail!("--sha256 {given}: a SHA-256 has 64 hexadecimal digits");
    }
    Ok(Some(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_the_files_name() {
        assert_eq!(id_of("sub/SmolLM2 135M.Q4_1.gguf"), "smollm2-135m.q4_1");
        assert_eq!(id_of(".hidden"), "hidden");
        assert!(expected_hash(Some("abc")).is_err());
        assert_eq!(expected_hash(Some(&"AB".repeat(32))).unwrap(), Some("ab".repeat(32)));
    }
}
