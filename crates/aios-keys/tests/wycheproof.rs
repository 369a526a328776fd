//! ML-DSA-65 as this crate uses it against vectors of C2SP's Wycheproof (their source is in the file).
//!
//! The implementation is young and unaudited: signatures have to be, byte for byte, those of the standard, and malformed
//! ones have to be refused.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aios_keys::hex;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ml_dsa::{Keypair as _, MlDsa65, Signature, SigningKey, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

#[derive(Deserialize)]
struct Vectors {
    sign: Vec<Sign>,
    refuse: Vec<Refuse>,
}

#[derive(Deserialize)]
struct Sign {
    case: u32,
    comment: String,
    seed: String,
    public_sha256: String,
    message: String,
    context: String,
    signature_sha256: String,
}

#[derive(Deserialize)]
struct Refuse {
    case: u32,
    comment: String,
    public: String,
    message: String,
    context: String,
    signature: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("wycheproof/ml_dsa_65.json")).unwrap()
}

/// Bytes of any number of digits.
fn bytes(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|pair| hex::decode::<1>(str::from_utf8(pair).unwrap()).unwrap()[0]).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

#[test]
fn seeds_give_the_keys_and_signatures_of_the_standard() {
    let cases = vectors().sign;
    assert!(cases.len() > 50, "{} cases", cases.len());
    for case in cases {
        let name = format!("case {}: {}", case.case, case.comment);
        let key = SigningKey::<MlDsa65>::from_seed(&hex::decode::<32>(&case.seed).unwrap().into());
        assert_eq!(sha256(&key.verifying_key().encode()), case.public_sha256, "{name}");
        let (message, context) = (bytes(&case.message), bytes(&case.context));
        let signature = key.expanded_key().sign_deterministic(&message, &context).unwrap();
        assert_eq!(sha256(&signature.encode()), case.signature_sha256, "{name}");
        assert!(key.verifying_key().verify_with_context(&message, &context, &signature), "{name}");
    }
}

#[test]
fn malformed_and_foreign_signatures_are_refused() {
    let cases = vectors().refuse;
    assert!(cases.len() >= 8, "{} cases", cases.len());
    for case in cases {
        let name = format!("case {}: {}", case.case, case.comment);
        let public = STANDARD.decode(case.public).unwrap();
        let key = VerifyingKey::<MlDsa65>::decode(public.as_slice().try_into().unwrap());
        let signature = STANDARD.decode(case.signature).unwrap();
        let (message, context) = (bytes(&case.message), bytes(&case.context));
        let accepted = Signature::<MlDsa65>::try_from(&signature[..])
            .is_ok_and(|signature| key.verify_with_context(&message, &context, &signature));
        assert!(!accepted, "{name}");
    }
}
