//! Attributes of `/sys`: small files, many of which exist on some machines only.

use std::{fs, str::FromStr};

use crate::{access::Access, host::Host, text::plain};

/// Longest text of an attribute that is shown, in characters.
const TEXT_MAX: usize = 128;

/// A folder of `/sys`.
#[derive(Clone, Copy)]
pub struct Folder<'a> {
    host: &'a Host,
    path: &'a str,
}

/// Entries of `/sys/class` and `/sys/bus` are links to the devices, which must be visible too.
pub fn visible(access: Access, folder: &str) -> Access {
    access.sees(folder).sees("/sys/devices")
}

impl<'a> Folder<'a> {
    /// The folder at `path`.
    pub fn new(host: &'a Host, path: &'a str) -> Self {
        Folder { host, path }
    }

    /// An attribute's text, without what would draw lines of its own; `None` where there is none or it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        let line = self.host.line(format!("{}/{name}", self.path))?;
        // Device trees end their texts with a zero byte.
        let text = plain(line.trim_end_matches('\0').trim(), TEXT_MAX);
        (!text.is_empty()).then_some(text)
    }

    /// An attribute that is a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// An attribute that is a number in hexadecimal digits, with `0x` or without.
    pub fn hexadecimal(&self, name: &str) -> Option<u32> {
        let text = self.text(name)?;
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    }

    /// Whether an attribute is 1.
    pub fn is_set(&self, name: &str) -> bool {
        self.text(name).as_deref() == Some("1")
    }

    /// Last part of where a link leads: the name of a device's driver.
    pub fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.host.path(format!("{}/{name}", self.path))).ok()?;
        Some(plain(&target.file_name()?.to_string_lossy(), TEXT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn attributes_are_read_as_what_they_are() {
        let system = FakeInit::start(&[]);
        system.file("/sys/a/vendor", "0x1af4\n");
        system.file("/sys/a/size", "512\n");
        system.file("/sys/a/ro", "1\n");
        system.file("/sys/a/model", "Board\nof\x1b mine\0");
        system.file("/sys/a/empty", "\n");
        let host = system.host();
        let folder = Folder::new(&host, "/sys/a");
        assert_eq!((folder.hexadecimal("vendor"), folder.number::<u64>("size")), (Some(0x1af4), Some(512)));
        assert_eq!((folder.number::<u8>("size"), folder.text("empty"), folder.text("none")), (None, None, None));
        assert_eq!(folder.text("model").as_deref(), Some("Board\u{FFFD}of\u{FFFD} mine"));
        assert!(folder.is_set("ro") && !folder.is_set("size") && folder.link("driver").is_none());
    }
}
