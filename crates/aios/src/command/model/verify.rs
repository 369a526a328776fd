//! `aios model verify`

use std::{fs::File, path::Path, process::ExitCode};

use aios_models::{
    gguf::Gguf,
    manifest::{EMBEDDING_PARTS, MODEL_FILE, Manifest},
    store::{Installed, StoreError, write_manifest},
    trust::{self, Origin, TrustError},
};
use anyhow::{Result, bail};
use serde_json::json;

use super::{
    add::{self, Facts},
    local::Local,
};

/// Reads every model's file, or one model's.
pub fn run(local: &Local, id: Option<&str>, json: bool) -> Result<ExitCode> {
    let models = match id {
        Some(id) => vec![local.store.find(id)?],
        None => local.store.models(),
    };
    let mut failed = false;
    for Installed { id, folder, .. } in models {
        let result = local.trust.check_in_full(&folder);
        failed |= result.is_err();
        let verdict = match &result {
            Ok(trusted) => match trusted.origin {
                Origin::Factory => "factory",
                Origin::Signed => "signed",
                Origin::Unsigned => "unsigned",
            },
            Err(TrustError::Unsigned { .. }) => "unsigned",
            Err(_) => "refused",
        };
        let reason = result.as_ref().err().map(ToString::to_string);
        if json {
            println!("{}", json!({"id": id, "ok": result.is_ok(), "result": verdict, "reason": reason}));
        } else {
            println!("{id}: {verdict}{}", reason.map(|reason| format!(": {reason}")).unwrap_or_default());
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Signs a model as it is now.
pub fn sign(local: &Local, id: &str, json: bool) -> Result<()> {
    let installed = local.store.find(id)?;
    if installed.factory {
        bail!("model '{id}' came with the image, which vouches for it: there is nothing to sign");
    }
    let manifest = match installed.file {
        MODEL_FILE => language(&installed)?,
        _ => embedding(&installed)?,
    };
    write_manifest(&installed.folder, &manifest, &local.signing()?)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&manifest)?),
        false => println!("{id}: signed, sha256 {}", manifest.sha256),
    }
    Ok(())
}

fn language(installed: &Installed) -> Result<Manifest> {
    let gguf = Gguf::open(&installed.folder.join(MODEL_FILE))?;
    Ok(add::manifest(&installed.id, &gguf, facts(installed, hash(gguf.path())?)))
}

/// The manifest of an embedding model, with all files that the runtime reads.
fn embedding(installed: &Installed) -> Result<Manifest> {
    let present = EMBEDDING_PARTS.iter().filter(|name| installed.folder.join(name).exists());
    let also = present.map(|name| Ok(format!("{name} {}", hash(&installed.folder.join(name))?)));
    let also = also.collect::<Result<Vec<String>, StoreError>>()?;
    let Facts { sha256, source, revision, licence } = facts(installed, hash(&installed.folder.join(installed.file))?);
    Ok(Manifest {
        id: installed.id.clone(),
        file: installed.file.to_owned(),
        sha256,
        size: installed.size,
        licence: licence.unwrap_or_else(|| "unknown".to_owned()),
        source,
        revision,
        context: installed.manifest.as_ref().and_then(|manifest| manifest.context),
        also,
    })
}

/// Where the file is still the one of its manifest, what is known about it stays.
fn facts(installed: &Installed, sha256: String) -> Facts {
    match installed.manifest.clone().filter(|manifest| manifest.sha256 == sha256) {
        Some(known) => Facts { sha256, source: known.source, revision: known.revision, licence: Some(known.licence) },
        None => Facts { sha256, source: "local".to_owned(), revision: None, licence: None },
    }
}

fn hash(path: &Path) -> Result<String, StoreError> {
    let read = || trust::hash(&mut File::open(path)?);
    read().map_err(|error| StoreError::io(path, error))
}
