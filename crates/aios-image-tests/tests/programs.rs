//! The check that both bases make of the programs they compile: it must refuse slow ones.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
};

const LIBRARY: &str = "pub fn greet(who: &str) -> String { format!(\"Hello, {who}\") }";
/// A crate that Cargo.toml has small, and not fast.
const SMALL: &str = "rmcp";

/// Builds a program of two crates as the bases build the image's, with these overrides of its profile, and checks it.
fn check(overrides: &[(&str, &str)]) -> Output {
    check_with("greeting", overrides)
}

/// The same, with a library of this name.
fn check_with(library: &str, overrides: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("there is room for a small program");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be made");
        fs::write(path, text).expect("the file can be written");
    };
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    let depends =
        format!("[dependencies]\n{library}.path = \"{library}\"\n[profile.release]\nlto = \"thin\"\n[workspace]\n");
    write("Cargo.toml", &(package("greeter") + &depends));
    write("src/main.rs", &format!("fn main() {{ println!(\"{{}}\", {library}::greet(\"you\")) }}"));
    write(&format!("{library}/Cargo.toml"), &package(library));
    write(&format!("{library}/src/lib.rs"), LIBRARY);
    let messages = folder.path().join("messages");
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(folder.path())
        .env_remove("CARGO_TARGET_DIR")
        .envs(overrides.iter().copied())
        .stdout(File::create(&messages).expect("the file can be made"))
        .status()
        .expect("cargo can be started");
    assert!(cargo.success(), "cargo ended with {cargo}");
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../support/check_programs.py"))
        .arg("greeter")
        .stdin(File::open(&messages).map(Stdio::from).expect("cargo has printed something"))
        .output()
        .expect("python3 can be started")
}

fn assert_refused(output: &Output, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(reason), "{}: {said}", output.status);
}

#[test]
fn programs_that_are_optimised_when_linked_pass() {
    let output = check(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn programs_without_link_time_optimisation_are_refused() {
    for off in ["false", "off"] {
        let output = check(&[("CARGO_PROFILE_RELEASE_LTO", off)]);
        assert_refused(&output, "greeting is not optimised when it is linked (lto)");
    }
}

#[test]
fn programs_of_another_optimisation_level_are_refused() {
    let output = check(&[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")]);
    assert_refused(&output, "greeting has opt-level s and not 3");
}

#[test]
fn a_crate_that_is_meant_to_be_small_is_refused_where_it_is_not_and_passes_where_it_is() {
    assert_refused(&check_with(SMALL, &[]), "rmcp has opt-level 3 and not s");
    let small = check_with(SMALL, &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")]);
    assert_refused(&small, "greeter has opt-level s and not 3");
    assert!(!String::from_utf8_lossy(&small.stderr).contains("rmcp has"));
}
