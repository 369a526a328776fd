use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Verifier as _;
use proptest::prelude::*;

use super::*;
use crate::seed::Seed;

const TEXT: &str = "aios/ledger/test\n3\nroot\n";

fn signer(name: &str, seed: u8) -> Signer {
    Signer::new(name, &Seed::from_bytes([seed; 32])).unwrap()
}

/// A note's lines that hold signatures.
fn signatures(note: &str) -> Vec<&str> {
    note.lines().filter(|line| line.starts_with('\u{2014}')).collect()
}

#[test]
fn a_note_is_believed_with_both_signatures_and_not_with_one() {
    let signer = signer("aios/test", 1);
    let verifier = signer.verifier();
    let note = signer.sign(TEXT).unwrap();
    assert_eq!(verifier.open(&note), Ok(TEXT));
    let lines = signatures(&note);
    let without_ml_dsa = format!("{TEXT}\n{}\n", lines[0]);
    assert_eq!(
        verifier.open(&without_ml_dsa),
        Err(NoteError::Missing { name: "aios/test".into(), algorithm: "ML-DSA-65" })
    );
    let without_ed25519 = format!("{TEXT}\n{}\n", lines[1]);
    assert_eq!(
        verifier.open(&without_ed25519),
        Err(NoteError::Missing { name: "aios/test".into(), algorithm: "Ed25519" })
    );
    let swapped = format!("{TEXT}\n{}\n{}\n", lines[1], lines[0]);
    assert_eq!(verifier.open(&swapped), Ok(TEXT), "their order says nothing");
}

#[test]
fn each_signature_is_checked_by_itself() {
    let signer = signer("aios/test", 1);
    let (note, other) = (signer.sign(TEXT).unwrap(), signer.sign("another\n").unwrap());
    let (own, foreign) = (signatures(&note), signatures(&other));
    let wrong = |algorithm| Err(NoteError::Wrong { name: "aios/test".into(), algorithm });
    let mixed = |first: &str, second: &str| format!("{TEXT}\n{first}\n{second}\n");
    assert_eq!(signer.verifier().open(&mixed(foreign[0], own[1])), wrong("Ed25519"));
    assert_eq!(signer.verifier().open(&mixed(own[0], foreign[1])), wrong("ML-DSA-65"));
}

#[test]
fn signatures_of_other_keys_are_ignored_and_do_not_count() {
    let (ours, others) = (signer("aios/test", 1), signer("aios/test", 2));
    let (note, foreign) = (ours.sign(TEXT).unwrap(), others.sign(TEXT).unwrap());
    assert!(matches!(ours.verifier().open(&foreign), Err(NoteError::Missing { .. })));
    let both = format!("{foreign}{}\n", signatures(&note).join("\n"));
    assert_eq!(ours.verifier().open(&both), Ok(TEXT));
    assert_eq!(others.verifier().open(&both), Ok(TEXT));
    let twice = format!("{note}{}\n", signatures(&note)[0]);
    assert_eq!(ours.verifier().open(&twice), Err(NoteError::Form("two signatures of the same key")));
    let renamed = signer("aios/tess", 1);
    assert!(matches!(renamed.verifier().open(&note), Err(NoteError::Missing { .. })), "the name is part of the key");
}

#[test]
fn every_flipped_bit_of_a_note_is_seen() {
    let signer = signer("aios/test", 3);
    let (verifier, note) = (signer.verifier(), signer.sign(TEXT).unwrap());
    // Every bit of the text and of the first signature line; of the long second one each 97th.
    let second = note.find(signatures(&note)[1]).unwrap();
    for bit in (0..second * 8).chain((second * 8..note.len() * 8).step_by(97)) {
        let mut bytes = note.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = String::from_utf8(bytes) {
            assert!(verifier.open(&changed).is_err(), "bit {bit} of {}", note.len() * 8);
        }
    }
}

#[test]
fn the_first_signature_is_one_that_any_reader_of_signed_notes_checks() {
    let signer = signer("aios.example/ledger", 4);
    let note = signer.sign(TEXT).unwrap();
    // By hand, as C2SP signed-note says, and with nothing of this module.
    let public = signer.verifier().to_string();
    let (name, rest) = public.lines().next().unwrap().split_once('+').unwrap();
    let (id, key) = rest.split_once('+').unwrap();
    let key = STANDARD.decode(key).unwrap();
    assert_eq!((name, key[0], key.len()), ("aios.example/ledger", 1, 33));
    let key = ed25519_dalek::VerifyingKey::from_bytes(key[1..].try_into().unwrap()).unwrap();
    let line = signatures(&note)[0].strip_prefix("\u{2014} aios.example/ledger ").unwrap();
    let signature = STANDARD.decode(line).unwrap();
    assert_eq!(crate::hex::encode(&signature[..4]), id);
    key.verify(TEXT.as_bytes(), &ed25519_dalek::Signature::from_slice(&signature[4..]).unwrap()).unwrap();
}

#[test]
fn the_example_of_the_format_is_taken_apart() {
    // From C2SP's signed-note.md.
    let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
                \u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let (text, lines) = wire::split(note).unwrap();
    assert!(text.ends_with("ed è subito sera.\n"));
    assert_eq!((lines.len(), lines[0].name, lines[0].signature.len()), (1, "quasimodo.example/salvatore", 64));
}

#[test]
fn what_is_no_note_is_refused() {
    let signer = signer("aios/test", 1);
    let note = signer.sign(TEXT).unwrap();
    let line = signatures(&note)[0];
    for wrong in [
        "".to_owned(),
        "\n".to_owned(),
        "\n\n".to_owned(),
        TEXT.to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}\n{line}"),
        format!("{TEXT}\n{line}\n\n"),
        format!("{TEXT}\n{line}\nno signature\n"),
        format!("{TEXT}\n{} \n", line),
        format!("{TEXT}\n- aios/test AAAAAAA=\n"),
        format!("{TEXT}\n\u{2014}  AAAAAAA=\n"),
        format!("{TEXT}\n\u{2014} a+b AAAAAAA=\n"),
        format!("{TEXT}\n\u{2014} a AAAAAA==\n"),
        format!("tab\t\n\n{line}\n"),
        format!("{TEXT}\n{}", format!("{line}\n").repeat(SIGNATURES_MAX + 1)),
        format!("{}\n\n{line}\n", "a".repeat(NOTE_MAX)),
    ] {
        assert!(matches!(signer.verifier().open(&wrong), Err(NoteError::Form(_))), "{wrong:.80?}");
    }
    for text in ["", "no line's end", "tab\t\n", "nul\0\n", "return\r\n"] {
        assert_eq!(signer.sign(text), Err(NoteError::Text), "{text:?}");
    }
    for name in ["", "a b", "a+b", "ä", "a\n", &"a".repeat(129)] {
        assert!(matches!(Signer::new(name, &Seed::from_bytes([1; 32])), Err(NoteError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_public_key_is_read_as_it_was_written_and_no_change_of_it_is() {
    let signer = Signer::with_own_name("aios/ledger/", &Seed::from_bytes([5; 32])).unwrap();
    assert_eq!(signer.name().len(), "aios/ledger/".len() + 16);
    let text = signer.verifier().to_string();
    let read: Verifier = text.parse().unwrap();
    assert_eq!(read.to_string(), text);
    assert_eq!(read.fingerprint(), signer.verifier().fingerprint());
    assert_eq!(read.open(&signer.sign(TEXT).unwrap()), Ok(TEXT));

    for index in (0..text.len()).filter(|index| index % 7 == 0 || *index < 120) {
        let mut bytes = text.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(changed.parse::<Verifier>().is_err(), "character {index}");
    }
    let lines: Vec<_> = text.lines().collect();
    let other = super::tests::signer("aios/other", 5).verifier().to_string();
    for wrong in [
        String::new(),
        lines[0].to_owned(),
        format!("{}\n{}\n", lines[1], lines[0]),
        format!("{text}{}\n", lines[0]),
        format!("{}\n{}\n", lines[0], other.lines().nth(1).unwrap()),
    ] {
        assert!(matches!(wrong.parse::<Verifier>(), Err(NoteError::PublicKey(_))), "{wrong:.60}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_text_that_can_be_signed_comes_back(lines in prop::collection::vec("[^\\p{Cc}]{0,20}", 1..6)) {
        let text = lines.join("\n") + "\n";
        let signer = signer("aios/test", 6);
        let note = signer.sign(&text).unwrap();
        prop_assert_eq!(signer.verifier().open(&note), Ok(&text[..]));
    }

    #[test]
    fn any_bytes_are_no_note_and_no_public_key(text in "(\\PC|\n|\u{2014} ){0,200}") {
        prop_assert!(signer("aios/test", 6).verifier().open(&text).is_err());
        prop_assert!(text.parse::<Verifier>().is_err());
    }
}
