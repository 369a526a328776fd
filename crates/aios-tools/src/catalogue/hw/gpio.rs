//! `hw.gpio`

use std::{fs::File, io, os::fd::AsFd};

use rustix::ioctl::{Getter, Updater, ioctl, opcode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Bounded,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

/// Magic number of the GPIO character device's requests (include/uapi/linux/gpio.h).
const GPIO: u8 = 0xB4;

/// `struct gpiochip_info`.
#[repr(C)]
struct ChipInfo {
    name: [u8; 32],
    label: [u8; 32],
    lines: u32,
}

/// `struct gpio_v2_line_info`.
#[repr(C)]
struct LineInfo {
    name: [u8; 32],
    consumer: [u8; 32],
    offset: u32,
    attribute_count: u32,
    flags: u64,
    attributes: [[u64; 2]; 10],
    padding: [u32; 4],
}

type GetChipInfo = Getter<{ opcode::read::<ChipInfo>(GPIO, 0x01) }, ChipInfo>;
type GetLineInfo<'a> = Updater<'a, { opcode::read_write::<LineInfo>(GPIO, 0x05) }, LineInfo>;

const _: () = assert!(size_of::<ChipInfo>() == 68 && size_of::<LineInfo>() == 256);

pub struct Gpio;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Number of the chip, 0 to 63: `/dev/gpiochip0` is 0.
    #[serde(default)]
    chip: Bounded<0, 63, 0>,
    /// Lines in the answer at most, 1 to 512.
    #[serde(default)]
    limit: Bounded<1, 512, 64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The kernel's name of the chip.
    name: String,
    /// What chip it is.
    label: String,
    /// Lines by number.
    lines: Vec<Line>,
    /// How many there are.
    total: u32,
    /// Whether some are left out.
    truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Line {
    /// Number on the chip.
    line: u32,
    /// Name, where the board has given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Who uses it; absent for a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_by: Option<String>,
    /// `input` or `output`.
    direction: &'static str,
    /// Whether 0 volt means active.
    active_low: bool,
    /// `pull-up`, `pull-down`, `disabled`; absent where it is as the chip has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<&'static str>,
}

impl Tool for Gpio {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.gpio",
        description: "Shows the lines of a GPIO chip: names, who uses them, direction and bias. It changes nothing. \"unsupported\" where there is no such chip.",
        examples: &[
            Example { goal: "which pins are in use", arguments: "{}" },
            Example { goal: "the first 8 lines of the second chip", arguments: r#"{"chip": 1, "limit": 8}"# },
        ],
        needs: &["hw:read:gpiochip{chip}"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let chip = input.chip.get();
        Access::needs(format!("hw:read:gpiochip{chip}")).opens(format!("/dev/gpiochip{chip}"))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let path = format!("/dev/gpiochip{}", input.chip.get());
        let device = File::open(host.path(&path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                ToolError::new(Code::Unsupported, format!("there is no {path}: this device has no such GPIO chip"))
            }
            _ => ToolError::of_io(&path, &error),
        })?;
        let failed = |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::NOTTY => ToolError::new(Code::Unsupported, format!("{path} is no GPIO chip")),
            errno => ToolError::of_io(&path, &errno.into()),
        };
        let chip = chip_info(&device).map_err(failed)?;
        let shown = chip.lines.min(u32::try_from(input.limit.get()).unwrap_or(u32::MAX));
        let lines = (0..shown).map(|number| line_info(&device, number).map(|info| line(&info)));
        Ok(Output {
            name: text(&chip.name).unwrap_or_default(),
            label: text(&chip.label).unwrap_or_default(),
            lines: lines.collect::<Result<_, _>>().map_err(failed)?,
            total: chip.lines,
            truncated: shown < chip.lines,
        })
    }
}

fn chip_info(device: impl AsFd) -> rustix::io::Result<ChipInfo> {
    // SAFETY: GPIO_GET_CHIPINFO_IOCTL fills a `gpiochip_info`, which `ChipInfo` is, and which any bytes are valid for.
    unsafe { ioctl(device, GetChipInfo::new()) }
}

fn line_info(device: impl AsFd, number: u32) -> rustix::io::Result<LineInfo> {
    let mut info = LineInfo {
        name: [0; 32],
        consumer: [0; 32],
        offset: number,
        attribute_count: 0,
        flags: 0,
        attributes: [[0; 2]; 10],
        padding: [0; 4],
    };
    // SAFETY: GPIO_V2_GET_LINEINFO_IOCTL reads and fills a `gpio_v2_line_info`, which `LineInfo` is, and which any bytes are
    // valid for.
    unsafe { ioctl(device, GetLineInfo::new(&mut info)) }?;
    Ok(info)
}

/// A text that ends with a zero byte; `None` for an empty one.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (end > 0).then(|| plain(&String::from_utf8_lossy(&bytes[..end]), 32))
}

/// Flags: `GPIO_V2_LINE_FLAG_*`.
fn line(info: &LineInfo) -> Line {
    let has = |bit: u32| info.flags & (1 << bit) != 0;
    Line {
        line: info.offset,
        name: text(&info.name),
        used_by: has(0).then(|| text(&info.consumer).unwrap_or_else(|| "kernel".into())),
        direction: if has(3) { "output" } else { "input" },
        active_low: has(1),
        bias: [(8, "pull-up"), (9, "pull-down"), (10, "disabled")]
            .into_iter()
            .find_map(|(bit, word)| has(bit).then_some(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn flags_are_put_into_words() {
        let mut info = LineInfo {
            name: [0; 32],
            consumer: [b'x'; 32],
            offset: 4,
            attribute_count: 0,
            flags: 0b1_0000_1011,
            attributes: [[0; 2]; 10],
            padding: [0; 4],
        };
        info.name[..3].copy_from_slice(b"LED");
        let expected = Line {
            line: 4,
            name: Some("LED".into()),
            used_by: Some("x".repeat(32)),
            direction: "output",
            active_low: true,
            bias: Some("pull-up"),
        };
        assert_eq!(line(&info), expected);
        info.flags = 1 << 2;
        assert_eq!((line(&info).used_by, line(&info).direction), (None, "input"));
    }

    #[test]
    fn a_device_without_chips_and_a_node_that_is_none_are_unsupported() {
        let system = FakeInit::start(&[]);
        system.file("/dev/gpiochip1", "no chip");
        for chip in [0, 1] {
            let input = Input { chip: chip.try_into().expect("chip"), limit: Bounded::default() };
            assert_eq!(Gpio::run(input, &system.host()).map_err(|error| error.code).err(), Some(Code::Unsupported));
        }
    }
}
