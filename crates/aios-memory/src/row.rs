//! An item in the file: a head that says whether it is whole, and JSON. A metric is JSON behind its checksum.

use sha2::{Digest as _, Sha256};

use crate::{
    item::{Content, Item, Metric},
    kind::{Kind, Tier},
    limits::{ITEM, Invalid},
};

/// What every row begins with. Repair looks for it in a file whose tables can't be read.
pub(crate) const MAGIC: [u8; 4] = *b"aiM\x01";
/// Magic, length of what follows (4 bytes), checksum of it (8 bytes).
const SEAL: usize = 16;
/// Id, created, updated (8 bytes each), kind, tier.
const FIXED: usize = 26;
/// Bytes before the JSON.
pub(crate) const HEAD: usize = SEAL + FIXED;

/// What a row says without being read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub id: u64,
    pub created: i64,
    pub updated: i64,
    pub kind: Kind,
    pub tier: Tier,
}

/// The row of an item.
pub(crate) fn encode(item: &Item) -> Result<Vec<u8>, Invalid> {
    let json = serde_json::to_vec(&item.content).expect("invariant: names and texts are JSON, and numbers are finite");
    if json.len() > ITEM {
        return Err(Invalid::Long { field: "the item as JSON", found: json.len(), limit: ITEM });
    }
    let mut row = Vec::with_capacity(HEAD + json.len());
    row.extend_from_slice(&MAGIC);
    let length = u32::try_from(FIXED + json.len()).expect("invariant: an item's limit is below 4 GiB");
    row.extend_from_slice(&length.to_le_bytes());
    row.extend_from_slice(&[0; 8]);
    row.extend_from_slice(&item.id.to_le_bytes());
    row.extend_from_slice(&item.created.to_le_bytes());
    row.extend_from_slice(&item.updated.to_le_bytes());
    row.push(item.kind() as u8);
    row.push(item.tier as u8);
    row.extend_from_slice(&json);
    let sum = checksum(&row[SEAL..]);
    row[8..SEAL].copy_from_slice(&sum);
    Ok(row)
}

/// The item of a row; `None` where it is not what was written.
pub(crate) fn decode(row: &[u8]) -> Option<Item> {
    let (rest, after) = sealed(row)?;
    if !after.is_empty() {
        return None;
    }
    open(rest)
}

/// The item of the row that `bytes` begin with, and its length.
pub(crate) fn carve(bytes: &[u8]) -> Option<(Item, usize)> {
    let (rest, _) = sealed(bytes)?;
    Some((open(rest)?, SEAL + rest.len()))
}

/// What a row says without being read in full, or checked.
pub(crate) fn head(row: &[u8]) -> Option<Head> {
    parse_head(row.get(SEAL..HEAD)?)
}

/// The sealed part of the row that `bytes` begin with, and what is after it.
fn sealed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if !(FIXED..=FIXED + ITEM).contains(&length) {
        return None;
    }
    let (sealed, after) = rest.split_at_checked(length)?;
    (checksum(sealed) == *sum).then_some((sealed, after))
}

fn open(sealed: &[u8]) -> Option<Item> {
    let (fixed, json) = sealed.split_at_checked(FIXED)?;
    let Head { id, created, updated, kind, tier } = parse_head(fixed)?;
    let content: Content = serde_json::from_slice(json).ok()?;
    (content.body.kind() == kind).then_some(Item { id, tier, created, updated, content })
}

fn parse_head(fixed: &[u8]) -> Option<Head> {
    let (id, rest) = fixed.split_first_chunk()?;
    let (created, rest) = rest.split_first_chunk()?;
    let (updated, rest) = rest.split_first_chunk()?;
    let [kind, tier] = *rest else { return None };
    Some(Head {
        id: u64::from_le_bytes(*id),
        created: i64::from_le_bytes(*created),
        updated: i64::from_le_bytes(*updated),
        kind: Kind::from_byte(kind)?,
        tier: Tier::from_byte(tier)?,
    })
}

/// The row of a metric: checksum (8 bytes) and JSON.
pub(crate) fn encode_metric(metric: &Metric) -> Vec<u8> {
    seal_metric(&serde_json::to_vec(metric).expect("invariant: texts and finite numbers are JSON"))
}

/// A metric's JSON with its checksum.
pub(crate) fn seal_metric(json: &[u8]) -> Vec<u8> {
    [&checksum(json)[..], json].concat()
}

/// The metric of a row; `None` where it is not what was written.
pub(crate) fn decode_metric(row: &[u8]) -> Option<Metric> {
    let (sum, json) = row.split_first_chunk::<8>()?;
    if checksum(json) != *sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let sum = Sha256::digest(bytes);
    *sum.first_chunk().expect("invariant: SHA-256 has 32 bytes")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use aios_policy::Origin;
    use proptest::prelude::*;

    use super::*;
    use crate::item::{Body, Knowledge, Provenance};

    fn item(id: u64, created: i64, text: &str) -> Item {
        let provenance = Provenance {
            agent: "task".into(),
            source: "https://example.com/\"x\"".into(),
            origins: [Origin::Web, Origin::Tool("web.read".into())].into(),
        };
        let body = Body::Knowledge(Knowledge { title: "t".into(), text: text.into(), tags: vec!["a".into()] });
        Item { id, tier: Tier::LongTerm, created, updated: created + 1, content: Content { provenance, body } }
    }

    #[test]
    fn a_metric_with_one_wrong_bit_is_no_metric() {
        let provenance = Provenance { agent: "task".into(), source: String::new(), origins: [Origin::Log].into() };
        let metric = Metric { name: "load".into(), value: 0.25, unit: String::new(), updated: 7, provenance };
        let row = encode_metric(&metric);
        assert_eq!(decode_metric(&row), Some(metric));
        for bit in 0..row.len() * 8 {
            let mut damaged = row.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_metric(&damaged), None, "bit {bit}");
        }
        assert_eq!((decode_metric(&row[..7]), decode_metric(&[])), (None, None));
    }

    proptest! {
        #[test]
        fn an_item_reads_back_as_it_was_written(id: u64, created in 0..i64::MAX, text in ".{0,200}", behind: [u8; 5]) {
            let item = item(id, created, &text);
            let mut row = encode(&item).unwrap();
            prop_assert_eq!(decode(&row), Some(item.clone()));
            let head = head(&row).unwrap();
            prop_assert_eq!((head.id, head.created, head.kind, head.tier), (id, created, Kind::Knowledge, Tier::LongTerm));
            let length = row.len();
            row.extend(behind);
            prop_assert_eq!(carve(&row), Some((item, length)));
            prop_assert_eq!(decode(&row), None);
        }

        #[test]
        fn a_changed_bit_is_seen(at: prop::sample::Index, bit in 0..8u32) {
            let mut row = encode(&item(7, 1, "what is known")).unwrap();
            let at = at.index(row.len());
            row[at] ^= 1 << bit;
            prop_assert_eq!(decode(&row), None);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let row: Vec<u8> = MAGIC.into_iter().chain(bytes).collect();
            let _ = (decode(&row), carve(&row), head(&row));
        }
    }

    #[test]
    fn an_item_beyond_the_limit_is_refused_with_the_limit() {
        let error = encode(&item(1, 1, &"x".repeat(ITEM))).unwrap_err().to_string();
        assert!(error.ends_with("the most is 262144"), "{error}");
    }
}
