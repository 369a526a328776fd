//! The hardware watchdog: resets the machine when PID 1 no longer runs its loop.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

const DEVICE: &str = "/dev/watchdog";

/// `_IOWR('W', 6, int)` and `_IOR('W', 7, int)` of <linux/watchdog.h>.
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
const WDIOC_GETTIMEOUT: libc::c_ulong = 0x8004_5707;

/// Timeouts, longest first, for devices that can't count as far as asked. The Raspberry Pi's ends at 15 s.
const FALLBACKS: [u64; 4] = [30, 15, 10, 5];

/// How long the end of a shutdown may take, once the units are stopped, before the machine is reset.
const SHUTDOWN: Duration = Duration::from_secs(180);

/// An armed watchdog. Closed without its magic character, it goes on counting: PID 1 that ends resets the machine.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    timeout: Duration,
}

impl Watchdog {
    /// Arms the machine's watchdog. `None` when there is none, or when `timeout` is zero. A device that can't count so far
    /// is armed with the longest time it can.
    pub fn open(timeout: Duration) -> io::Result<Option<Self>> {
        Self::open_device(Path::new(DEVICE), timeout)
    }

    fn open_device(path: &Path, timeout: Duration) -> io::Result<Option<Self>> {
        if timeout.is_zero() {
            return Ok(None);
        }
        let device = match OpenOptions::new().write(true).open(path) {
            Ok(device) => device,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        let mut watchdog = Watchdog { device, timeout };
        watchdog.arm(timeout)?;
        watchdog.pet();
        Ok(Some(watchdog))
    }

    /// Starts the count anew.
    pub fn pet(&mut self) {
        // There is nothing better to do about a failure than what the watchdog does about it.
        let _ = self.device.write_all(b"\0");
    }

    /// How often to [`pet`](Watchdog::pet): two may be late before the machine is reset.
    pub fn interval(&self) -> Duration {
        self.timeout / 3
    }

    /// The timeout that the device accepted.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Stays armed for the end of a shutdown, with time for it: one that hangs ends in a reset, too.
    pub fn extend_for_shutdown(&mut self) {
        let _ = self.arm(SHUTDOWN.max(self.timeout));
        self.pet();
    }

    /// Sets the timeout, or the longest below it that the device takes.
    fn arm(&mut self, timeout: Duration) -> io::Result<()> {
        let wanted = timeout.as_secs().max(1);
        let candidates = std::iter::once(wanted).chain(FALLBACKS.into_iter().filter(|seconds| *seconds < wanted));
        for seconds in candidates {
            let mut accepted = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
            if self.ioctl(WDIOC_SETTIMEOUT, &mut accepted).is_ok() && accepted > 0 {
                self.timeout = Duration::from_secs(accepted.unsigned_abs().into());
                return Ok(());
            }
        }
        // Its timeout is fixed; what it is decides how often to pet.
        let mut fixed = 0;
        self.ioctl(WDIOC_GETTIMEOUT, &mut fixed)?;
        self.timeout = Duration::from_secs(u64::from(fixed.unsigned_abs().max(1)));
        Ok(())
    }

    fn ioctl(&self, request: libc::c_ulong, value: &mut libc::c_int) -> io::Result<()> {
        // SAFETY: the descriptor is open, and both requests read or write one `int`, which outlives the call.
        match unsafe { libc::ioctl(self.device.as_raw_fd(), request as _, std::ptr::from_mut(value)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_or_a_timeout_there_is_no_watchdog() {
        assert!(Watchdog::open_device(Path::new("/nonexistent/watchdog"), Duration::from_secs(30)).unwrap().is_none());
        assert!(Watchdog::open_device(Path::new("/dev/null"), Duration::ZERO).unwrap().is_none());
    }

    #[test]
    fn a_device_that_is_no_watchdog_is_refused() {
        let error = Watchdog::open_device(Path::new("/dev/null"), Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn three_pets_fit_into_a_timeout() {
        let device = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let watchdog = Watchdog { device, timeout: Duration::from_secs(30) };
        assert_eq!(watchdog.interval(), Duration::from_secs(10));
    }
}
