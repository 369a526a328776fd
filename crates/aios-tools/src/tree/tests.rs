use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use proptest::prelude::*;
use rustix::fs::XattrFlags;

use super::*;

const LIMITS: Limits = Limits { nodes: 1000, bytes: 16 << 20 };

/// What a test puts at a path.
#[derive(Clone, Debug)]
enum Made {
    Nothing,
    File { bytes: Vec<u8>, mode: u32, owner: u32, label: Option<Vec<u8>> },
    Folder { mode: u32, owner: u32, label: Option<Vec<u8>>, entries: Vec<(String, Made)> },
    Link(String),
}

fn made() -> impl Strategy<Value = Made> {
    let label = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let mode = prop::sample::select(vec![0o644, 0o600, 0o4755, 0o2750, 0o1777, 0o000]);
    let owner = prop::sample::select(vec![0_u32, 1, 65534]);
    let leaf = prop_oneof![
        Just(Made::Nothing),
        "[a-z./]{1,8}".prop_map(Made::Link),
        (prop::collection::vec(any::<u8>(), 0..600), mode.clone(), owner.clone(), label.clone())
            .prop_map(|(bytes, mode, owner, label)| Made::File { bytes, mode, owner, label }),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        let entries = prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|map| map.into_iter().collect());
        (mode.clone(), owner.clone(), label.clone(), entries).prop_map(|(mode, owner, label, entries)| Made::Folder {
            mode,
            owner,
            label,
            entries,
        })
    })
}

fn make(path: &Path, what: &Made) {
    match what {
        Made::Nothing => {}
        Made::Link(target) => symlink(target, path).expect("symlink"),
        Made::File { bytes, mode, owner, label } => {
            fs::write(path, bytes).expect("write");
            dress(path, *mode, *owner, label.as_deref());
        }
        Made::Folder { mode, owner, label, entries } => {
            fs::create_dir(path).expect("mkdir");
            for (name, entry) in entries {
                make(&path.join(name), entry);
            }
            dress(path, *mode, *owner, label.as_deref());
        }
    }
}

fn dress(path: &Path, mode: u32, owner: u32, label: Option<&[u8]>) {
    // Owners take root, as the device's tools have.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("chown");
    }
    if let Some(label) = label {
        rustix::fs::setxattr(path, "user.label", label, XattrFlags::empty()).expect("setxattr");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// What a tree looks like to the standard library, and not to the code under test.
type Seen = (PathBuf, u32, u32, u32, Vec<u8>, Option<Vec<u8>>);

fn seen(path: &Path) -> Vec<Seen> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Vec::new() };
    let mut value = [0; 64];
    let label = (!metadata.is_symlink())
        .then(|| rustix::fs::getxattr(path, "user.label", &mut value[..]).ok().map(|length| value[..length].to_vec()))
        .flatten();
    let contents = match metadata.file_type() {
        kind if kind.is_file() => fs::read(path).expect("read"),
        kind if kind.is_symlink() => fs::read_link(path).expect("link").into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    let mut all = vec![(path.to_owned(), metadata.mode(), metadata.uid(), metadata.gid(), contents, label)];
    if metadata.is_dir() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).expect("read_dir").map(|e| e.expect("entry").path()).collect();
        entries.sort();
        all.extend(entries.iter().flat_map(|entry| seen(entry)));
    }
    all
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    blobs: Blobs,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = folder.path().join("blobs");
    fs::create_dir(&blobs).expect("mkdir");
    let path = folder.path().join("tree");
    Place { path, blobs: Blobs::in_folder(blobs), _folder: folder }
}

fn clear(path: &Path) {
    Entry::at(path).expect("way").remove().expect("remove");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_was_there_comes_back_in_place_of_whatever_is(before in made(), after in made()) {
        let place = place();
        make(&place.path, &before);
        let looked = seen(&place.path);
        let node = take_down(&place.path, Keep::Contents(&place.blobs), LIMITS).expect("take down");
        let node: Node = serde_json::from_str(&serde_json::to_string(&node).expect("JSON")).expect("JSON");
        clear(&place.path);
        make(&place.path, &after);
        let hashes = take_down(&place.path, Keep::Hashes, LIMITS).expect("take down");
        let same = seen(&place.path) == looked;
        prop_assert_eq!(hashes == node, same);
        bring_back(&place.path, &node, &place.blobs).expect("bring back");
        prop_assert_eq!(seen(&place.path), looked.clone());
        bring_back(&place.path, &node, &place.blobs).expect("bring back again");
        prop_assert_eq!(seen(&place.path), looked);
    }
}

#[test]
fn a_name_that_is_no_text_comes_back() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = place();
    fs::create_dir(&place.path).expect("mkdir");
    fs::write(place.path.join(std::ffi::OsStr::from_bytes(b"a\xff\n")), "x").expect("write");
    let node = take_down(&place.path, Keep::Contents(&place.blobs), LIMITS).expect("take down");
    let node: Node = serde_json::from_str(&serde_json::to_string(&node).expect("JSON")).expect("JSON");
    let looked = seen(&place.path);
    clear(&place.path);
    bring_back(&place.path, &node, &place.blobs).expect("bring back");
    assert_eq!(seen(&place.path), looked);
}

#[test]
fn what_is_too_much_or_can_not_be_copied_is_refused() {
    let place = place();
    fs::create_dir(&place.path).expect("mkdir");
    fs::write(place.path.join("a"), [0; 100]).expect("write");
    let few = Limits { nodes: 1, bytes: 1000 };
    let refused = take_down(&place.path, Keep::Contents(&place.blobs), few).expect_err("too many").to_string();
    assert!(refused.contains("more than 1 files"), "{refused}");
    let small = Limits { nodes: 10, bytes: 99 };
    let refused = take_down(&place.path, Keep::Contents(&place.blobs), small).expect_err("too large").to_string();
    assert!(refused.contains("more than 99 bytes"), "{refused}");
    let pipe = place.path.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("mknod");
    let refused = take_down(&place.path, Keep::Hashes, LIMITS).expect_err("a pipe").to_string();
    assert!(refused.contains("is a pipe"), "{refused}");
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let place = place();
    let real = place.path.with_file_name("real");
    fs::create_dir(&real).expect("mkdir");
    fs::write(real.join("file"), "precious").expect("write");
    symlink("real", &place.path).expect("symlink");
    let through = place.path.join("file");
    assert!(matches!(take_down(&through, Keep::Hashes, LIMITS), Err(TreeError::Link(_))));
    assert!(matches!(bring_back(&through, &Node::Absent, &place.blobs), Err(TreeError::Link(_))));
    assert_eq!(fs::read_to_string(real.join("file")).expect("read"), "precious");
}

#[test]
fn a_damaged_copy_is_told_and_the_file_stays() {
    let place = place();
    fs::write(&place.path, "before").expect("write");
    let node = take_down(&place.path, Keep::Contents(&place.blobs), LIMITS).expect("take down");
    fs::write(&place.path, "after").expect("write");
    let copy = fs::read_dir(place.blobs.folder()).expect("dir").next().expect("a copy").expect("entry").path();
    fs::write(copy, "bEfore").expect("write");
    let told = bring_back(&place.path, &node, &place.blobs).expect_err("damaged").to_string();
    assert!(told.contains("damaged"), "{told}");
    assert_eq!(fs::read_to_string(&place.path).expect("read"), "after");
    assert_eq!(fs::read_dir(place.path.parent().expect("parent")).expect("dir").count(), 2);
}

const CHILD: &str = "AIOS_TEST_BRING_BACK";

/// Not a test by itself: what [`a_killed_attempt_is_completed_by_the_next`] kills.
#[test]
fn bring_back_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let node = serde_json::from_slice(&fs::read(folder.join("node")).expect("node")).expect("JSON");
    bring_back(&folder.join("tree"), &node, &Blobs::in_folder(folder.join("blobs"))).expect("bring back");
}

#[test]
fn a_killed_attempt_is_completed_by_the_next() {
    let place = place();
    let folder = place.path.parent().expect("parent");
    fs::create_dir(&place.path).expect("mkdir");
    for file in 0..150 {
        fs::write(place.path.join(format!("f{file}")), vec![file; 3000]).expect("write");
    }
    let looked = seen(&place.path);
    let node = take_down(&place.path, Keep::Contents(&place.blobs), LIMITS).expect("take down");
    fs::write(folder.join("node"), serde_json::to_vec(&node).expect("JSON")).expect("write");
    let mut cut = 0;
    for attempt in 0..20_u64 {
        clear(&place.path);
        fs::create_dir(&place.path).expect("mkdir");
        fs::write(place.path.join("new"), "new").expect("write");
        let mut child = Command::new(std::env::current_exe().expect("test binary"))
            .args(["--exact", "tree::tests::bring_back_in_a_process_of_its_own"])
            .env(CHILD, folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("spawn");
        std::thread::sleep(Duration::from_millis(2 + attempt));
        child.kill().expect("kill");
        child.wait().expect("wait");
        cut += u32::from(seen(&place.path) != looked);
        bring_back(&place.path, &node, &place.blobs).expect("bring back");
        assert_eq!(seen(&place.path), looked);
    }
    assert!(cut > 0, "no attempt was cut off");
}
