//! Starts that fail: each names the stage at which it failed.

use aios_core::control::UnitState;

use crate::harness::Plan;

fn failure(plan: Plan) -> String {
    let system = plan.boot();
    let reason = system.wait_for_state("service", UnitState::Failed).failure.unwrap();
    system.wait_for_line("unit service: Failed (");
    reason
}

const NEVER: &str = "restart = \"never\"";

#[test]
fn a_missing_program_fails_at_exec() {
    let plan = Plan::new().unit("service", &format!("command = [\"/no/such/program\"]\n{NEVER}"));
    assert_eq!(failure(plan), "exec: /no/such/program: No such file or directory");
}

#[test]
fn an_unknown_user_fails_at_user() {
    let reason = failure(Plan::new().script("service", "exec sleep 1000", &format!("user = \"ghost\"\n{NEVER}")));
    assert!(reason.starts_with("user: no user ghost in "), "{reason}");
}

#[test]
fn a_state_directory_that_is_a_file_fails_at_directories() {
    let plan = Plan::new().write("var/lib/aios/taken", "").script(
        "service",
        "exec sleep 1000",
        &format!("state-directory = \"taken\"\n{NEVER}"),
    );
    let reason = failure(plan);
    assert!(reason.starts_with("directories: ") && reason.contains("var/lib/aios/taken"), "{reason}");
}

#[test]
fn a_secret_that_cannot_be_read_fails_at_credentials() {
    let plan = Plan::new();
    std::fs::create_dir(plan.path("var/lib/aios/config/secrets/token")).unwrap();
    let reason = failure(plan.script("service", "exec sleep 1000", &format!("credentials = [\"token\"]\n{NEVER}")));
    assert!(reason.starts_with("credentials: ") && reason.contains("secrets/token"), "{reason}");
}

#[test]
fn an_impossible_limit_fails_at_limits() {
    // Above the kernel's own bound on open files of one process (fs.nr_open).
    let keys = format!("{NEVER}\n[limits]\nopen-files = 99999999999");
    let reason = failure(Plan::new().script("service", "exec sleep 1000", &keys));
    assert!(reason.starts_with("limits: open-files: "), "{reason}");
}

#[test]
fn an_end_before_readiness_is_told_with_its_status() {
    let reason = failure(Plan::new().script("service", "exit 7", &format!("ready = \"notify\"\n{NEVER}")));
    assert_eq!(reason, "exited before ready: exited with status 7");
    let reason = failure(Plan::new().script("service", "kill -SEGV $$", &format!("ready = \"exited\"\n{NEVER}")));
    assert_eq!(reason, "exited before ready: killed by signal 11");
}
