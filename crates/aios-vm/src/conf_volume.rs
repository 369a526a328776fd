//! The `AIOS-CONF` volume: a FAT file system with the first-boot configuration and its secrets.

use std::io::{self, Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// Whether the guest's console gets a root shell when something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmergencyShell {
    Allowed,
    Refused,
}

/// What goes onto the volume.
#[derive(Clone, Debug)]
pub struct ConfVolume {
    pub api_token: String,
    pub emergency_shell: EmergencyShell,
    /// Further keys with their values, the keys written out: `init.watchdog = "5s"`.
    pub settings: Vec<String>,
}

const LABEL: &[u8; 11] = b"AIOS-CONF  ";
/// Holds the configuration many times over, and stays a FAT12 of minimal size.
const SIZE: usize = 1 << 20;
/// The serial number of the volume; fixed, so that the same content gives the same bytes.
const VOLUME_ID: u32 = 0xA105_C0F0;

impl ConfVolume {
    /// The configuration fragment, in the schema of `aios_core::config`.
    pub fn aios_toml(&self) -> String {
        // Before the first table, keys are those of the whole file.
        let mut text: String = self.settings.iter().map(|setting| format!("{setting}\n")).collect();
        text.push_str("[runtime.http]\nlisten = \"0.0.0.0:8080\"\ntoken-file = \"api-token\"\n");
        if self.emergency_shell == EmergencyShell::Allowed {
            text.push_str("\n[console]\nemergency-shell = true\n");
        }
        text
    }

    /// The whole volume as a disk image without a partition table.
    pub fn to_image(&self) -> io::Result<Vec<u8>> {
        let mut image = vec![0; SIZE];
        let options = FormatVolumeOptions::new().volume_label(*LABEL).volume_id(VOLUME_ID);
        fatfs::format_volume(Cursor::new(&mut image[..]), options)?;
        {
            let volume = FileSystem::new(Cursor::new(&mut image[..]), FsOptions::new())?;
            let root = volume.root_dir();
            root.create_file("aios.toml")?.write_all(self.aios_toml().as_bytes())?;
            root.create_dir("secrets")?.create_file("api-token")?.write_all(self.api_token.as_bytes())?;
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn volume() -> ConfVolume {
        let settings = vec!["init.watchdog = \"5s\"".into(), "log.level = \"warn\"".into()];
        ConfVolume { api_token: "00ff".repeat(16), emergency_shell: EmergencyShell::Allowed, settings }
    }

    fn read(image: &mut [u8], path: &str) -> String {
        let fs = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        let mut text = String::new();
        fs.root_dir().open_file(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_volume_reads_back_with_label_configuration_and_secret() {
        let mut image = volume().to_image().unwrap();
        assert_eq!(read(&mut image, "aios.toml"), volume().aios_toml());
        assert_eq!(read(&mut image, "secrets/api-token"), volume().api_token);
        let fs = FileSystem::new(Cursor::new(&mut image[..]), FsOptions::new()).unwrap();
        assert_eq!(fs.volume_label(), "AIOS-CONF");
        assert_eq!(fs.read_volume_label_from_root_dir().unwrap().as_deref(), Some("AIOS-CONF"));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(volume().to_image().unwrap(), volume().to_image().unwrap());
    }

    #[test]
    fn the_configuration_is_in_the_schema_of_the_image() {
        let config: aios_core::config::Config = aios_core::config::from_layers(&[aios_core::config::Layer {
            path: "aios.toml".into(),
            text: volume().aios_toml(),
        }])
        .unwrap();
        assert_eq!(config.runtime.http.listen.to_string(), "0.0.0.0:8080");
        assert!(config.console.emergency_shell);
        assert_eq!(config.init.watchdog.0, std::time::Duration::from_secs(5));
    }
}
