//! Tables that a PC's firmware leaves about the machine (DMTF DSP0134, System Management BIOS). They are bytes of unknown
//! quality: each length is checked.

/// One slot for memory (structure type 17).
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Where on the board.
    pub place: String,
    /// Size in bytes; 0 for an empty slot.
    pub size_bytes: u64,
    /// Transfers a second, in millions, that it is set to; `None` where unknown.
    pub speed_mt_per_s: Option<u32>,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// The maker's name of it.
    pub part: Option<String>,
}

const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// The slots for memory in `table`, as far as it can be read.
pub fn memory_slots(table: &[u8]) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut rest = table;
    while let Some((structure, texts, next)) = split(rest) {
        match structure[0] {
            END => break,
            MEMORY_DEVICE => slots.extend(slot(structure, texts)),
            _ => {}
        }
        rest = next;
    }
    slots
}

/// The first structure with its length, the texts after it, and what follows. The texts end with two zero bytes.
fn split(table: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let length = usize::from(*table.get(1)?);
    if length < 4 {
        return None;
    }
    let (structure, rest) = table.split_at_checked(length)?;
    let end = rest.windows(2).position(|two| two == [0, 0])?;
    Some((structure, &rest[..end], &rest[end + 2..]))
}

fn slot(structure: &[u8], texts: &[u8]) -> Option<Slot> {
    let byte = |at: usize| structure.get(at).copied();
    let word = |at: usize| Some(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
    let long = |at: usize| Some(u32::from(word(at)?) | u32::from(word(at + 2)?) << 16);
    let text = |at: usize| {
        let number = usize::from(byte(at)?).checked_sub(1)?;
        let text = String::from_utf8_lossy(texts.split(|byte| *byte == 0).nth(number)?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let mib = 1_u64 << 20;
    let size_bytes = match word(0x0c)? {
        // Unknown.
        0xffff => return None,
        // The size did not fit and is in MiB in a field of its own.
        0x7fff => u64::from(long(0x1c)? & 0x7fff_ffff) * mib,
        // In KiB.
        size if size & 0x8000 != 0 => u64::from(size & 0x7fff) << 10,
        size => u64::from(size) * mib,
    };
    let known = |speed: u16| (speed != 0 && speed != 0xffff).then_some(u32::from(speed));
    Some(Slot {
        place: text(0x10).unwrap_or_default(),
        size_bytes,
        speed_mt_per_s: word(0x20).and_then(known).or_else(|| word(0x15).and_then(known)),
        manufacturer: text(0x17),
        part: text(0x1a),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut device = vec![0; 0x22];
        (device[0], device[1]) = (MEMORY_DEVICE, 0x22);
        device[0x0c..0x0e].copy_from_slice(&8192_u16.to_le_bytes());
        (device[0x10], device[0x17], device[0x1a]) = (1, 2, 9);
        device[0x15..0x17].copy_from_slice(&3200_u16.to_le_bytes());
        device[0x20..0x22].copy_from_slice(&2933_u16.to_le_bytes());
        let mut large = device.clone();
        large[0x0c..0x0e].copy_from_slice(&0x7fff_u16.to_le_bytes());
        large[0x1c..0x20].copy_from_slice(&65_536_u32.to_le_bytes());
        large[0x20..0x22].fill(0);
        let other = [1, 4, 0, 0, b'x', 0, 0];
        let end = [END, 4, 0, 0, 0, 0];
        let texts = b"DIMM A1\0Maker \0\0";
        [&other[..], &device, texts, &large, texts, &end, &device].concat()
    }

    #[test]
    fn slots_are_read_up_to_the_end() {
        let slots = memory_slots(&table());
        let first = Slot {
            place: "DIMM A1".into(),
            size_bytes: 8 << 30,
            speed_mt_per_s: Some(2933),
            manufacturer: Some("Maker".into()),
            part: None,
        };
        let second = Slot { size_bytes: 64 << 30, speed_mt_per_s: Some(3200), ..first.clone() };
        assert_eq!(slots, [first, second]);
    }

    #[test]
    fn no_cut_or_changed_table_makes_the_parser_panic() {
        let whole = table();
        for end in 0..whole.len() {
            assert!(memory_slots(&whole[..end]).len() <= 2);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = memory_slots(&changed);
            }
        }
    }
}
