//! Where the parts of a running system meet. A path that two crates need is here, and nowhere else.

/// Control socket of PID 1.
pub const INIT_SOCKET: &str = "/run/aios/init.sock";
/// gRPC socket of the model runtime.
pub const RUNTIME_SOCKET: &str = "/run/aios/runtime/grpc.sock";
/// gRPC socket of the tools.
pub const TOOLS_SOCKET: &str = "/run/aios/tools/grpc.sock";
/// gRPC socket of the memory.
pub const MEMORY_SOCKET: &str = "/run/aios/memory/grpc.sock";
/// Directories of unit files; a file in a later one replaces the file of the same name in an earlier one.
pub const UNIT_DIRS: [&str; 2] = ["/usr/lib/aios/units", "/etc/aios/units"];
/// Mount point of the data partition.
pub const DATA: &str = "/var/lib/aios";
/// Configuration that came with the image.
pub const IMAGE_CONFIG: &str = "/etc/aios/aios.toml";
/// Configuration of this device.
pub const DEVICE_CONFIG: &str = "/var/lib/aios/config/aios.toml";
/// Secrets of this device, one file each.
pub const SECRETS: &str = "/var/lib/aios/config/secrets";
/// What the model runtime keeps.
pub const RUNTIME_STATE: &str = "/var/lib/aios/runtime";
/// Beginnings of prompts in there, a folder for each model.
pub const PREFIXES: &str = "prefixes";
/// Factory models, read-only.
pub const FACTORY_MODELS: &str = "/usr/share/aios/models";
/// Models that were installed on this device.
pub const DEVICE_MODELS: &str = "/var/lib/aios/models";
/// Where the live medium is mounted while the system runs from it.
pub const LIVE_MEDIUM: &str = "/run/aios/media";
/// Keys that this device made: private ones for root alone, public ones for everybody.
pub const KEYS: &str = "/var/lib/aios/keys";
/// What the tools keep: ledger, journal, grants.
pub const TOOLS_STATE: &str = "/var/lib/aios/tools";
/// The ledger in there.
pub const LEDGER: &str = "ledger.redb";
/// What the memory keeps.
pub const MEMORY_STATE: &str = "/var/lib/aios/memory";
/// The memory's database in there.
pub const MEMORY: &str = "memory.redb";
/// Variable of the environment that a container's manager sets for PID 1, to the kind of container, and PID 1 for its units.
pub const CONTAINER_VARIABLE: &str = "container";
/// Plugins, a folder for each.
pub const PLUGINS: &str = "/var/lib/aios/plugins";
/// Public keys whose plugins are trusted: the image's, and this device's own, to which no tool gets.
pub const PLUGIN_KEYS: [&str; 2] = ["/etc/aios/plugin-keys", "/var/lib/aios/keys/plugins"];
