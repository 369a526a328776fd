//! The kernel command line, as far as it concerns init.

use std::fmt;
use std::path::PathBuf;

/// Where the root file system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `aios.root=PARTLABEL=<label>`: a partition by its name in the partition table.
    PartLabel(String),
    /// `aios.root=PARTUUID=<uuid>`: a partition by its unique id, in any case.
    PartUuid(String),
    /// `aios.root=/dev/<name>`: a block device by its kernel name.
    Device(String),
    /// `aios.live=<path>`: a file on whichever ISO 9660 medium carries it.
    Live(PathBuf),
}

/// What init takes from the kernel command line; everything else there is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cmdline {
    /// Root file system; `None` where neither `aios.root` nor `aios.live` is given.
    pub root: Option<Root>,
    /// `aios.slot=`: name of the booted slot, `a` or `b`.
    pub slot: Option<String>,
    /// `aios.shell`: whoever wrote the command line allows the emergency shell on the console.
    pub shell: bool,
}

/// A parameter that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel command line: {parameter}: {reason}")]
pub struct CmdlineError {
    parameter: String,
    reason: &'static str,
}

impl Cmdline {
    /// Reads `/proc/cmdline`.
    pub fn read() -> Result<Self, CmdlineError> {
        match std::fs::read_to_string("/proc/cmdline") {
            Ok(text) => Self::parse(&text),
            Err(_) => {
                Err(CmdlineError { parameter: "/proc/cmdline".into(), reason: "can't be read; is /proc mounted?" })
            }
        }
    }

    /// Reads a command line; of a parameter given twice the last one counts, as in the kernel.
    pub fn parse(text: &str) -> Result<Self, CmdlineError> {
        let mut parsed = Cmdline::default();
        for word in words(text) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            match key {
                "aios.root" => parsed.root = Some(root(&word, value)?),
                "aios.live" => parsed.root = Some(live(&word, value)?),
                "aios.slot" => parsed.slot = Some(value.to_owned()),
                "aios.shell" => parsed.shell = !matches!(value, "0" | "no" | "false"),
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether the system runs from a live medium, with nothing of it on a disk.
    pub fn is_live(&self) -> bool {
        matches!(self.root, Some(Root::Live(_)))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Root::PartLabel(label) => write!(f, "PARTLABEL={label}"),
            Root::PartUuid(uuid) => write!(f, "PARTUUID={uuid}"),
            Root::Device(name) => write!(f, "/dev/{name}"),
            Root::Live(path) => write!(f, "a live medium with {}", path.display()),
        }
    }
}

fn root(word: &str, value: &str) -> Result<Root, CmdlineError> {
    let error = |reason| CmdlineError { parameter: word.to_owned(), reason };
    match value.split_once('=') {
        Some((_, "")) => Err(error("the name after the second '=' is missing")),
        Some(("PARTLABEL", label)) => Ok(Root::PartLabel(label.to_owned())),
        Some(("PARTUUID", uuid)) => Ok(Root::PartUuid(uuid.to_owned())),
        _ => match value.strip_prefix("/dev/") {
            Some(name) if !name.is_empty() && !name.contains('/') => Ok(Root::Device(name.to_owned())),
            _ => Err(error("use PARTLABEL=<label>, PARTUUID=<uuid> or /dev/<name>")),
        },
    }
}

fn live(word: &str, value: &str) -> Result<Root, CmdlineError> {
    let plain = value.starts_with('/') && !value.split('/').any(|part| part == "..");
    match plain {
        true => Ok(Root::Live(value.into())),
        false => Err(CmdlineError { parameter: word.to_owned(), reason: "use an absolute path on the medium" }),
    }
}

/// Splits at blanks outside double quotes and drops the quotes, as the kernel does. What stands behind `--` is for
/// another init.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars().chain(std::iter::once(' ')) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if word == "--" {
                    return words;
                }
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.trim().is_empty() {
        words.push(word.trim_end().to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_disk_boot_names_its_root_partition_and_slot() {
        let parsed = Cmdline::parse("console=tty0 aios.root=PARTLABEL=root-a aios.slot=a quiet\n").unwrap();
        assert_eq!(parsed.root, Some(Root::PartLabel("root-a".into())));
        assert_eq!(parsed.slot.as_deref(), Some("a"));
        assert!(!parsed.shell && !parsed.is_live());
    }

    #[test]
    fn a_live_boot_names_a_file_on_the_medium() {
        let parsed = Cmdline::parse("aios.live=/aios/rootfs.erofs aios.shell").unwrap();
        assert_eq!(parsed.root, Some(Root::Live("/aios/rootfs.erofs".into())));
        assert!(parsed.shell && parsed.is_live());
    }

    #[test]
    fn the_last_of_two_parameters_counts_and_what_follows_two_dashes_does_not() {
        let parsed = Cmdline::parse("aios.root=/dev/vda aios.root=PARTUUID=AB-1 aios.shell aios.shell=0 -- aios.shell");
        assert_eq!(parsed.unwrap(), Cmdline { root: Some(Root::PartUuid("AB-1".into())), ..Cmdline::default() });
    }

    #[test]
    fn quotes_keep_blanks_inside_a_value() {
        let parsed = Cmdline::parse("dyndbg=\"file a b +p; aios.shell\" aios.root=\"PARTLABEL=my root\"").unwrap();
        assert_eq!(parsed, Cmdline { root: Some(Root::PartLabel("my root".into())), ..Cmdline::default() });
    }

    #[test]
    fn a_root_that_names_nothing_is_refused_with_its_parameter() {
        for bad in ["aios.root=", "aios.root=LABEL=x", "aios.root=PARTLABEL=", "aios.root=/dev/", "aios.root=/dev/a/b"]
        {
            assert!(Cmdline::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
        for bad in ["aios.live=", "aios.live=rootfs", "aios.live=/a/../../etc"] {
            assert!(Cmdline::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_makes_the_parser_panic(text in "[ \"=a-z./-]{0,60}") {
            let _ = Cmdline::parse(&text);
        }
    }
}
