//! What candle needs to be used safely.

/// Exit code of a defect in the program (`EX_SOFTWARE`).
const EXIT_SOFTWARE: i32 = 70;

/// Ends the process when a panic leaves candle: its thread pool is unusable from then on, for every request, and only a
/// new process has a new one. The supervisor starts it.
pub(super) struct PoolGuard;

impl Drop for PoolGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("inference library panicked, process ends to be started again");
            std::process::exit(EXIT_SOFTWARE);
        }
    }
}

/// Whether candle's products with blocks run on this processor: on arm64 they are dot-product instructions, which candle
/// 0.11 uses without looking, and which the Raspberry Pi 3 and 4 have not.
pub(super) fn has_block_products() -> bool {
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(target_arch = "aarch64"))]
    true
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_panic_of_the_inference_library_ends_the_process_with_70() {
        const PANIC: &str = "AIOS_TEST_PANIC";
        const NAME: &str = "engine::pool_guard::tests::a_panic_of_the_inference_library_ends_the_process_with_70";
        if std::env::var_os(PANIC).is_some() {
            // What catches panics for a slot must not hide this one.
            let _ = std::panic::catch_unwind(|| {
                let _guard = PoolGuard;
                panic!("as candle might");
            });
            unreachable!("the guard ended the process");
        }
        let program = std::env::current_exe().expect("the test binary has a path");
        let output = Command::new(program).args(["--exact", NAME]).env(PANIC, "1").output().expect("it runs again");
        assert_eq!(output.status.code(), Some(EXIT_SOFTWARE), "{output:?}");
    }
}
