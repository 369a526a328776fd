//! `aios model convert`

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use aios_models::{
    convert::{ConvertError, Plan},
    formats,
    gguf::Gguf,
    manifest::{MODEL_FILE, Manifest},
    store::StoreError,
    trust,
};
use anyhow::{Result, bail};
use candle_core::quantized::GgmlDType;

use super::{
    add::{self, Facts},
    local::Local,
};
use crate::cli::ConvertArgs;

pub fn run(args: &ConvertArgs, json: bool) -> Result<()> {
    let local = Local::open(&args.device)?;
    let Some(format) = formats::target(&args.format) else {
        let known: Vec<&str> = formats::TARGETS.into_iter().map(formats::name).collect();
        bail!("--format {}: models are converted to {}", args.format, known.join(", "));
    };
    let (gguf, origin, known) = source(&local, &args.model)?;
    let plan = Plan::new(&gguf, format);
    let staging = local.store.stage(&args.id)?;
    let target = staging.file();
    let written = local.store.check_room(plan.size(), local.config.models.reserve.0).map_err(anyhow::Error::from);
    let sha256 = match written.and_then(|()| write(&plan, &target)) {
        Ok(sha256) => sha256,
        Err(error) => {
            staging.discard();
            return Err(error);
        }
    };
    note_exceptions(&plan, format);
    let (revision, licence) = known.map_or((None, None), |known| (known.revision, Some(known.licence)));
    let facts = Facts { sha256, source: format!("convert:{origin}"), revision, licence };
    add::finish(&local, staging, &args.id, facts, json)
}

/// A model by its id, or a file by its path.
fn source(local: &Local, model: &str) -> Result<(Gguf, String, Option<Manifest>)> {
    if model.ends_with(".safetensors") {
        bail!(
            "{model}: only GGUF files can be converted; make one of safetensors with llama.cpp's convert_hf_to_gguf.py"
        );
    }
    if model.contains('/') || model.ends_with(".gguf") {
        let path = Path::new(model);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(model).to_owned();
        return Ok((Gguf::open(path)?, name, None));
    }
    let installed = local.store.find(model)?;
    if installed.file != MODEL_FILE {
        bail!("{model}: is an embedding model; only GGUF files can be converted");
    }
    // A damaged model would be signed again under another name.
    let trusted = local.trust.check_in_full(&installed.folder)?;
    Ok((Gguf::open(&installed.folder.join(MODEL_FILE))?, model.to_owned(), trusted.manifest))
}

/// Writes the file, and reads it back for its hash.
fn write(plan: &Plan<'_>, path: &Path) -> Result<String> {
    let disk = |error| StoreError::io(path, error);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(disk)?);
    plan.write(&mut out).map_err(|error| match error {
        ConvertError::Target(error) => disk(error).into(),
        error => anyhow::Error::from(error),
    })?;
    out.into_inner().map_err(|error| disk(error.into_error()))?.flush().map_err(disk)?;
    Ok(trust::hash(&mut File::open(path).map_err(disk)?).map_err(disk)?)
}

fn note_exceptions(plan: &Plan<'_>, format: GgmlDType) {
    let exceptions = plan.exceptions(format);
    if exceptions > 0 {
        eprintln!(
            "note: {exceptions} matrices have rows that are no multiple of {}, and are in Q8_0 or as they were",
            format.block_size()
        );
    }
}
