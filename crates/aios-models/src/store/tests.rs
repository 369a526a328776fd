//! Adding, finding and removing models.

use super::*;
use crate::trust::{Origin, Trust, TrustError};

struct Device {
    root: tempfile::TempDir,
    store: Store,
}

impl Device {
    fn new() -> Device {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["device", "factory"].map(|name| root.path().join(name));
        fs::create_dir(&dirs[1]).unwrap();
        let [directory, factory] = dirs.clone();
        Device { root, store: Store { directory, dirs: dirs.to_vec(), factory: vec![factory] } }
    }

    fn keys(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    fn trust(&self) -> Trust {
        let memory = Some(self.root.path().join("verified"));
        Trust { keys: self.keys(), require_signature: true, factory: self.store.factory.clone(), memory }
    }

    fn add(&self, id: &str, content: &str) -> PathBuf {
        let staging = self.store.stage(id).unwrap();
        fs::write(staging.file(), content).unwrap();
        let sha256 = crate::trust::hash(&mut File::open(staging.file()).unwrap()).unwrap();
        let manifest = manifest(id, &sha256, content.len());
        staging.install(&manifest, &Signing::open_or_make(&self.keys()).unwrap()).unwrap()
    }

    fn names(&self, path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn manifest(id: &str, sha256: &str, size: usize) -> Manifest {
    Manifest {
        id: id.into(),
        file: MODEL_FILE.into(),
        sha256: sha256.into(),
        size: size as u64,
        licence: "MIT".into(),
        source: "test".into(),
        revision: None,
        context: None,
        also: Vec::new(),
    }
}

#[test]
fn a_model_appears_whole_and_is_trusted() {
    let device = Device::new();
    let staging = device.store.stage("one").unwrap();
    fs::write(staging.file(), "half").unwrap();
    assert!(device.store.models().is_empty(), "what is not complete is no model");
    assert!(matches!(device.store.stage("one"), Err(StoreError::Busy(_))));
    drop(staging);
    let folder = device.add("one", "weights");
    assert_eq!(device.names(&folder), ["model.gguf", "model.toml", "model.toml.sig"]);
    assert!(device.names(&device.store.directory.join(".partial")).is_empty());
    let found = device.store.models();
    assert_eq!((found.len(), found[0].id.as_str(), found[0].size), (1, "one", 7));
    let trusted = device.trust().check(&folder).unwrap();
    assert_eq!((trusted.origin, trusted.manifest.unwrap().licence), (Origin::Signed, "MIT".to_owned()));
    assert!(matches!(device.store.stage("one"), Err(StoreError::Taken { .. })));
}

#[test]
fn ids_that_lead_elsewhere_are_refused() {
    let device = Device::new();
    for id in ["", ".", "..", "../etc", "a/b", ".partial", "default", "a b"] {
        assert!(matches!(device.store.stage(id), Err(StoreError::Id(_))), "{id}");
        assert!(matches!(device.store.remove(id), Err(StoreError::NotFound { .. })), "{id}");
    }
}

#[test]
fn changed_weights_are_refused_however_well_the_change_is_hidden() {
    let device = Device::new();
    let folder = device.add("one", "weights");
    let file = folder.join(MODEL_FILE);
    let trust = device.trust();
    trust.check(&folder).unwrap();
    let before = fs::metadata(&file).unwrap();
    fs::write(&file, "weighty").unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let error = trust.check(&folder).unwrap_err();
    let TrustError::Tampered { path, expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(path, &file);
    assert!(expected.starts_with("sha256 ") && found.starts_with("sha256 ") && expected != found, "{error}");
    fs::write(&file, "weights and more").unwrap();
    assert!(trust.check(&folder).unwrap_err().to_string().contains("expected 7 bytes, found 16 bytes"));
}

#[test]
fn a_changed_manifest_is_refused_even_where_no_signature_is_required() {
    let device = Device::new();
    let folder = device.add("one", "weights");
    let text = fs::read_to_string(folder.join(MANIFEST_FILE)).unwrap();
    fs::write(folder.join(MANIFEST_FILE), text.replace("MIT", "CC0")).unwrap();
    let relaxed = Trust { require_signature: false, ..device.trust() };
    for trust in [device.trust(), relaxed.clone()] {
        assert!(matches!(trust.check(&folder), Err(TrustError::Signature { .. })));
    }
    fs::remove_file(folder.join(SIGNATURE_FILE)).unwrap();
    assert!(matches!(device.trust().check(&folder), Err(TrustError::Unsigned { .. })));
    assert_eq!(relaxed.check(&folder).unwrap().origin, Origin::Unsigned);
    fs::write(folder.join(MODEL_FILE), "weighty").unwrap();
    assert!(
        matches!(relaxed.check(&folder), Err(TrustError::Tampered { .. })),
        "a manifest counts without a signature"
    );
}

#[test]
fn a_model_without_a_manifest_is_used_only_where_that_is_allowed() {
    let device = Device::new();
    let folder = device.store.directory.join("bare");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(MODEL_FILE), "weights").unwrap();
    let error = device.trust().check(&folder).unwrap_err().to_string();
    assert!(error.contains("aios model verify --sign bare") && error.contains("models.require-signature"), "{error}");
    let trusted = Trust { require_signature: false, ..device.trust() }.check(&folder).unwrap();
    assert_eq!(trusted.origin, Origin::Unsigned);
}

#[test]
fn a_factory_models_manifest_counts_without_a_signature() {
    let device = Device::new();
    let folder = device.store.factory[0].join("factory-model");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(MODEL_FILE), "weights").unwrap();
    let sha256 = crate::trust::hash(&mut File::open(folder.join(MODEL_FILE)).unwrap()).unwrap();
    fs::write(folder.join(MANIFEST_FILE), manifest("factory-model", &sha256, 7).text()).unwrap();
    assert_eq!(device.trust().check(&folder).unwrap().origin, Origin::Factory);
    assert!(matches!(device.store.remove("factory-model"), Err(StoreError::Factory { .. })));
    fs::write(folder.join(MODEL_FILE), "weighty").unwrap();
    assert!(matches!(device.trust().check(&folder), Err(TrustError::Tampered { .. })));
}

#[test]
fn removing_takes_the_model_or_what_there_is_of_it() {
    let device = Device::new();
    device.add("one", "weights");
    device.store.remove("one").unwrap();
    assert!(device.store.models().is_empty());
    fs::write(device.store.stage("two").unwrap().file(), "half").unwrap();
    device.store.remove("two").unwrap();
    assert!(device.names(&device.store.directory.join(".partial")).is_empty());
    assert_eq!(device.names(&device.store.directory), [".partial"]);
}

#[test]
fn too_little_room_is_said_before_anything_is_written() {
    let device = Device::new();
    device.store.check_room(1, 0).unwrap();
    let error = device.store.check_room(u64::MAX / 4, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("models.reserve") && error.contains("B free"), "{error}");
    assert!(matches!(device.store.check_room(u64::MAX, 1), Err(StoreError::NoRoom { .. })));
}
