//! A real broker, mosquitto, which lets in who has a certificate, and each to its own topics.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Who may do what: a device its own topics, an operator what operators do.
const RIGHTS: &str =
    "pattern readwrite te/device/%u/#\n\nuser alice\ntopic read te/#\ntopic write te/device/+///cmd/#\n";

pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Broker {
    /// A broker with certificates for itself, for the device `device` and for the operator `alice`.
    pub fn start(device: &str) -> Broker {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path(), &["localhost", device, "alice"]);
        // Free now; whoever takes it meanwhile is seen in the log.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut broker = Broker { folder, port, process: None };
        fs::write(broker.path("acl"), RIGHTS).unwrap();
        let file = |name: &str| broker.path(name).display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nacl_file {}\nallow_anonymous false\npersistence false\nuser root\n\
             log_dest stderr\nlog_type all\n",
            file("ca.pem"),
            file("localhost.pem"),
            file("localhost.key"),
            file("acl")
        );
        fs::write(broker.path("mosquitto.conf"), config).unwrap();
        broker.run();
        broker
    }

    /// Starts it, with nothing of what it held before.
    pub fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let started = Command::new(program)
            .arg("-c")
            .arg(self.path("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(started.expect("mosquitto, Debian's package of that name"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let died = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(died.is_none() && begun.elapsed() < Duration::from_secs(60), "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("mqtts://localhost:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `ca.pem`, and `NAME.pem` and `NAME.key` that it vouches for.
fn certificates(folder: &Path, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "fleet test authority");
    fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![(*name).to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, *name);
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
