//! Frequency and sleep.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::{Options, Problem, absent, failed};

pub fn governor(_: &Options) -> Result<String, Problem> {
    let read = |name: &str| fs::read_to_string(format!("/sys/devices/system/cpu/cpufreq/policy0/{name}"));
    let Ok(governor) = read("scaling_governor") else {
        return absent("the processor's frequency can't be set (a virtual machine, or no driver)");
    };
    let (governor, driver) = (governor.trim(), read("scaling_driver").unwrap_or_default());
    // These two hold one frequency, whatever the load is.
    if matches!(governor, "powersave" | "userspace") && !driver.contains("pstate") {
        return failed(format!("the governor is {governor}, which does not follow the load"));
    }
    Ok(format!("{governor} ({})", driver.trim()))
}

const SLEEP: Duration = Duration::from_secs(3);

/// Sleeps until the real-time clock wakes the machine, and counts how long its monotonic clock stood.
pub fn suspend(options: &Options) -> Result<String, Problem> {
    if !options.suspend {
        return absent("only when asked for: the machine would sleep for some seconds");
    }
    let states =
        fs::read_to_string("/sys/power/state").map_err(|_| Problem::Absent("the kernel can't suspend".into()))?;
    let Some(state) = ["mem", "freeze"].into_iter().find(|state| states.split_whitespace().any(|s| s == *state)) else {
        return absent("the kernel can't suspend");
    };
    let alarm = "/sys/class/rtc/rtc0/wakealarm";
    if fs::metadata(alarm).is_err() {
        return absent("no real-time clock can wake the machine");
    }
    fs::write(alarm, "0")
        .and_then(|()| fs::write(alarm, format!("+{}", SLEEP.as_secs())))
        .map_err(Problem::io(alarm))?;
    let (asleep, started) = (time_asleep(), Instant::now());
    fs::write("/sys/power/state", state).map_err(Problem::io(format_args!("/sys/power/state = {state}")))?;
    let slept = time_asleep().saturating_sub(asleep);
    if slept.is_zero() && started.elapsed() < SLEEP / 2 {
        return failed(format!("{state}: the machine came back at once"));
    }
    // Devices must work again: a timer is one that all others need.
    thread::sleep(Duration::from_millis(10));
    Ok(format!("{state}: slept {:.1} s and woke", slept.as_secs_f64()))
}

/// CLOCK_BOOTTIME counts while the machine sleeps, CLOCK_MONOTONIC does not.
fn time_asleep() -> Duration {
    let read = |clock| {
        let now = clock_gettime(clock);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}
