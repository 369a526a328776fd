//! Signs a plugin, as its maker does: `cargo run -p aios-plugins --example sign -- FOLDER KEY`.
//!
//! Checks `plugin.toml` and `plugin.wasm` in FOLDER and writes `plugin.sig` beside them. KEY is the maker's secret file,
//! which is made where there is none; its public half goes to `KEY.pub`, for the devices that are to trust it.

use std::{env, fs, path::PathBuf, process::ExitCode};

use aios_keys::{note::Signer, seed::Seed};
use aios_plugins::{
    module::Module,
    package::{Package, SIGNATURE_FILE},
};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, key] = &arguments[..] else {
        eprintln!("usage: sign FOLDER KEY");
        return ExitCode::from(64);
    };
    match sign(folder, key) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sign(folder: &std::path::Path, key: &std::path::Path) -> Result<String, Box<dyn std::error::Error>> {
    let package = Package::read(fs::File::open(folder)?)?;
    Module::new(package.module())?.check_start(package.manifest().limits.memory.0)?;
    let signer = Signer::with_own_name("plugins-", &Seed::open_or_make(key)?)?;
    let package = package.signed(&signer)?;
    fs::write(folder.join(SIGNATURE_FILE), package.note().unwrap_or_default())?;
    let public = key.with_extension("pub");
    fs::write(&public, signer.verifier().to_string())?;
    Ok(format!("signed by {}; digest {}; public key in {}", signer.name(), package.digest(), public.display()))
}
