//! `bench-boot`: from QEMU's start to the kernel, PID 1, all units Ready, and the model's first token.

use std::{
    fs,
    time::{Duration, Instant},
};

use aios_vm::{Accelerator, Architecture, RunDir, Vm, VmBuilder, console};
use anyhow::Context as _;
use serde::Serialize;

use super::Build;

#[derive(clap::Args)]
pub struct Options {
    /// Boots of each kind; the median counts.
    #[arg(short, default_value_t = 5)]
    n: usize,
}

/// A line of `output/bench/boot.json`. Boots have no peer that would boot the same thing.
#[derive(Serialize)]
struct Figure {
    case: String,
    unit: &'static str,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<String>,
    ratio: Option<f64>,
}

/// One boot's times, in the order of [`SPANS`].
#[derive(Clone, Copy)]
struct Times([Duration; 5]);

const SPANS: [&str; 5] = [
    "QEMU start to kernel",
    "QEMU start to PID 1",
    "QEMU start to all units Ready",
    "QEMU start to first token",
    "kernel start to all units Ready",
];
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(build: &Build, options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.n > 0, "-n 0 measures nothing");
    let images = super::images(build);
    let command_line = command_line(build.board.architecture);
    let kernel = images.direct_kernel()?.kernel;
    let kernel = kernel.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let choice = super::accelerator(build)?;
    println!("QEMU with {}: {}", choice.accelerator, choice.reason);
    let run_dir = RunDir::open(super::run_dir(build)?.path().join("bench"))?;
    if run_dir.disk().exists() {
        fs::remove_file(run_dir.disk())?;
    }
    let machine = || Vm::builder(&images, run_dir.path()).accelerator(choice.accelerator).keep_disk();
    let kinds: [(String, VmBuilder); 2] = [
        (format!("direct boot ({kernel}, {})", choice.accelerator), machine().direct_kernel(&command_line)),
        (format!("UEFI boot (qcow2, {})", choice.accelerator), machine()),
    ];
    let first =
        boot(machine().direct_kernel(&command_line), choice.accelerator).context("the first boot of the disk")?;
    println!("first boot, not counted because it makes the data partition: {}", first.line());
    let mut figures = Vec::new();
    for (name, builder) in kinds {
        let mut boots = Vec::new();
        for number in 1..=options.n {
            let times = boot(builder.clone(), choice.accelerator).with_context(|| format!("{name}, boot {number}"))?;
            println!("{name} {number}/{}: {}", options.n, times.line());
            boots.push(times);
        }
        let median = median(&boots);
        println!("{name} median: {}", median.line());
        figures.extend(median.figures(&name));
    }
    let bench = build.output.join("bench");
    fs::create_dir_all(&bench)?;
    let path = bench.join("boot.json");
    fs::write(&path, serde_json::to_string_pretty(&figures)? + "\n")?;
    fs::remove_file(run_dir.disk())?;
    println!("written to {}", path.display());
    Ok(())
}

/// What GRUB passes for slot a, on the serial console alone.
fn command_line(architecture: Architecture) -> String {
    format!("aios.root=PARTLABEL=root-a aios.slot=a console={} quiet", architecture.serial_console())
}

/// Boots once and asks for one token as soon as all units are Ready.
fn boot(builder: VmBuilder, accelerator: Accelerator) -> anyhow::Result<Times> {
    let patience = PATIENCE * accelerator.patience();
    let mut vm = builder.start()?;
    let started = vm.started();
    let stage_1 = vm.wait_console(console::STAGE_1, patience)?;
    let seen = started.elapsed();
    // Init stamps its lines with the kernel's clock, so the kernel's start is known without making it print.
    let age = console::stamp(&stage_1).with_context(|| format!("no time stamp on `{stage_1}`"))?;
    let kernel = seen.saturating_sub(age);
    vm.wait_console(console::PID_1, patience)?;
    let pid_1 = started.elapsed();
    vm.wait_console(console::ALL_READY, patience)?;
    let ready = started.elapsed();
    let mut first = None;
    vm.api().chat_stream("Hello", 1, |_| {
        first.get_or_insert_with(Instant::now);
    })?;
    let token = first.context("the model answered without a token")?.duration_since(started);
    // The disk is used again, and a boot after a cut would check it.
    vm.shut_down(patience)?;
    Ok(Times([kernel, pid_1, ready, token, ready.saturating_sub(kernel)]))
}

impl Times {
    fn line(&self) -> String {
        let parts = SPANS.iter().zip(self.0).map(|(span, time)| format!("{span} {:.2} s", time.as_secs_f64()));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn figures(&self, name: &str) -> impl Iterator<Item = Figure> {
        SPANS.iter().zip(self.0).map(move |(span, time)| Figure {
            case: format!("{name}: {span}"),
            unit: "s",
            ours: (time.as_secs_f64() * 1000.0).round() / 1000.0,
            peer: None,
            peer_name: None,
            ratio: None,
        })
    }
}

/// The median of each span by itself.
fn median(boots: &[Times]) -> Times {
    Times(std::array::from_fn(|span| {
        let mut times: Vec<Duration> = boots.iter().map(|boot| boot.0[span]).collect();
        times.sort();
        let middle = times.len() / 2;
        if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: u64) -> Times {
        Times([0, 1, 2, 3, 2].map(|more| Duration::from_secs(seconds + more)))
    }

    #[test]
    fn the_median_is_each_events_middle() {
        assert_eq!(median(&[times(9), times(1), times(5)]).0[0], Duration::from_secs(5));
        assert_eq!(median(&[times(2), times(1)]).0[0], Duration::from_millis(1500));
    }

    #[test]
    fn a_figure_without_a_peer_says_null() {
        let figures: Vec<Figure> = times(2).figures("direct boot").collect();
        let first = serde_json::to_value(&figures[0]).unwrap();
        let expected = serde_json::json!({
            "case": "direct boot: QEMU start to kernel", "unit": "s", "ours": 2.0,
            "peer": null, "peer_name": null, "ratio": null,
        });
        assert_eq!(first, expected);
    }
}
