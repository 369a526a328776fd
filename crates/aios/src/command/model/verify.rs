//! `aios model verify`

use std::{fs::File, process::ExitCode};

use aios_models::{
    gguf::Gguf,
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
    let gguf = Gguf::open(&installed.folder.join(aios_models::manifest::MODEL_FILE))?;
    let mut file = File::open(gguf.path()).map_err(|error| StoreError::io(gguf.path(), error))?;
    let sha256 = trust::hash(&mut file).map_err(|error| StoreError::io(gguf.path(), error))?;
    // Where the file is still the one of its manifest, what is known about it stays.
    let known = installed.manifest.filter(|manifest| manifest.sha256 == sha256);
    let facts = match known {
        Some(known) => Facts { sha256, source: known.source, revision: known.revision, licence: Some(known.licence) },
        None => Facts { sha256, source: "local".to_owned(), revision: None, licence: None },
    };
    let manifest = add::manifest(id, &gguf, facts);
    write_manifest(&installed.folder, &manifest, &local.signing()?)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&manifest)?),
        false => println!("{id}: signed, sha256 {}", manifest.sha256),
    }
    Ok(())
}
