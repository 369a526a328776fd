//! `aios model show`: what is in a file, and what will compute it.

use aios_models::{
    formats::{self, Share},
    gguf::Gguf,
    manifest::MODEL_FILE,
    memory::Needs,
    store::{Installed, size_text},
};
use anyhow::Result;
use serde_json::{Value, json};

use super::local::Local;

pub fn run(local: &Local, id: &str, json: bool) -> Result<()> {
    let installed = local.store.find(id)?;
    if installed.file != MODEL_FILE {
        return show_embedding(&installed, json);
    }
    let gguf = Gguf::open(&installed.folder.join(MODEL_FILE))?;
    let text = |key: &str| gguf.string(key).ok().flatten();
    let architecture = text("general.architecture").unwrap_or("unknown");
    let count = |key: &str| gguf.count(&format!("{architecture}.{key}")).ok().flatten();
    let parameters: u64 = gguf.tensors().values().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
    let shares = formats::shares(&gguf);
    let path = |share: &Share| if formats::kernel(share.dtype).is_some() { "kernels" } else { "candle" };
    let advice = formats::advice(&gguf);
    let (needs, slots) = (Needs::of(&gguf, local.config.runtime.context), local.config.runtime.slots);
    if json {
        let shares: Vec<Value> = shares.iter().map(|share| {
            json!({"format": formats::name(share.dtype), "matrices": share.matrices, "bytes": share.bytes, "computed_by": path(share)})
        }).collect();
        let object = json!({
            "id": id, "name": text("general.name"), "folder": installed.folder.display().to_string(), "factory": installed.factory,
            "manifest": installed.manifest, "architecture": architecture, "parameters": parameters,
            "context_length": count("context_length"), "layers": count("block_count"), "formats": shares,
            "memory_bytes": {"weights": needs.weights, "context": needs.cache, "total": needs.total(slots)},
            "chat_template": text("tokenizer.chat_template").is_some(), "advice": advice,
        });
        println!("{}", serde_json::to_string_pretty(&object)?);
        return Ok(());
    }
    let line = |name: &str, value: &str| println!("{name:14}{value}");
    let number = |value: Option<usize>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    line("model", id);
    if let Some(name) = text("general.name") {
        line("name", name);
    }
    line("architecture", architecture);
    line("parameters", &format!("{:.1} million", parameters as f64 / 1e6));
    line("context", &format!("{} tokens", number(count("context_length"))));
    line("layers", &number(count("block_count")));
    for (place, share) in shares.iter().enumerate() {
        let name = if place == 0 { "formats" } else { "" };
        let matrices = format!(
            "{:6} {:4} matrices {:>10}  {}",
            formats::name(share.dtype),
            share.matrices,
            size_text(share.bytes),
            path(share)
        );
        line(name, &matrices);
    }
    line("chat template", if text("tokenizer.chat_template").is_some() { "yes" } else { "no" });
    let (weights, cache, total) = (size_text(needs.weights), size_text(needs.cache), size_text(needs.total(slots)));
    line("memory", &format!("{total} with {slots} slots: {weights} of weights, {cache} for each context"));
    match &installed.manifest {
        Some(manifest) => {
            line("licence", &manifest.licence);
            line("source", &manifest.source);
            line("revision", manifest.revision.as_deref().unwrap_or("-"));
            line("sha256", &manifest.sha256);
        }
        None => line("manifest", "none"),
    }
    line("file", &format!("{} ({})", gguf.path().display(), size_text(gguf.size())));
    for sentence in advice {
        println!("note: {sentence}");
    }
    Ok(())
}

/// A model that makes embeddings, whose files are not in one header.
fn show_embedding(installed: &Installed, json: bool) -> Result<()> {
    let Installed { id, folder, file, factory, size, manifest } = installed;
    if json {
        let object = json!({
            "id": id, "kind": "embedding", "folder": folder.display().to_string(), "factory": factory,
            "manifest": manifest, "size_bytes": size,
        });
        println!("{}", serde_json::to_string_pretty(&object)?);
        return Ok(());
    }
    let line = |name: &str, value: &str| println!("{name:14}{value}");
    line("model", id);
    line("kind", "embedding");
    match manifest {
        Some(manifest) => {
            line("licence", &manifest.licence);
            line("source", &manifest.source);
            line("sha256", &manifest.sha256);
        }
        None => line("manifest", "none"),
    }
    line("file", &format!("{} ({})", folder.join(file).display(), size_text(*size)));
    Ok(())
}
