use super::*;
use std::{os::unix::fs::PermissionsExt as _, path::Path, time::SystemTime};

/// Numbers in a block.
const LENGTH: usize = 24;

fn place(directory: &Path) -> Place {
    Place { directory: directory.join("prefixes"), bytes: 1 << 20, age: Duration::ZERO }
}

fn shelf(place: &Place, model: &str, identity: &str) -> Shelf {
    Shelf { place: place.clone(), model: model.into(), identity: identity.into() }
}

fn kept(directory: &Path) -> Kept {
    Kept::new(&shelf(&place(directory), "m", "weights"), "avx2")
}

/// So many blocks of tokens, and their numbers; `seed` makes all of them different.
fn beginning(seed: u32, blocks: usize) -> (Vec<u32>, Vec<Arc<[u16]>>) {
    let tokens = (0..blocks * LANES).map(|index| seed * 1000 + index as u32).collect();
    let block = |block: usize| (0..LENGTH).map(|index| (seed as usize * 777 + block * 31 + index) as u16).collect();
    (tokens, (0..blocks).map(block).collect())
}

/// Writes a beginning, and waits until that is done.
fn put(kept: Kept, seed: u32, blocks: usize) {
    let (tokens, blocks) = beginning(seed, blocks);
    kept.put(&tokens, blocks);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(directory.join("prefixes")).into_iter().flatten().flatten();
    folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap()).map(|file| file.unwrap().path()).collect()
}

/// The blocks that are found for a beginning and a few tokens of another one.
fn found(kept: &Kept, seed: u32, blocks: usize) -> Option<Vec<Arc<[u16]>>> {
    let mut tokens = beginning(seed, blocks).0;
    tokens.extend([7; 40]);
    kept.read(&tokens, LENGTH)
}

#[test]
fn what_was_written_is_read_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    let [file] = &files(dir.path())[..] else { panic!("one file") };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700), "it is of a user's prompt");

    let next = kept(dir.path());
    let blocks = beginning(1, 3).1;
    assert_eq!(found(&next, 1, 3), Some(blocks.clone()));
    assert_eq!(found(&next, 1, 2), Some(blocks[..2].to_vec()), "a part of it");
    assert_eq!(next.longest(&beginning(1, 9).0), 3);
    assert_eq!((next.longest(&beginning(2, 3).0), found(&next, 2, 3)), (0, None));
    assert_eq!(next.longest(&beginning(1, 3).0[..LANES - 1]), 0, "only whole blocks count");
}

#[test]
fn another_models_programs_or_processors_files_are_deleted() {
    for (identity, arithmetic) in [("other weights", "avx2"), ("weights", "avx512")] {
        let dir = tempfile::tempdir().unwrap();
        put(kept(dir.path()), 1, 3);
        let other = Kept::new(&shelf(&place(dir.path()), "m", identity), arithmetic);
        assert_eq!((other.longest(&beginning(1, 3).0), files(dir.path())), (0, Vec::new()));
    }
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    let other = Kept::new(&shelf(&place(dir.path()), "n", "other weights"), "avx2");
    assert_eq!((found(&other, 1, 3), files(dir.path()).len()), (None, 1), "another id's folder is left alone");
}

#[test]
fn a_file_that_is_not_what_was_written_is_deleted_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    let path = files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let flipped = (0..whole.len()).map(|index| {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x10;
        bytes
    });
    let cut = (0..whole.len()).step_by(7).map(|length| whole[..length].to_vec());
    let longer = [[&whole[..], b"x"].concat(), b"GGUF".repeat(100), vec![0xff; whole.len()]];
    for (index, bytes) in flipped.chain(cut).chain(longer).enumerate() {
        fs::write(&path, bytes).unwrap();
        let next = kept(dir.path());
        let blocks = found(&next, 1, 3);
        assert!(blocks.is_none_or(|blocks| blocks.is_empty()), "damage {index} was not noticed");
        if index % 50 == 0 {
            // A damaged token is noticed when the file is read, by a prompt that begins so.
            let _ = fs::remove_file(&path);
            drop(next);
            put(kept(dir.path()), 1, 3);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }
}

#[test]
fn damage_behind_the_part_that_is_wanted_counts_too() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    let path = files(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 33;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let next = kept(dir.path());
    assert_eq!((next.longest(&beginning(1, 1).0), found(&next, 1, 1)), (1, None));
    assert!(!path.exists());
    assert_eq!(found(&next, 1, 1), None, "it is not asked for again");
}

#[test]
fn what_a_power_cut_left_is_deleted_and_what_is_not_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("prefixes/m");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("0123.draft"), "aiosKV1\n").unwrap();
    fs::write(folder.join("0123.prefix"), "").unwrap();
    fs::write(folder.join("notes"), "mine").unwrap();
    assert_eq!(kept(dir.path()).longest(&beginning(1, 1).0), 0);
    assert_eq!(files(dir.path()), [folder.join("notes")]);
}

#[test]
fn a_longer_beginning_takes_the_place_of_a_shorter_one() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 2);
    put(kept(dir.path()), 2, 2);
    put(kept(dir.path()), 1, 4);
    assert_eq!(files(dir.path()).len(), 2);
    put(kept(dir.path()), 1, 3);
    assert_eq!(files(dir.path()).len(), 2, "it is there as a part of the longer one");
    assert_eq!(found(&kept(dir.path()), 1, 4).unwrap().len(), 4);
}

#[test]
fn what_was_not_used_for_longest_makes_room_for_all_models_together() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, blocks) = beginning(1, 3);
    let place = Place { bytes: 2 * file::size(&tokens, &blocks) + 10, ..place(dir.path()) };
    let kept = |model: &str| Kept::new(&shelf(&place, model, model), "avx2");
    put(kept("a"), 1, 3);
    put(kept("b"), 1, 3);
    let at = |seconds: u64| SystemTime::now() - Duration::from_secs(seconds);
    for file in files(dir.path()) {
        let older = file.parent().unwrap().ends_with("b");
        fs::File::open(&file).unwrap().set_modified(at(if older { 500 } else { 100 })).unwrap();
    }
    put(kept("a"), 2, 3);
    assert_eq!((found(&kept("b"), 1, 3), found(&kept("a"), 1, 3).is_some()), (None, true));
    put(kept("a"), 3, 9);
    assert_eq!(files(dir.path()).len(), 2, "what has no room at all costs nobody the place");
    assert!(found(&kept("a"), 2, 3).is_some());

    let lower = Place { bytes: 0, ..place.clone() };
    lower.sweep();
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_was_not_used_for_long_enough_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    put(kept(dir.path()), 2, 3);
    let old = SystemTime::now() - Duration::from_secs(7200);
    for file in files(dir.path()) {
        fs::File::open(&file).unwrap().set_modified(old).unwrap();
    }
    assert!(found(&kept(dir.path()), 1, 3).is_some());
    place(dir.path()).sweep();
    assert_eq!(files(dir.path()).len(), 2, "for ever");
    Place { age: Duration::from_secs(3600), ..place(dir.path()) }.sweep();
    assert_eq!(files(dir.path()).len(), 1, "the other one was used");
    assert!(found(&kept(dir.path()), 1, 3).is_some());
}

#[test]
fn a_directory_that_takes_nothing_costs_a_warning_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("prefixes"), "a file").unwrap();
    put(kept(dir.path()), 1, 3);
    assert_eq!(found(&kept(dir.path()), 1, 3), None);
    assert_eq!(fs::read(dir.path().join("prefixes")).unwrap(), b"a file");
}

#[test]
fn files_that_vanish_are_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    put(kept(dir.path()), 1, 3);
    let next = kept(dir.path());
    assert_eq!(next.longest(&beginning(1, 3).0), 3);
    fs::remove_file(files(dir.path()).remove(0)).unwrap();
    assert_eq!(found(&next, 1, 3), None);
    put(next, 1, 3);
    assert_eq!(files(dir.path()).len(), 1);
}
