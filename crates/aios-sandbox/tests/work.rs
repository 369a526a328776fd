//! What calls can do, how they end, and what happens when the fork server dies.

#![allow(clippy::unwrap_used)] // A panic is how a test fails; clippy knows only `#[test]` functions as tests.

#[path = "work/handler.rs"]
mod handler;

use std::{
    fs,
    os::unix::{
        fs::symlink,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aios_sandbox::{
    Capability, Enforcement, Error, Exit, ExtraMount, Identity, Limits, Network, Options, Outcome, Processes, Profile,
    Sandbox,
};
use libtest_mimic::{Arguments, Trial};

const LONG: Duration = Duration::from_secs(60);

fn main() {
    aios_sandbox::serve_if_asked(handler::handler);
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, trials()).exit();
}

fn sandbox() -> Sandbox {
    let options = Options { enforcement: Enforcement::WhereOffered, ..Options::default() };
    Sandbox::start(options).expect("tests need root, Landlock and namespaces")
}

fn run(profile: &Profile, input: &str) -> Result<Outcome, Error> {
    sandbox().run(profile, input.as_bytes(), LONG)
}

fn said(profile: &Profile, input: &str) -> String {
    let outcome = run(profile, input).unwrap();
    assert_eq!(outcome.exit, Exit::Returned, "{input:?}: {}", outcome.stderr);
    String::from_utf8(outcome.output).unwrap()
}

/// A directory that everybody may enter, at a path without symbolic links.
fn directory() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

fn input(word: &str, path: &Path) -> String {
    format!("{word}\n{}", path.display())
}

macro_rules! trials {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {
        $($(#[$attribute])* fn $name() $body)*
        fn trials() -> Vec<Trial> {
            vec![$(Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
        }
    };
}

trials! {
    fn the_handler_gets_the_input_and_gives_the_result() {
        assert_eq!(said(&Profile::default(), "echo\nhello"), "hello");
    }

    fn an_input_of_a_megabyte_arrives_whole() {
        let input = format!("length\n{}", "x".repeat(1 << 20));
        assert_eq!(said(&Profile::default(), &input), input.len().to_string());
    }

    fn a_result_of_megabytes_comes_back_whole() {
        let outcome = run(&Profile::default(), "flood\n3000000").unwrap();
        assert_eq!((outcome.exit, outcome.output.len()), (Exit::Returned, 3_000_000));
    }

    fn nothing_is_seen_without_a_grant() {
        assert!(said(&Profile::default(), "read\n/etc/passwd").starts_with("error: No such file"));
        assert!(said(&Profile::default(), "list\n/").starts_with("error: Permission denied"));
    }

    fn a_granted_file_is_read_and_not_written() {
        let (_kept, path) = directory();
        let file = path.join("file");
        fs::write(&file, "content").unwrap();
        let profile = Profile { read: vec![file.clone()], identity: Identity::Daemon, ..Profile::default() };
        assert_eq!(said(&profile, &input("read", &file)), "content");
        assert!(said(&profile, &format!("write\n{}\nx", file.display())).starts_with("error: "));
        assert_eq!(fs::read_to_string(file).unwrap(), "content");
    }

    fn a_granted_directory_is_written_by_the_identity_that_may() {
        let (_kept, path) = directory();
        let file = path.join("file");
        let write = format!("write\n{}\nnew", file.display());
        let mut profile = Profile { write: vec![path], ..Profile::default() };
        assert!(said(&profile, &write).starts_with("error: Permission denied"));
        profile.identity = Identity::Daemon;
        assert_eq!(said(&profile, &write), "");
        assert_eq!(fs::read_to_string(file).unwrap(), "new");
    }

    fn a_symbolic_link_in_a_granted_path_is_refused() {
        let (_kept, path) = directory();
        fs::create_dir(path.join("real")).unwrap();
        symlink("real", path.join("link")).unwrap();
        for named in ["link", "link/.x"] {
            let profile = Profile { write: vec![path.join(named)], ..Profile::default() };
            match run(&profile, "echo\nx") {
                Err(Error::Path { source, .. }) => assert_eq!(source.raw_os_error(), Some(libc::ELOOP)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn a_missing_path_is_an_error_but_for_what_the_tool_itself_names() {
        let missing = vec![PathBuf::from("/nowhere/at/all")];
        let read = Profile { read: missing.clone(), ..Profile::default() };
        assert!(matches!(run(&read, "echo\nx"), Err(Error::Path { .. })));
        let write = Profile { write: missing.clone(), ..Profile::default() };
        assert!(matches!(run(&write, "echo\nx"), Err(Error::Path { .. })));
        let of_the_tool = Profile {
            system: missing.clone(),
            execute: missing.clone(),
            sockets: missing.clone(),
            devices: missing,
            ..Profile::default()
        };
        assert_eq!(said(&of_the_tool, "echo\nx"), "x");
        for attempt in ["connect\n/nowhere/at/all", "program\n/nowhere/at/all", "write\n/nowhere/at/all\nx"] {
            assert!(said(&of_the_tool, attempt).starts_with("error: No such file"), "{attempt}");
        }
    }

    fn links_in_system_paths_lead_to_the_same_place_inside() {
        let (_kept, path) = directory();
        fs::create_dir(path.join("real")).unwrap();
        fs::write(path.join("real/file"), "behind a link").unwrap();
        symlink("real/file", path.join("link")).unwrap();
        let profile = Profile { system: vec![path.join("link")], ..Profile::default() };
        assert_eq!(said(&profile, &input("read", &path.join("link"))), "behind a link");
    }

    fn a_directory_is_shown_at_another_place() {
        let (_kept, path) = directory();
        fs::write(path.join("file"), "journal").unwrap();
        let mount = ExtraMount { source: path, target: "/journal".into(), writable: false };
        let profile = Profile { mount_extra: vec![mount], identity: Identity::Daemon, ..Profile::default() };
        assert_eq!(said(&profile, "read\n/journal/file"), "journal");
        assert!(said(&profile, "write\n/journal/file\nx").starts_with("error: "));
    }

    fn a_grant_within_a_grant_is_on_top() {
        let (_kept, path) = directory();
        fs::create_dir(path.join("inner")).unwrap();
        let profile = Profile {
            read: vec![path.clone()],
            write: vec![path.join("inner")],
            identity: Identity::Daemon,
            ..Profile::default()
        };
        assert_eq!(said(&profile, &format!("write\n{}\nx", path.join("inner/file").display())), "");
        assert!(said(&profile, &format!("write\n{}\nx", path.join("file").display())).starts_with("error: "));
    }

    fn scratch_is_there_when_asked_for_and_holds_no_more_than_its_size() {
        assert!(said(&Profile::default(), "write\n/tmp/file\nx").starts_with("error: "));
        let limits = Limits { scratch_max: 64 << 10, ..Limits::default() };
        let profile = Profile { limits, ..Profile::default() };
        assert_eq!(said(&profile, "write\n/tmp/file\nx"), "");
        let big = format!("write\n/tmp/file\n{}", "x".repeat(100 << 10));
        assert!(said(&profile, &big).starts_with("error: No space left"));
    }

    fn a_granted_program_runs_and_another_does_not() {
        let profile = Profile { execute: vec!["/bin/echo".into()], ..Profile::default() };
        assert_eq!(said(&profile, "program\n/bin/echo\nfrom inside"), "from inside\n");
        assert!(said(&profile, "program\n/bin/cat\n/etc/passwd").starts_with("error: "));
        assert!(said(&Profile::default(), "program\n/bin/echo\nx").starts_with("error: "));
    }

    fn a_program_inherits_the_capabilities_of_the_profile_and_no_more() {
        let mut profile = Profile { execute: vec!["/bin/cat".into()], ..Profile::default() };
        let effective = |profile: &Profile| {
            let status = said(profile, "program\n/bin/cat\n/proc/self/status");
            status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned()
        };
        assert_eq!(effective(&profile), "0000000000000000");
        profile.capabilities = [Capability::NetAdmin].into();
        profile.network = Network::Host;
        assert_eq!(effective(&profile), "0000000000001000");
        profile.identity = Identity::Daemon;
        assert_eq!(effective(&profile), "0000000000001000");
    }

    fn a_program_of_many_files_works_where_it_may_write() {
        let (_kept, path) = directory();
        let profile = Profile {
            execute: vec!["/usr/bin/git".into(), "/usr/lib/git-core".into()],
            system: vec!["/usr/share/git-core".into()],
            write: vec![path.clone()],
            identity: Identity::Daemon,
            ..Profile::default()
        };
        let made = said(&profile, &format!("program\n/usr/bin/git\ninit\n-q\n{}", path.join("repository").display()));
        assert_eq!(made, "", "{made}");
        let head = fs::read_to_string(path.join("repository/.git/HEAD")).unwrap();
        assert!(head.starts_with("ref: refs/heads/"), "{head}");
    }

    fn the_firewall_is_listed_by_its_program_with_the_capability_and_not_without() {
        let nft = PathBuf::from("/usr/sbin/nft");
        if !nft.exists() {
            return; // Images have it, a developer's machine may not.
        }
        let mut profile = Profile { execute: vec![nft], network: Network::Host, ..Profile::default() };
        let list = "program\n/usr/sbin/nft\n-j\nlist\nruleset";
        assert!(said(&profile, list).contains("Operation not permitted"));
        profile.capabilities = [Capability::NetAdmin].into();
        let listed = said(&profile, list);
        assert!(listed.contains("\"nftables\""), "{listed}");
    }

    fn a_process_of_the_machine_is_signalled_with_the_capability_and_not_without() {
        let mut victim = Command::new("/bin/sleep").arg("1000").uid(65_533).spawn().unwrap();
        let kill = format!("kill\n{}", victim.id());
        let mut profile = Profile { processes: Processes::Host, identity: Identity::Daemon, ..Profile::default() };
        assert!(said(&profile, &kill).starts_with("error: "));
        profile.capabilities = [Capability::Kill].into();
        let answer = said(&profile, &kill);
        let _ = victim.kill();
        let status = victim.wait().unwrap();
        assert_eq!((answer.as_str(), status.signal()), ("", Some(libc::SIGTERM)));
    }

    fn a_granted_socket_is_connected_to_and_another_is_not() {
        let (_kept, path) = directory();
        let (granted, other) = (path.join("granted"), path.join("other"));
        let listeners = [&granted, &other].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        let profile =
            Profile { sockets: vec![granted.clone()], identity: Identity::Daemon, ..Profile::default() };
        assert_eq!(said(&profile, &input("connect", &granted)), "");
        assert!(said(&profile, &input("connect", &other)).starts_with("error: No such file"));
        assert!(matches!(run(&Profile { read: vec![other], ..Profile::default() }, "echo\nx"), Err(Error::Path { .. })));
        drop(listeners);
    }

    fn a_granted_device_is_opened_and_another_is_not() {
        let profile = Profile { devices: vec!["/dev/full".into()], ..Profile::default() };
        assert!(said(&profile, "write\n/dev/full\nx").starts_with("error: No space left"));
        assert!(said(&Profile::default(), "write\n/dev/full\nx").starts_with("error: "));
        assert_eq!(said(&Profile::default(), "write\n/dev/null\nx"), "");
    }

    fn files_of_others_are_changed_with_the_capabilities_for_that_and_not_without() {
        let (_kept, path) = directory();
        let file = path.join("file");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(4321), Some(4321)).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut profile = Profile { write: vec![path], identity: Identity::Daemon, ..Profile::default() };
        let write = format!("write\n{}\nchanged", file.display());
        assert!(said(&profile, &write).starts_with("error: Permission denied"));
        profile.capabilities = [Capability::DacOverride].into();
        assert_eq!(said(&profile, &write), "");
        let give = input("give\n1234", &file);
        assert!(said(&profile, &give).starts_with("error: Operation not permitted"));
        profile.capabilities.insert(Capability::Chown);
        assert_eq!(said(&profile, &give), "");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(file).unwrap()), 1234);
    }

    fn the_machines_network_is_used_where_it_is_granted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = format!("dial\n{}", listener.local_addr().unwrap());
        let host = Profile { network: Network::Host, ..Profile::default() };
        assert_eq!(said(&host, &dial), "");
        assert!(said(&Profile::default(), &dial).starts_with("error: Operation not permitted"));
    }

    fn own_processes_are_the_only_ones_in_proc_unless_the_machines_are_granted() {
        let numbers = |profile: &Profile| {
            let names = said(profile, "list\n/proc");
            names.split(' ').filter(|name| name.parse::<u32>().is_ok()).count()
        };
        assert_eq!(numbers(&Profile::default()), 1);
        let host = Profile { processes: Processes::Host, ..Profile::default() };
        assert!(numbers(&host) > 2);
    }

    fn a_setting_of_the_kernel_is_written_where_it_is_granted_and_not_beside() {
        let setting = "/proc/sys/vm/swappiness";
        let before = fs::read_to_string(setting).unwrap();
        let profile = Profile {
            write: vec![setting.into()],
            processes: Processes::Host,
            identity: Identity::Daemon,
            ..Profile::default()
        };
        assert_eq!(said(&profile, &format!("write\n{setting}\n{}", before.trim())), "");
        assert!(said(&profile, "write\n/proc/sys/kernel/panic\n0").starts_with("error: "));
        assert_eq!(fs::read_to_string(setting).unwrap(), before);
    }

    fn threads_can_be_started() {
        assert_eq!(said(&Profile::default(), "threads"), "4");
    }

    fn a_call_that_takes_too_long_is_ended() {
        let outcome = sandbox().run(&Profile::default(), b"sleep", Duration::from_millis(200)).unwrap();
        assert_eq!(outcome.exit, Exit::TimedOut);
        assert!(outcome.output.is_empty());
    }

    fn a_call_that_uses_too_much_processor_time_is_ended() {
        let limits = Limits { cpu_time: Duration::from_secs(1), ..Limits::default() };
        let outcome = run(&Profile { limits, ..Profile::default() }, "spin").unwrap();
        assert_eq!(outcome.exit, Exit::OutOfCpuTime);
    }

    fn a_result_that_is_too_large_ends_the_call() {
        let limits = Limits { output_max: 1000, ..Limits::default() };
        let profile = Profile { limits, ..Profile::default() };
        assert_eq!(run(&profile, "flood\n1001").unwrap().exit, Exit::OutputTooLarge);
        assert_eq!(run(&profile, "flood\n1000").unwrap().exit, Exit::Returned);
    }

    fn a_panic_is_code_101_with_its_message() {
        let outcome = run(&Profile::default(), "panic\nout of cheese").unwrap();
        assert_eq!(outcome.exit, Exit::Exited(101));
        assert!(outcome.stderr.contains("out of cheese"), "{}", outcome.stderr);
    }

    fn an_exit_without_a_result_is_told_from_a_return() {
        assert_eq!(run(&Profile::default(), "exit\n7").unwrap().exit, Exit::Exited(7));
        assert_eq!(run(&Profile::default(), "exit\n0").unwrap().exit, Exit::Exited(0));
    }

    fn an_abort_is_a_signal() {
        assert!(matches!(run(&Profile::default(), "abort").unwrap().exit, Exit::Signalled(_)));
    }

    fn an_abort_among_the_machines_processes_does_not_hit_the_server() {
        let sandbox = sandbox();
        let server = sandbox.server_pid();
        let profile = Profile {
            processes: Processes::Host,
            capabilities: [Capability::Kill].into(),
            identity: Identity::Daemon,
            ..Profile::default()
        };
        let outcome = sandbox.run(&profile, b"abort", LONG).unwrap();
        assert!(matches!(outcome.exit, Exit::Signalled(_)), "{:?}", outcome.exit);
        assert_eq!(sandbox.run(&profile, b"echo\nx", LONG).unwrap().output, b"x");
        assert_eq!(sandbox.server_pid(), server);
    }

    fn the_last_of_what_is_written_to_standard_error_is_kept() {
        let outcome = run(&Profile::default(), "chatter").unwrap();
        assert!(outcome.stderr.ends_with("line 19999\n"));
        assert!(outcome.stderr.len() <= aios_sandbox::STDERR_TAIL);
    }

    fn memory_beyond_the_limit_is_not_had() {
        let limits = Limits { memory_max: 32 << 20, ..Limits::default() };
        let profile = Profile { limits, ..Profile::default() };
        assert_eq!(said(&profile, "allocate\n8000000"), "8000000");
        let exit = run(&profile, "allocate\n200000000").unwrap().exit;
        assert!(matches!(exit, Exit::Signalled(_) | Exit::OutOfMemory), "{exit:?}");
    }

    fn calls_run_at_the_same_time_and_do_not_mix() {
        let sandbox = sandbox();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    for round in 0..5 {
                        let word = format!("{number}-{round}");
                        let outcome = sandbox.run(&Profile::default(), format!("echo\n{word}").as_bytes(), LONG).unwrap();
                        assert_eq!(outcome.output, word.as_bytes());
                    }
                });
            }
        });
    }

    fn a_dead_server_is_told_and_the_next_call_has_another() {
        let sandbox = sandbox();
        let server = rustix::process::Pid::from_raw(sandbox.server_pid().unwrap() as i32).unwrap();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| sandbox.run(&Profile::default(), b"sleep", LONG));
            while children(server).is_empty() {
                std::thread::yield_now();
            }
            rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
            match call.join().unwrap() {
                Err(Error::ServerDied { how }) => assert_eq!(how, "signal 9"),
                other => panic!("{other:?}"),
            }
        });
        let outcome = sandbox.run(&Profile::default(), b"echo\nagain", LONG).unwrap();
        assert_eq!(outcome.output, b"again");
        assert_ne!(sandbox.server_pid(), Some(server.as_raw_nonzero().get() as u32));
    }

    fn a_server_that_died_between_calls_is_not_noticed_by_the_caller() {
        let sandbox = sandbox();
        let server = rustix::process::Pid::from_raw(sandbox.server_pid().unwrap() as i32).unwrap();
        rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
        // Until then the socket may still take a request, and the call would be told of the death.
        while fs::read_to_string(format!("/proc/{}/stat", server.as_raw_nonzero())).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
        let outcome = sandbox.run(&Profile::default(), b"echo\nagain", LONG).unwrap();
        assert_eq!(outcome.output, b"again");
    }

    fn the_calls_of_a_dead_server_are_gone() {
        let sandbox = sandbox();
        let server = rustix::process::Pid::from_raw(sandbox.server_pid().unwrap() as i32).unwrap();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| sandbox.run(&Profile::default(), b"sleep", LONG));
            let child = loop {
                if let Some(child) = children(server).first() {
                    break child.clone();
                }
                std::thread::yield_now();
            };
            rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
            let _ = call.join().unwrap();
            while fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
                std::thread::yield_now();
            }
        });
    }

    fn a_machine_without_controllers_is_refused_unless_told_otherwise() {
        let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let whole = ["cpu", "memory", "pids"].iter().all(|name| offered.split_whitespace().any(|has| has == *name));
        match Sandbox::start(Options::default()) {
            Ok(_) => assert!(whole),
            Err(Error::Unsupported { feature, .. }) => {
                assert!(!whole);
                assert!(feature.contains("control groups"));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn children(pid: rustix::process::Pid) -> Vec<String> {
    let pid = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}
