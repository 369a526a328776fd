//! PID 1's side of the control socket, for tests: units that start and stop at once, each with ten lines of log.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
};

use aios_core::{
    control::{LogLine, Request, Response, SystemStatus, UnitState, UnitStatus},
    paths,
};
use tempfile::TempDir;

use crate::host::Host;

/// A root folder with a control socket.
pub struct FakeInit {
    root: TempDir,
    state: Arc<Mutex<State>>,
}

struct State {
    units: Vec<UnitStatus>,
    /// What was asked for, but for status.
    orders: Vec<Request>,
}

impl FakeInit {
    /// Units that are Ready, with `units` as names.
    pub fn start(units: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("tempdir");
        let socket = root.path().join(paths::INIT_SOCKET.trim_start_matches('/'));
        fs::create_dir_all(socket.parent().expect("parent")).expect("create");
        let listener = UnixListener::bind(&socket).expect("bind");
        let units = units.iter().map(|name| unit(name)).collect();
        let state = Arc::new(Mutex::new(State { units, orders: Vec::new() }));
        let shared = Arc::clone(&state);
        // It ends with the test's process: nothing waits for it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut shared.lock().expect("lock"));
            }
        });
        FakeInit { root, state }
    }

    pub fn host(&self) -> Host {
        Host::below(self.root.path())
    }

    /// A file of this system.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.host().path(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("create");
        fs::write(path, text).expect("write");
    }

    pub fn set(&self, name: &str, state: UnitState) {
        let mut shared = self.state.lock().expect("lock");
        let unit = shared.units.iter_mut().find(|unit| unit.name == name).expect("unit");
        unit.state = state;
        unit.failure = (state == UnitState::Failed).then(|| "exec: no such file".to_owned());
    }

    pub fn states(&self) -> Vec<(String, UnitState)> {
        self.state.lock().expect("lock").units.iter().map(|unit| (unit.name.clone(), unit.state)).collect()
    }

    pub fn orders(&self) -> Vec<Request> {
        self.state.lock().expect("lock").orders.clone()
    }
}

fn unit(name: &str) -> UnitStatus {
    UnitStatus {
        name: name.into(),
        description: format!("Unit {name}"),
        state: UnitState::Ready,
        pid: Some(100),
        since_s: 1.5,
        restarts: 0,
        status: None,
        failure: None,
        memory_bytes: Some(4096),
    }
}

fn answer(mut stream: UnixStream, state: &mut State) {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).expect("request");
    let request: Request = serde_json::from_str(&line).expect("request");
    if !matches!(request, Request::Status { .. } | Request::Log { .. }) {
        state.orders.push(request.clone());
    }
    for response in carry_out(request, state) {
        let mut line = serde_json::to_string(&response).expect("JSON");
        line.push('\n');
        // A client that has read enough has gone.
        let _ = stream.write_all(line.as_bytes());
    }
}

fn carry_out(request: Request, state: &mut State) -> Vec<Response> {
    let mut set = |name: String, to: UnitState| match state.units.iter_mut().find(|unit| unit.name == name) {
        Some(unit) => {
            unit.state = to;
            vec![Response::Done]
        }
        None => vec![Response::Error { message: format!("there is no unit {name}") }],
    };
    match request {
        Request::Start { unit } | Request::Restart { unit } => set(unit, UnitState::Ready),
        Request::Stop { unit } => set(unit, UnitState::Stopped),
        Request::Log { unit, lines, .. } if state.units.iter().any(|known| known.name == unit) => {
            let line = |number| Response::Log(LogLine { at_s: 1.0, text: format!("line {number}") });
            (10 - lines.unwrap_or(10)..10).map(line).collect()
        }
        Request::Log { unit, .. } => vec![Response::Error { message: format!("there is no unit {unit}") }],
        Request::PowerOff | Request::Reboot => vec![Response::Done],
        Request::Status { .. } => vec![Response::Status(SystemStatus {
            version: "0.0.0".into(),
            hostname: "test".into(),
            uptime_s: 60.0,
            boot_failures: Vec::new(),
            units: state.units.clone(),
        })],
    }
}
