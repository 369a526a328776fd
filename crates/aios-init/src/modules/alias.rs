//! `modules.alias`: shell patterns over the names that devices give themselves.

use std::collections::HashMap;
use std::ops::Range;

/// The patterns of `modules.alias`, grouped by bus so that a device is compared with its own bus only.
#[derive(Debug)]
pub struct AliasIndex {
    /// The file: tens of thousands of lines, too many to take each apart into strings of its own.
    text: String,
    /// Lines of `text` by bus.
    by_bus: HashMap<String, Vec<Range<usize>>>,
}

impl AliasIndex {
    /// Takes the text of `modules.alias`: lines `alias <pattern> <module>`, comments, and nothing else of interest.
    pub fn parse(text: String) -> Self {
        let mut by_bus: HashMap<String, Vec<Range<usize>>> = HashMap::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            if let Some((pattern, _)) = alias(line) {
                let bus = bus(pattern);
                match by_bus.get_mut(bus) {
                    Some(group) => group.push(start..end),
                    None => by_bus.entry(bus.to_owned()).or_default().push(start..end),
                }
            }
            start = end;
        }
        AliasIndex { text, by_bus }
    }

    /// The modules whose patterns match `device`, in the file's order.
    pub fn modules_for<'a>(&'a self, device: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        // A pattern whose bus part has a wildcard of its own is filed under the empty bus.
        let bus = bus(device);
        let groups = [self.by_bus.get(bus), self.by_bus.get("").filter(|_| !bus.is_empty())];
        let lines = groups.into_iter().flatten().flatten().filter_map(|line| alias(self.text.get(line.clone())?));
        lines.filter(move |(pattern, _)| matches(pattern.as_bytes(), device.as_bytes())).map(|(_, module)| module)
    }
}

/// Pattern and module of a line.
fn alias(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("alias ")?.trim_end().rsplit_once(' ')
}

/// What stands before the first `:` or, where a wildcard comes earlier or there is none, nothing.
fn bus(pattern: &str) -> &str {
    match pattern.find([':', '*', '?', '[', '\\']) {
        Some(end) if pattern.as_bytes()[end] == b':' => &pattern[..end],
        _ => "",
    }
}

/// Whether `text` matches the shell pattern (`*`, `?`, `[a-f]`, `[!a]`, `\x`), as `fnmatch(3)` without flags decides.
///
/// Linear in practice: of nested stars only the last is tried again.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        let step = match text.get(t) {
            None if p == pattern.len() => return true,
            None => return false,
            Some(&byte) => one(&pattern[p..], byte),
        };
        match (step, retry) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((after_star, from))) => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            (None, None) => return false,
        }
    }
}

/// Length of the pattern's first item if that item matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match class(pattern, byte) {
            Some((used, hit)) => hit.then_some(used),
            // A bracket that is never closed stands for itself.
            None => (byte == b'[').then_some(1),
        },
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        &plain => (plain == byte).then_some(1),
    }
}

/// Length of a bracket expression and whether `byte` is in it; `None` when it has no end.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut hit) = (first, false);
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, hit != negated));
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                at += 2;
                high
            }
            _ => low,
        };
        hit |= (low..=high).contains(&byte);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "\
# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias virtio:d00000001v* virtio_net
alias virtio:d00000002v* virtio_blk
alias usb:v0BDAp8153d*dc*dsc*dp*icFFiscFFip00in* r8152
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias usb:v046DpC2[0-9]*d*dc*dsc*dp*ic*isc*ip*in* hid_lg
alias of:N*T*Cbrcm,bcm2835-sdhost bcm2835
alias of:N*T*Cbrcm,bcm2835-sdhostC* bcm2835
alias input:b*v*p*e*-e*1,*k*r*a*m*l*s*f*w* evdev
alias acpi*:PNP0C09:* battery_ec
alias fs-ext4 ext4
";

    fn found(alias: &str) -> Vec<String> {
        AliasIndex::parse(LINES.to_owned()).modules_for(alias).map(str::to_owned).collect()
    }

    #[test]
    fn devices_find_the_drivers_that_their_aliases_name() {
        assert_eq!(found("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"), ["virtio_pci"]);
        assert_eq!(found("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"), ["ahci"]);
        assert_eq!(found("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(found("usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00"), ["r8152"]);
        assert_eq!(found("usb:v046DpC216d0414dc00dsc00dp00ic03isc00ip00in00"), ["hid_lg"]);
        assert_eq!(found("of:NmmcT(null)Cbrcm,bcm2835-sdhost"), ["bcm2835"]);
        assert_eq!(found("input:b0011v0001p0001eAB41-e0,1,4,11,14,k71,72,ram4,l0,1,2,sfw"), ["evdev"]);
        assert_eq!(found("acpi:PNP0C09:"), ["battery_ec"]);
        assert_eq!(found("fs-ext4"), ["ext4"]);
    }

    #[test]
    fn a_device_that_no_driver_names_finds_none() {
        assert!(found("pci:v0000DEADd0000BEEFsv00000000sd00000000bc0Csc05i00").is_empty());
        assert!(found("virtio:d00000001").is_empty(), "the whole alias must match");
        assert!(found("").is_empty());
    }

    #[test]
    fn brackets_are_classes_with_ranges_and_negation() {
        for (pattern, text, expected) in [
            ("a[0-9]c", "a5c", true),
            ("a[!0-9]c", "a5c", false),
            ("a[]x]c", "a]c", true),
            ("a[a-]c", "a-c", true),
            ("a[b", "a[b", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*", "", true),
            ("**a*", "bab", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    proptest! {
        /// The oracle is the C library's own `fnmatch`.
        #[test]
        fn matching_agrees_with_the_c_library(
            pattern in "([ab:\\-*?]|\\[[ab]\\]|\\[[!^][a-b]\\]|\\[a-c\\]){0,8}",
            text in "[abc:\\-\\]]{0,8}",
        ) {
            let c_pattern = std::ffi::CString::new(pattern.clone()).unwrap();
            let c_text = std::ffi::CString::new(text.clone()).unwrap();
            // SAFETY: both arguments are NUL-terminated strings that outlive the call.
            let oracle = unsafe { libc::fnmatch(c_pattern.as_ptr(), c_text.as_ptr(), 0) } == 0;
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), oracle, "{} {}", pattern, text);
        }

        #[test]
        fn no_bytes_make_the_matcher_panic(
            pattern in prop::collection::vec(prop::sample::select(b"[]!^-*?\\a".to_vec()), 0..12),
            text in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let _ = matches(&pattern, &text);
        }
    }
}
