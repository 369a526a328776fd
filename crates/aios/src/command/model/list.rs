//! `aios model list`: what is on this device, and what the runtime has of it.

use std::{collections::BTreeMap, path::Path};

use aios_api::runtime::v1::{ListModelsRequest, Model, ModelState};
use aios_models::{
    formats,
    gguf::Gguf,
    manifest::MODEL_FILE,
    store::{Installed, size_text},
};
use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{connect, local::Local};
use crate::service::{block_on, refused};

/// A model as far as it is known: on disk, to the runtime, or both.
struct Row {
    id: String,
    installed: Option<Installed>,
    known: Option<Model>,
    format: String,
    context: u64,
}

pub fn run(local: &Local, socket: &Path, json: bool) -> Result<()> {
    let known = block_on(async {
        match connect(socket).await {
            Ok(mut client) => {
                let answer = client.list_models(ListModelsRequest {}).await.map_err(refused)?;
                Ok(Some(answer.into_inner().models))
            }
            Err(error) => {
                eprintln!("note: {error:#}; what is in memory is not known");
                Ok(None)
            }
        }
    })?;
    let rows = rows(local.store.models(), known.unwrap_or_default());
    if json {
        let list: Vec<Value> = rows.iter().map(Row::object).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    if rows.is_empty() {
        bail!("no models in the model directories (see runtime.model-dirs in `aios config show`)");
    }
    let width = |column: fn(&Row) -> String, least: usize| {
        rows.iter().map(|row| column(row).len()).max().unwrap_or(0).max(least)
    };
    let (ids, formats, licences) =
        (width(|row| row.id.clone(), 5), width(|row| row.format.clone(), 6), width(Row::licence, 7));
    println!(
        "{:ids$}  {:9}  {:>10}  {:formats$}  {:>7}  {:licences$}  SOURCE",
        "MODEL", "STATE", "SIZE", "FORMAT", "CONTEXT", "LICENCE"
    );
    for row in &rows {
        let context = if row.context == 0 { "-".to_owned() } else { row.context.to_string() };
        let (size, licence) = (size_text(row.size()), row.licence());
        println!(
            "{:ids$}  {:9}  {size:>10}  {:formats$}  {context:>7}  {licence:licences$}  {}",
            row.id,
            row.state(),
            row.format,
            row.source()
        );
        if let Some(error) = row.known.as_ref().map(|model| &model.error).filter(|error| !error.is_empty()) {
            println!("{:ids$}  {error}", "");
        }
    }
    Ok(())
}

/// What the runtime says of a model that it was asked to load.
pub fn print_loaded(models: &[Model], json: bool) -> Result<()> {
    if json {
        let list: Vec<Value> = models.iter().map(|model| object(&model.id, model)).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for model in models {
        let (size, context) = (size_text(model.size_bytes), model.context_length);
        println!("{}: {}, {size}, a context of {context} tokens, in {:.0} ms", model.id, state(model), model.load_ms);
    }
    Ok(())
}

fn rows(installed: Vec<Installed>, known: Vec<Model>) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for model in installed {
        let (format, context) = headline(&model);
        rows.insert(
            model.id.clone(),
            Row { id: model.id.clone(), installed: Some(model), known: None, format, context },
        );
    }
    for model in known {
        let empty = || Row { id: model.id.clone(), installed: None, known: None, format: "-".to_owned(), context: 0 };
        let row = rows.entry(model.id.clone()).or_insert_with(empty);
        if model.context_length > 0 {
            row.context = u64::from(model.context_length);
        }
        row.known = Some(model);
    }
    rows.into_values().collect()
}

/// The format of most of a file, and the context that it was trained for.
fn headline(model: &Installed) -> (String, u64) {
    if model.file != MODEL_FILE {
        return ("embedding".to_owned(), model.manifest.as_ref().and_then(|manifest| manifest.context).unwrap_or(0));
    }
    let Ok(gguf) = Gguf::open(&model.folder.join(MODEL_FILE)) else { return ("damaged".to_owned(), 0) };
    let format = formats::shares(&gguf).first().map_or("-", |share| formats::name(share.dtype)).to_owned();
    let architecture = gguf.string("general.architecture").ok().flatten().unwrap_or_default();
    let context = gguf.count(&format!("{architecture}.context_length")).ok().flatten().unwrap_or(0);
    (format, context as u64)
}

impl Row {
    fn size(&self) -> u64 {
        let known = || self.known.as_ref().map(|model| model.size_bytes);
        self.installed.as_ref().map(|model| model.size).or_else(known).unwrap_or(0)
    }

    fn state(&self) -> &'static str {
        self.known.as_ref().map_or("-", state)
    }

    fn licence(&self) -> String {
        let manifest = self.installed.as_ref().and_then(|model| model.manifest.as_ref());
        manifest.map_or("-", |manifest| &manifest.licence).to_owned()
    }

    fn source(&self) -> String {
        let default = self.known.as_ref().is_some_and(|model| model.is_default);
        let source = match &self.installed {
            Some(Installed { factory: true, .. }) => "factory",
            Some(model) => model.manifest.as_ref().map_or("no manifest", |manifest| &manifest.source),
            None => "file is gone",
        };
        format!("{source}{}", if default { " (default)" } else { "" })
    }

    fn object(&self) -> Value {
        let mut row = object(&self.id, self.known.as_ref().unwrap_or(&Model::default()));
        row["state"] = self.known.as_ref().map(state).into();
        row["size_bytes"] = self.size().into();
        row["format"] = self.format.as_str().into();
        row["context_length"] = self.context.into();
        if let Some(model) = &self.installed {
            row["folder"] = model.folder.display().to_string().into();
            row["factory"] = model.factory.into();
            row["manifest"] = model.manifest.as_ref().and_then(|manifest| serde_json::to_value(manifest).ok()).into();
        }
        row
    }
}

fn state(model: &Model) -> &'static str {
    match model.state() {
        ModelState::Unspecified => "unknown",
        ModelState::Available => "available",
        ModelState::Loaded => "loaded",
        ModelState::Failed => "failed",
    }
}

fn object(id: &str, model: &Model) -> Value {
    json!({
        "id": id, "state": state(model), "default": model.is_default, "architecture": model.architecture,
        "parameters": model.parameters, "context_length": model.context_length, "size_bytes": model.size_bytes,
        "load_ms": model.load_ms, "error": model.error,
    })
}
