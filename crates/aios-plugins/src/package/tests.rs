use std::os::unix::fs::symlink;

use aios_keys::seed::Seed;

use super::*;
use crate::trust::{Trust, TrustError};

const MANIFEST: &str = r#"
name = "echo"
version = "1"
description = "Says what it hears."
tools = [{ name = "echo", description = "Echo.", risk = "low", input = { type = "object" }, output = {} }]
"#;

fn package() -> Package {
    let files = Files { manifest: Some(MANIFEST.into()), module: Some(b"\0asm".to_vec()), note: None };
    Package::of(files).expect("package")
}

fn signer(name: &str, seed: u8) -> note::Signer {
    note::Signer::new(name, &Seed::from_bytes([seed; 32])).expect("signer")
}

fn open(path: &std::path::Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open")
}

fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").expect("link");
        }
        header.set_cksum();
        builder.append(&header, *bytes).expect("append");
    }
    builder.into_inner().expect("archive")
}

#[test]
fn what_is_written_is_read_again_with_the_same_digest() {
    let folder = tempfile::tempdir().expect("tempdir");
    let package = package().signed(&signer("maker", 1)).expect("signed");
    package.write(open(folder.path())).expect("write");
    let read = Package::read(open(folder.path())).expect("read");
    assert_eq!((read.digest(), read.note()), (package.digest(), package.note()));
    std::fs::write(folder.path().join(MODULE_FILE), b"\0asn").expect("write");
    assert_ne!(Package::read(open(folder.path())).expect("read").digest(), package.digest());
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused_and_a_missing_one_named() {
    let folder = tempfile::tempdir().expect("tempdir");
    let read = || Package::read(open(folder.path())).expect_err("refused");
    assert!(matches!(read(), PackageError::Missing(MANIFEST_FILE)));
    std::fs::write(folder.path().join(MANIFEST_FILE), MANIFEST).expect("write");
    assert!(matches!(read(), PackageError::Missing(MODULE_FILE)));
    symlink("/etc/passwd", folder.path().join(MODULE_FILE)).expect("link");
    assert!(matches!(read(), PackageError::Io { .. }));
}

#[test]
fn an_archive_holds_a_plugin_and_nothing_else() {
    use tar::EntryType::{Directory, Fifo, Regular, Symlink};
    let good: [(&str, tar::EntryType, &[u8]); 3] = [
        ("echo/", Directory, b""),
        ("echo/plugin.toml", Regular, MANIFEST.as_bytes()),
        ("echo/plugin.wasm", Regular, b"\0asm"),
    ];
    assert_eq!(Package::read_archive(&archive(&good)[..]).expect("read").digest(), package().digest());
    for (bad, kind) in [
        ("echo/plugin.toml", Regular),
        ("../../etc/cron", Regular),
        ("echo/plugin.sig", Symlink),
        ("echo/plugin.sig", Fifo),
    ] {
        let entries = [&good[..], &[(bad, kind, b"".as_slice())]].concat();
        let error = Package::read_archive(&archive(&entries)[..]).expect_err(bad);
        assert!(matches!(error, PackageError::Archive(_)), "{bad}: {error}");
    }
    let many: Vec<_> = (0..=ARCHIVE_ENTRIES_MAX).map(|_| good[0]).collect();
    assert!(matches!(Package::read_archive(&archive(&many)[..]), Err(PackageError::Archive(_))));
    let bytes = archive(&good);
    assert!(Package::read_archive(&bytes[..1100]).is_err(), "cut");
    let large = [(good[1]), ("plugin.sig", Regular, &vec![0; note::NOTE_MAX + 1][..])];
    assert!(matches!(Package::read_archive(&archive(&large)[..]), Err(PackageError::TooLarge { .. })));
}

#[test]
fn a_package_counts_with_a_trusted_signature_over_these_very_files() {
    let maker = signer("maker", 1);
    let trust = Trust { keys: vec![signer("other", 2).verifier(), maker.verifier()], require_signature: true };
    let lax = Trust { require_signature: false, ..trust.clone() };
    let signed = package().signed(&maker).expect("signed");
    assert_eq!(trust.check(&signed).expect("trusted").as_deref(), Some("maker"));

    assert!(matches!(trust.check(&package()), Err(TrustError::Unsigned(_))));
    assert_eq!(lax.check(&package()).expect("lax"), None);
    let stranger = package().signed(&signer("stranger", 3)).expect("signed");
    assert!(matches!(trust.check(&stranger), Err(TrustError::Stranger(_))));
    assert_eq!(lax.check(&stranger).expect("lax"), None);
    let forged = package().signed(&signer("maker", 4)).expect("signed");
    assert!(trust.check(&forged).is_err(), "another key of the same name");

    let changed = Package { module: b"\0asn".to_vec(), ..signed };
    for trust in [&trust, &lax] {
        assert!(matches!(trust.check(&changed), Err(TrustError::Changed { .. })), "changed after it was signed");
    }
}

#[test]
fn trusted_keys_are_the_pub_files_of_the_folders() {
    let folder = tempfile::tempdir().expect("tempdir");
    let maker = signer("maker", 1);
    std::fs::write(folder.path().join("maker.pub"), maker.verifier().to_string()).expect("write");
    std::fs::write(folder.path().join("readme.txt"), "no key").expect("write");
    let folders = [folder.path().join("none"), folder.path().to_owned()];
    let trust = Trust::open(&folders, true).expect("keys");
    assert_eq!(trust.keys.len(), 1);
    assert!(trust.check(&package().signed(&maker).expect("signed")).is_ok());
    std::fs::write(folder.path().join("broken.pub"), "no key").expect("write");
    assert!(Trust::open(&folders, true).expect_err("broken").to_string().contains("broken.pub"));
}
