//! Interrupts, timers and clocks.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    Options, Problem, failed,
    kernel::{self, Policy},
    milliseconds,
};

/// How late a timer may fire, half of the time. A kernel without high-resolution timers is later than this on average.
const TIMER_ERROR: Duration = Duration::from_millis(2);

/// Every processor must take interrupts while a thread that is bound to it sleeps by a timer.
pub fn interrupts(_: &Options) -> Result<String, Problem> {
    let cpus = kernel::online_cpus().map_err(Problem::io("the list of processors"))?;
    let before = interrupts_by_cpu()?;
    for cpu in &cpus {
        let sleeper = thread::scope(|scope| scope.spawn(|| sleep_on(*cpu)).join());
        sleeper
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
            .map_err(Problem::io(format_args!("a thread on processor {cpu}")))?;
    }
    let after = interrupts_by_cpu()?;
    if before.len() != cpus.len() || after.len() != cpus.len() {
        return failed(format!("/proc/interrupts has {} columns for {} processors", after.len(), cpus.len()));
    }
    let taken: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    match cpus.iter().zip(&taken).find(|(_, taken)| **taken == 0) {
        Some((cpu, _)) => failed(format!("processor {cpu} took no interrupt while a timer ran on it")),
        None => {
            Ok(cpus.iter().zip(&taken).map(|(cpu, taken)| format!("CPU {cpu}: {taken}")).collect::<Vec<_>>().join(", "))
        }
    }
}

fn sleep_on(cpu: usize) -> std::io::Result<()> {
    kernel::run_on(cpu)?;
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn interrupts_by_cpu() -> Result<Vec<u64>, Problem> {
    fs::read_to_string("/proc/interrupts").map_err(Problem::io("/proc/interrupts")).map(|table| sum_columns(&table))
}

/// `/proc/interrupts`: a line of `CPU0 CPU1 ...`, then a line an interrupt: `name: count count ... text`.
fn sum_columns(table: &str) -> Vec<u64> {
    let mut lines = table.lines();
    let columns = lines.next().map_or(0, |header| header.split_whitespace().count());
    let mut sums = vec![0; columns];
    for line in lines {
        let counts: Vec<u64> =
            line.split_whitespace().skip(1).take(columns).map_while(|word| word.parse().ok()).collect();
        // ERR and MIS have one count for the machine.
        if counts.len() == columns {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    sums
}

/// A thread of real-time priority sleeps 1 ms at a time.
pub fn timers(_: &Options) -> Result<String, Problem> {
    let resolution = rustix::time::clock_getres(ClockId::Monotonic);
    if (resolution.tv_sec, resolution.tv_nsec) != (0, 1) {
        return failed(format!("the timers' resolution is {} ns: no high-resolution timers", resolution.tv_nsec));
    }
    let measured = thread::spawn(|| {
        kernel::set_policy(Policy::Fifo(50)).map_err(Problem::io("real-time priority"))?;
        let nap = Duration::from_millis(1);
        Ok((0..200)
            .map(|_| {
                let start = Instant::now();
                thread::sleep(nap);
                start.elapsed() - nap
            })
            .collect::<Vec<_>>())
    });
    let mut late: Vec<Duration> = measured.join().unwrap_or_else(|_| failed("the measuring thread panicked"))?;
    late.sort_unstable();
    let (median, worst) = (late[late.len() / 2], late[late.len() - 1]);
    let told = format!("200 of 1 ms: late by {} (median), {} (worst)", milliseconds(median), milliseconds(worst));
    if median > TIMER_ERROR { failed(told) } else { Ok(told) }
}

/// A thread on each processor reads the clock, and none may see a time before the latest that any has seen.
pub fn monotonic(_: &Options) -> Result<String, Problem> {
    let cpus = kernel::online_cpus().map_err(Problem::io("the list of processors"))?;
    let clocks = [
        (ClockId::Monotonic, "CLOCK_MONOTONIC"),
        (ClockId::Boottime, "CLOCK_BOOTTIME"),
        (ClockId::MonotonicRaw, "CLOCK_MONOTONIC_RAW"),
    ];
    let mut reads = 0;
    for (clock, name) in clocks {
        let (count, backwards) = read_everywhere(clock, &cpus)?;
        if backwards > 0 {
            return failed(format!("{name} ran backwards by up to {backwards} ns between processors"));
        }
        reads += count;
    }
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.unwrap_or_else(|_| "unknown".into());
    Ok(format!("{reads} reads on {} processors, clock source {}", cpus.len(), source.trim()))
}

/// Number of reads, and the largest step backwards in ns.
fn read_everywhere(clock: ClockId, cpus: &[usize]) -> Result<(u64, i64), Problem> {
    let (latest, backwards, stop) = (AtomicI64::new(0), AtomicI64::new(0), AtomicBool::new(false));
    let read = |cpu: usize| {
        kernel::run_on(cpu)?;
        let mut reads = 0;
        while !stop.load(Ordering::Relaxed) {
            // The order of these two is what is tested: what was seen was seen before the clock is read.
            let seen = latest.load(Ordering::SeqCst);
            let now = clock_gettime(clock);
            let now = now.tv_sec * 1_000_000_000 + now.tv_nsec;
            backwards.fetch_max(seen - now, Ordering::SeqCst);
            latest.fetch_max(now, Ordering::SeqCst);
            reads += 1;
        }
        Ok(reads)
    };
    let counts: std::io::Result<Vec<u64>> = thread::scope(|scope| {
        let readers: Vec<_> = cpus.iter().map(|cpu| scope.spawn(move || read(*cpu))).collect();
        thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| Err(std::io::Error::other("it panicked"))))
            .collect()
    });
    let counts = counts.map_err(Problem::io("a thread that reads the clock"))?;
    Ok((counts.iter().sum(), backwards.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_interrupts_are_summed_and_counts_of_the_whole_machine_left_out() {
        let table = "           CPU0       CPU1\n  1:          3          4   IO-APIC   1-edge      i8042\nLOC:         10         20   Local timer interrupts\nERR:          7\n";
        assert_eq!(sum_columns(table), [13, 24]);
    }
}
