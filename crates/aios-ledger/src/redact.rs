//! Secrets are taken out before anything is recorded.

use aios_keys::{hex, seed::Seed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::canonical::canonical;

/// Any member, or any element, in a pointer.
const ANY: &str = "*";

/// Replaces values by hashes of them.
///
/// The hash is salted with a secret of this device: who has the ledger alone can't try likely passwords, but two entries
/// with the same secret can be seen to have the same one.
#[derive(Clone, Debug)]
pub struct Redactor {
    salt: Seed,
}

impl Redactor {
    /// A redactor of the device whose secret is `seed`.
    pub fn new(seed: &Seed) -> Redactor {
        Redactor { salt: seed.derive("ledger/redaction") }
    }

    /// Puts `{"redacted":"sha256:<64 digits>"}` in place of each value in `value` that a pointer of `pointers` names,
    /// and says how many there were. A pointer is one of RFC 6901, in which `*` names every member of an object or
    /// element of an array. What a pointer does not find is not there, and so is no secret that could be recorded.
    pub fn redact(&self, value: &mut Value, pointers: &[&str]) -> usize {
        pointers.iter().map(|pointer| self.one(value, pointer)).sum()
    }

    fn one(&self, value: &mut Value, pointer: &str) -> usize {
        let Some(rest) = pointer.strip_prefix('/') else {
            // The empty pointer names the whole. One without a slash in front is a mistake; the whole is taken then,
            // for a secret could be anywhere.
            *value = self.replacement(value);
            return 1;
        };
        let (segment, rest) = match rest.find('/') {
            Some(slash) => (&rest[..slash], &rest[slash..]),
            None => (rest, ""),
        };
        match value {
            Value::Array(items) if segment == ANY => items.iter_mut().map(|item| self.one(item, rest)).sum(),
            Value::Object(members) if segment == ANY => members.values_mut().map(|item| self.one(item, rest)).sum(),
            Value::Array(items) => {
                let item = segment.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                item.map_or(0, |item| self.one(item, rest))
            }
            Value::Object(members) => {
                let name = segment.replace("~1", "/").replace("~0", "~");
                members.get_mut(&name).map_or(0, |item| self.one(item, rest))
            }
            _ => 0,
        }
    }

    fn replacement(&self, value: &Value) -> Value {
        let inner = Sha256::digest(canonical(value));
        let digest = Sha256::new()
            .chain_update(b"aios redacted 1\n")
            .chain_update(self.salt.as_bytes())
            .chain_update(inner)
            .finalize();
        json!({ "redacted": format!("sha256:{}", hex::encode(&digest)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(byte: u8) -> Redactor {
        Redactor::new(&Seed::from_bytes([byte; 32]))
    }

    fn redacted(value: &Value) -> bool {
        let digits = value["redacted"].as_str().and_then(|text| text.strip_prefix("sha256:"));
        value.as_object().is_some_and(|members| members.len() == 1) && digits.and_then(hex::decode::<32>).is_some()
    }

    #[test]
    fn named_values_are_replaced_and_all_others_stay() {
        let mut value = json!({"password": "hunter2", "user": "ann", "list": [{"key": 1, "id": 2}, {"key": 3}, 4], "a/b": 5, "~": 6});
        let count = redactor(1)
            .redact(&mut value, &["/password", "/list/*/key", "/a~1b", "/~0", "/none", "/user/deeper", "/list/9"]);
        assert_eq!(count, 5);
        assert!(redacted(&value["password"]) && redacted(&value["a/b"]) && redacted(&value["~"]));
        assert!(redacted(&value["list"][0]["key"]) && redacted(&value["list"][1]["key"]));
        assert_eq!((&value["user"], &value["list"][0]["id"], &value["list"][2]), (&json!("ann"), &json!(2), &json!(4)));
        assert!(!value.to_string().contains("hunter2"));
    }

    #[test]
    fn whole_objects_and_every_member_can_be_named() {
        let mut value = json!({"environment": {"A": "1", "B": "2"}, "header": {"x": [1]}});
        assert_eq!(redactor(1).redact(&mut value, &["/environment/*", "/header"]), 3);
        assert!(
            redacted(&value["environment"]["A"]) && redacted(&value["environment"]["B"]) && redacted(&value["header"])
        );
        for pointer in ["", "password"] {
            let mut whole = json!({"password": "hunter2"});
            assert_eq!(redactor(1).redact(&mut whole, &[pointer]), 1);
            assert!(redacted(&whole), "a pointer without a slash takes no risk");
        }
    }

    #[test]
    fn equal_secrets_have_equal_hashes_on_one_device_and_others_on_another() {
        let of = |device: u8, secret: &str| {
            let mut value = json!({ "s": secret });
            redactor(device).redact(&mut value, &["/s"]);
            value["s"].clone()
        };
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        assert_ne!(of(1, "a"), of(2, "a"));
        let plain = hex::encode(&Sha256::digest(b"\"a\""));
        assert!(!of(1, "a").to_string().contains(&plain), "not the hash that anybody can compute");
    }
}
