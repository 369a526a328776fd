//! `aios key`: the keys that people sign answers with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aios_keys::{
    hex,
    note::{Signer, Verifier},
    seed::{Seed, publish},
};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::tool::print;
use crate::cli::KeyCommand;

/// Runs what was typed after `aios key`.
pub fn run(command: KeyCommand, json: bool) -> Result<ExitCode> {
    let (verifier, said) = match command {
        KeyCommand::New { file, name } => {
            let public = public(&file);
            if file.exists() || public.exists() {
                bail!("{} is there already: a key is not replaced", file.display());
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
                bail!("{name:?} is no name of a key: use 1 to 64 letters, digits, '.', '_', '@' and '-'");
            }
            let verifier = Signer::new(&name, &Seed::open_or_make(&file)?)?.verifier();
            publish(&public, &verifier.to_string())?;
            (verifier, format!("made {} and {}\n", file.display(), public.display()))
        }
        KeyCommand::Show { file } => {
            let file = if file.extension().is_some_and(|end| end == "pub") { file } else { public(&file) };
            (read_public(&file)?, String::new())
        }
    };
    let fingerprint = format!("sha256:{}", hex::encode(&verifier.fingerprint()));
    let text = format!(
        "{said}{} {fingerprint}\nin policy.toml: keys = [\"{fingerprint}\"] of the agent that may answer",
        verifier.name()
    );
    print(json, &json!({ "name": verifier.name(), "fingerprint": fingerprint }), &text)?;
    Ok(ExitCode::SUCCESS)
}

/// The key in `file`, under the name that its public half has.
pub fn open(file: &Path) -> Result<Signer> {
    let verifier = read_public(&public(file))?;
    let Some(seed) = Seed::open(file)? else { bail!("{}: there is no key; aios key new makes one", file.display()) };
    let signer = Signer::new(verifier.name(), &seed)?;
    if signer.verifier().fingerprint() != verifier.fingerprint() {
        bail!("{} is not the public half of {}", public(file).display(), file.display());
    }
    Ok(signer)
}

fn read_public(path: &Path) -> Result<Verifier> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

fn public(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
