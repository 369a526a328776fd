//! Who a service is, what it may do and what it is given.

use aios_core::control::UnitState;

use crate::harness::{Plan, is_root};

/// Only root can become other users; others test what a user namespace with one user allows.
fn user() -> &'static str {
    if is_root() { "service" } else { "root" }
}

#[test]
fn a_service_starts_as_its_user_with_a_clean_environment() {
    let script = "id -u; id -G; umask; env | sort; grep -E '^(CapBnd|CapPrm|CapAmb|NoNewPrivs|SigBlk|SigIgn):' /proc/self/status; \
                  ls /proc/self/fd | tr '\\n' ' '; echo; ls -ld $STATE_DIRECTORY $RUNTIME_DIRECTORY; ps -o sid= -p $$; echo $$; echo done; exec sleep 1000";
    let keys = format!(
        "user = \"{}\"\ncapabilities = []\nruntime-directory = \"service\"\nstate-directory = \"service\"\n\
         [limits]\nopen-files = 99\n",
        user()
    );
    let system = Plan::new().script("service", script, &keys).boot();
    system.wait_for_log("service", "done");
    let log = system.output("service");
    let has = |line: &str| assert!(log.iter().any(|logged| logged == line), "no \"{line}\" in:\n{}", log.join("\n"));
    if is_root() {
        assert_eq!(log[0], "61234");
        assert_eq!(log[1].split(' ').collect::<std::collections::BTreeSet<_>>(), ["61235", "61236"].into());
        assert!(log.iter().any(|line| line.starts_with("drwx------") && line.contains("61234")), "{log:?}");
        assert!(log.iter().any(|line| line.starts_with("drwxr-xr-x") && line.contains("61234")), "{log:?}");
    }
    has("0022");
    has(&format!("USER={}", user()));
    has(&format!("STATE_DIRECTORY={}", system.path("var/lib/aios/service").display()));
    has(&format!("RUNTIME_DIRECTORY={}", system.path("run/aios/service").display()));
    has("CapBnd:\t0000000000000000");
    has("CapPrm:\t0000000000000000");
    has("NoNewPrivs:\t1");
    has("SigBlk:\t0000000000000000");
    has("SigIgn:\t0000000000000000");
    // PID 1 is in a container here.
    assert!(log.iter().any(|line| line.starts_with("container=")), "{log:?}");
    let allowed = [
        "container",
        "EVENTS",
        "HOME",
        "LOGNAME",
        "NOTIFY_SOCKET",
        "PATH",
        "PWD",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "USER",
        "_",
        "OLDPWD",
        "SHLVL",
    ];
    let variables = log.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    let foreign: Vec<&str> = variables.filter(|name| !allowed.contains(name)).collect();
    assert!(foreign.is_empty(), "leaked into the environment: {foreign:?}");
    // 0, 1, 2 and the one that lists the directory.
    assert!(log.iter().any(|line| line.starts_with("0 1 2 3 ") && !line.starts_with("0 1 2 3 4")), "{log:?}");
}

#[test]
fn a_capability_that_is_kept_is_effective_for_a_user_too() {
    let script = "grep -E '^Cap(Bnd|Eff|Amb):' /proc/self/status; echo done; exec sleep 1000";
    let keys = format!("user = \"{}\"\ncapabilities = [\"CAP_NET_BIND_SERVICE\"]", user());
    let system = Plan::new().script("service", script, &keys).boot();
    system.wait_for_log("service", "done");
    let log = system.output("service");
    for set in ["CapBnd", "CapEff", "CapAmb"] {
        assert!(log.contains(&format!("{set}:\t0000000000000400")), "{log:?}");
    }
}

#[test]
fn a_secret_reaches_the_unit_that_names_it_and_an_absent_one_is_no_error() {
    let script = "cat $CREDENTIALS_DIRECTORY/token; ls $CREDENTIALS_DIRECTORY; ls -l $CREDENTIALS_DIRECTORY/token; \
                  touch $CREDENTIALS_DIRECTORY/new 2>/dev/null || echo closed; echo done; exec sleep 1000";
    let keys = format!("user = \"{}\"\ncapabilities = []\ncredentials = [\"token\", \"absent\"]", user());
    let system = Plan::new()
        .write("var/lib/aios/config/secrets/token", "hunter2\n")
        .write("var/lib/aios/config/secrets/other", "not for you\n")
        .script("service", script, &keys)
        .boot();
    system.wait_for_log("service", "done");
    let log = system.output("service");
    assert_eq!(log[..2], ["hunter2", "token"]);
    assert!(log[2].starts_with("-r--------"), "{log:?}");
    if is_root() {
        assert_eq!(log[3], "closed");
    }
    assert_eq!(system.unit("service").state, UnitState::Ready);
}

#[test]
fn a_confined_service_reaches_what_its_file_names_and_its_own_directories() {
    let script = "cat $EVENTS.other 2>/dev/null || echo unread; cat $EVENTS.named; \
                  { echo new > $EVENTS.named; } 2>/dev/null || echo unwritten; \
                  echo kept > $STATE_DIRECTORY/file && cat $STATE_DIRECTORY/file; \
                  kill -0 $$ && echo own; /usr/bin/env true 2>/dev/null || echo unexecuted; \
                  echo done; exec /bin/sleep 1000";
    let named = |plan: &Plan, name: &str| plan.path(&format!("events.{name}")).display().to_string();
    let plan = Plan::new().write("events.named", "named\n").write("events.other", "other\n");
    let programs = ["/bin/sh", "/bin/cat", "/bin/sleep"].map(|path| {
        let real = std::fs::canonicalize(path).unwrap();
        format!("\"{}\"", real.display())
    });
    let keys = format!(
        "user = \"{}\"\nstate-directory = \"service\"\n[confine]\nread = [\"{}\", \"/usr/lib\", \"/etc/ld.so.cache\"]\n\
         execute = [{}, \"/lib64\", \"/usr/lib\", \"/lib\"]\n",
        user(),
        named(&plan, "named"),
        programs.join(", ")
    );
    let system = plan.script("service", script, &keys).boot();
    system.wait_for_log("service", "done");
    let log = system.output("service");
    assert_eq!(log, ["unread", "named", "unwritten", "kept", "own", "unexecuted", "done"]);
}
