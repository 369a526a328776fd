//! Reading, merging and blaming: which file, line and key an error comes from.

use std::{fs, io, ops::Range, path::PathBuf};

use serde::Deserialize as _;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::Config;
use crate::paths;

/// Largest configuration file that is read.
const MAX_BYTES: usize = 1 << 20;

/// One source of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where the text is from; errors name it.
    pub path: PathBuf,
    /// TOML.
    pub text: String,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{}: {reason}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default(), key.as_ref().map(|k| format!(": {k}")).unwrap_or_default())]
pub struct ConfigError {
    /// File.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Key with its sections, for example `runtime.http.listen`.
    pub key: Option<String>,
    /// What is wrong, and what would do.
    pub reason: String,
}

/// The files that make up a device's configuration, in order.
pub fn system_layers() -> Vec<PathBuf> {
    vec![paths::IMAGE_CONFIG.into(), paths::DEVICE_CONFIG.into()]
}

/// Reads and merges files in order; one that does not exist counts as empty.
pub fn load(files: &[PathBuf]) -> Result<Config, ConfigError> {
    from_layers(&read(files)?)
}

/// Reads files in order; one that does not exist is left out.
pub fn read(files: &[PathBuf]) -> Result<Vec<Layer>, ConfigError> {
    let mut layers = Vec::new();
    for path in files {
        let plain = |reason: String| ConfigError { path: path.clone(), line: None, key: None, reason };
        match fs::read(path) {
            Ok(bytes) if bytes.len() > MAX_BYTES => return Err(plain(format!("larger than {MAX_BYTES} bytes"))),
            Ok(bytes) => {
                let text = String::from_utf8(bytes)
                    .map_err(|e| plain(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
                layers.push(Layer { path: path.clone(), text });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(plain(format!("can't be read: {e}"))),
        }
    }
    Ok(layers)
}

/// Merges layers in order and checks the result.
pub fn from_layers(layers: &[Layer]) -> Result<Config, ConfigError> {
    let mut merged = Table::new();
    for layer in layers {
        // Each layer is held to the schema by itself, because only here an error still knows its line.
        toml::from_str::<Config>(&layer.text).map_err(|e| layer.blame(&e))?;
        merge(&mut merged, layer.text.parse().map_err(|e| layer.blame(&e))?);
    }
    let last = layers.last().map(|l| l.path.clone()).unwrap_or_default();
    let config = Config::deserialize(merged).map_err(|e| ConfigError {
        path: last.clone(),
        line: None,
        key: None,
        reason: e.message().into(),
    })?;
    match config.violation() {
        None => Ok(config),
        Some(violation) => {
            let found = layers.iter().rev().find_map(|l| l.line_of(violation.key).map(|line| (l.path.clone(), line)));
            let (path, line) = found.map_or((last, None), |(path, line)| (path, Some(line)));
            Err(ConfigError { path, line, key: Some(violation.key.join(".")), reason: violation.reason })
        }
    }
}

/// Lays `upper` over `lower`: sections merge, anything else replaces.
fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

impl Layer {
    fn blame(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span();
        ConfigError {
            path: self.path.clone(),
            line: span.as_ref().map(|s| self.line_at(s.start)),
            key: span.and_then(|s| self.key_at(&s)),
            reason: error.message().trim().replace('\n', ", "),
        }
    }

    fn line_at(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
    }

    /// The line on which a key is set.
    fn line_of(&self, key: &[&str]) -> Option<usize> {
        let (last, sections) = key.split_last()?;
        let root = DeTable::parse(&self.text).ok()?.into_inner();
        let mut table = &root;
        for section in sections {
            table = table.iter().find(|(k, _)| k.get_ref().as_ref() == *section)?.1.get_ref().as_table()?;
        }
        let (key, _) = table.iter().find(|(k, _)| k.get_ref().as_ref() == *last)?;
        Some(self.line_at(key.span().start))
    }

    /// The key whose name or value stands at `span`, with its sections.
    fn key_at(&self, span: &Range<usize>) -> Option<String> {
        let root = DeTable::parse(&self.text).ok()?.into_inner();
        let mut path = Vec::new();
        descend(&root, span, &mut path).then(|| path.join("."))
    }
}

/// Walks towards `span`; true where an entry's key or value holds it.
fn descend(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let below = matches!(value.get_ref(), DeValue::Table(inner) if descend(inner, span, path));
        if below || holds(key.span()) || holds(value.span()) {
            return true;
        }
        path.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::InstallDisk;
    use super::*;

    fn layer(path: &str, text: &str) -> Layer {
        Layer { path: path.into(), text: text.into() }
    }

    fn refused(text: &str) -> String {
        from_layers(&[layer("a.toml", text)]).expect_err(text).to_string()
    }

    #[test]
    fn a_later_layer_wins_key_by_key() {
        let image = layer("image", "[system]\nhostname = \"factory\"\n[runtime]\nqueue = 3\nslots = 2\n");
        let device = layer("device", "[runtime]\nqueue = 5\n");
        let config = from_layers(&[image, device]).unwrap();
        assert_eq!((config.system.hostname.as_str(), config.runtime.queue, config.runtime.slots), ("factory", 5, 2));
    }

    #[test]
    fn nothing_at_all_is_a_valid_configuration() {
        assert_eq!(from_layers(&[]), Ok(Config::default()));
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        let message = refused("[system]\nhostname = \"a\"\n\n[runtime.http]\nlissten = \"127.0.0.1:1\"\n");
        assert!(message.starts_with("a.toml:5: runtime.http.lissten: unknown field `lissten`"), "{message}");
    }

    #[test]
    fn a_wrong_type_is_named_with_file_and_line() {
        let message = refused("[runtime]\nqueue = \"many\"\n");
        assert!(message.starts_with("a.toml:2: runtime.queue: invalid type: string"), "{message}");
        let message = refused("init.watchdog = \"soon\"");
        assert!(message.starts_with("a.toml:1: init.watchdog: \"soon\" is not a duration"), "{message}");
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let message = refused("[system]\nhostname = \n");
        assert!(message.starts_with("a.toml:2"), "{message}");
    }

    #[test]
    fn a_listener_for_the_world_needs_a_token() {
        let open = "[runtime.http]\nlisten = \"0.0.0.0:8080\"\n";
        let message = refused(open);
        assert!(
            message.starts_with("a.toml:2: runtime.http.listen: 0.0.0.0:8080 can be reached from outside"),
            "{message}"
        );
        let token = layer("b.toml", "[runtime.http]\ntoken-file = \"api-token\"\n");
        assert!(from_layers(&[layer("a.toml", open), token]).is_ok());
        assert!(from_layers(&[layer("a.toml", "[runtime.http]\nlisten = \"[::1]:8080\"\n")]).is_ok());
    }

    #[test]
    fn a_rule_is_blamed_on_the_layer_that_set_the_key() {
        let layers = [layer("a.toml", "[runtime]\nslots = 0\n"), layer("b.toml", "[log]\nlevel = \"debug\"\n")];
        let message = from_layers(&layers).expect_err("no slots").to_string();
        assert_eq!(message, "a.toml:2: runtime.slots: use 1 to 64");
    }

    #[test]
    fn every_rule_refuses_its_bad_value() {
        for bad in [
            "system.hostname = \"-a\"",
            "system.hostname = \"a.b\"",
            "init.watchdog = \"1s\"",
            "init.log-ring = \"1B\"",
            "runtime.default-model = \"../etc\"",
            "runtime.embedding-model = \"../etc\"",
            "runtime.threads = 9999",
            "runtime.slots = 65",
            "runtime.queue = 10001",
            "runtime.context = 8",
            "runtime.http.max-body = \"1B\"",
            "runtime.http.max-connections = 0",
            "runtime.grpc.socket = \"here\"",
            "log.level = \"loud\"",
            "console.emergency-shell = 1",
            "memory.socket = \"here\"",
            "memory.listen = \"127.0.0.1:50054\"",
            "memory.working-retention = \"1s\"",
            "memory.size-max = \"1B\"",
            "models.hub-endpoint = \"huggingface.co\"",
            "models.directory = \"models\"",
            "models.keys = \"keys\"",
            "fleet.broker = \"fleet.example.com\"",
            "fleet.broker = \"mqtts://fleet.example.com\"",
            "fleet.device-id = \"a/b\"",
            "fleet.device-id = \"#\"",
            "fleet.certificate-file = \"device.pem\"",
            "fleet.keep-alive = \"1s\"",
            "install.disk = \"\"",
            "install.disk = \"sda\"",
            "install.disk = \"/dev/../etc/passwd\"",
            "install.then = \"dance\"",
        ] {
            let message = refused(bad);
            let key = bad.split(' ').next().unwrap();
            assert!(message.starts_with(&format!("a.toml:1: {key}: ")), "{message}");
        }
    }

    #[test]
    fn a_device_is_named_by_its_host_name_where_the_fleet_has_no_other_for_it() {
        let config = from_layers(&[layer("a", "[system]\nhostname = \"pump-2\"\n")]).unwrap();
        assert_eq!(config.device_id(), "pump-2");
        let config = from_layers(&[layer("a", "[fleet]\ndevice-id = \"site:7\"\n")]).unwrap();
        assert_eq!(config.device_id(), "site:7");
        let message = refused("[fleet]\nbroker = \"mqtt://lab\"\nca-file = \"ca.pem\"\n");
        assert!(message.starts_with("a.toml:2: fleet.broker: mqtt:// knows no certificates"), "{message}");
    }

    #[test]
    fn force_goes_with_a_named_disk_alone() {
        let message = refused("[install]\ndisk = \"auto\"\nforce = true\n");
        assert!(message.starts_with("a.toml:3: install.force: \"auto\" takes an empty disk only"), "{message}");
        let named = layer("a.toml", "[install]\ndisk = \"/dev/vda\"\nforce = true\nthen = \"reboot\"\n");
        let config = from_layers(&[named]).unwrap();
        assert_eq!(config.install.disk, Some(InstallDisk::Path("/dev/vda".into())));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(from_layers(&[layer("b.toml", &written)]), Ok(config));
    }

    #[test]
    fn a_missing_file_counts_as_empty_and_a_bad_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad.toml");
        fs::write(&bad, b"\xff").unwrap();
        assert_eq!(load(&[dir.path().join("none.toml")]), Ok(Config::default()));
        assert!(load(std::slice::from_ref(&bad)).unwrap_err().to_string().contains("bad.toml: not UTF-8"));
    }

    #[test]
    fn the_defaults_read_back_as_they_are_written() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(from_layers(&[layer("defaults", &text)]), Ok(Config::default()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\[\\]a-z.=\" 0-9\n#-]{0,80}") {
            let _ = from_layers(&[layer("a.toml", &text)]);
        }
    }
}
