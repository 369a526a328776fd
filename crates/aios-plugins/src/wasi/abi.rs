//! Numbers and layouts of WASI preview 1.

use rustix::fs::{FileType, Stat};

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(u16);

impl Errno {
    pub(super) const SUCCESS: Errno = Errno(0);
    pub(super) const BADF: Errno = Errno(8);
    pub(super) const FAULT: Errno = Errno(21);
    pub(super) const FBIG: Errno = Errno(22);
    pub(super) const ILSEQ: Errno = Errno(25);
    pub(super) const INVAL: Errno = Errno(28);
    pub(super) const IO: Errno = Errno(29);
    pub(super) const LOOP: Errno = Errno(32);
    pub(super) const MFILE: Errno = Errno(33);
    pub(super) const NAMETOOLONG: Errno = Errno(37);
    pub(super) const NOENT: Errno = Errno(44);
    pub(super) const NOTDIR: Errno = Errno(54);
    pub(super) const NOTSUP: Errno = Errno(58);
    pub(super) const OVERFLOW: Errno = Errno(61);
    pub(super) const ROFS: Errno = Errno(69);
    pub(super) const SPIPE: Errno = Errno(70);
    /// Beyond what the module was handed.
    pub(super) const NOTCAPABLE: Errno = Errno(76);

    pub(super) fn code(self) -> u32 {
        self.0.into()
    }

    /// What the system said. An escape that `openat2` refused is [`Errno::NOTCAPABLE`].
    pub(super) fn of(error: rustix::io::Errno) -> Errno {
        use rustix::io::Errno as E;
        match error {
            E::ACCESS => Errno(2),
            E::AGAIN => Errno(6),
            E::BADF => Errno::BADF,
            E::BUSY => Errno(10),
            E::DQUOT => Errno(19),
            E::EXIST => Errno(20),
            E::FBIG => Errno::FBIG,
            E::INTR => Errno(27),
            E::INVAL => Errno::INVAL,
            E::ISDIR => Errno(31),
            E::LOOP => Errno::LOOP,
            E::MFILE | E::NFILE => Errno::MFILE,
            E::MLINK => Errno(34),
            E::NAMETOOLONG => Errno::NAMETOOLONG,
            E::NODEV => Errno(43),
            E::NOENT => Errno::NOENT,
            E::NOMEM => Errno(48),
            E::NOSPC => Errno(51),
            E::NOSYS => Errno(52),
            E::NOTDIR => Errno::NOTDIR,
            E::NOTEMPTY => Errno(55),
            E::OPNOTSUPP => Errno::NOTSUP,
            E::NXIO => Errno(60),
            E::OVERFLOW => Errno::OVERFLOW,
            E::PERM => Errno(63),
            E::ROFS => Errno::ROFS,
            E::SPIPE => Errno::SPIPE,
            E::TXTBSY => Errno(74),
            E::XDEV => Errno::NOTCAPABLE,
            _ => Errno::IO,
        }
    }
}

/// Kinds of files.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const CHARACTER_DEVICE: u8 = 2;
pub(super) const DIRECTORY: u8 = 3;
pub(super) const REGULAR_FILE: u8 = 4;
pub(super) const SYMBOLIC_LINK: u8 = 7;

/// Rights of a file.
pub(super) const RIGHT_READ: u64 = 1 << 1;
pub(super) const RIGHT_WRITE: u64 = 1 << 6;
pub(super) const RIGHT_ALLOCATE: u64 = 1 << 8;
pub(super) const RIGHT_SET_SIZE: u64 = 1 << 22;
/// Rights that change something: `datasync`, `sync`, `write`, `allocate`, and all of paths and attributes that do.
pub(super) const RIGHTS_OF_CHANGE: u64 = RIGHT_WRITE
    | RIGHT_ALLOCATE
    | RIGHT_SET_SIZE
    | 1 << 9
    | 1 << 10
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 25
    | 1 << 26;
/// All rights that there are, but for those of links and sockets.
pub(super) const RIGHTS: u64 = ((1 << 28) - 1) & !(1 << 11 | 1 << 12 | 1 << 15 | 1 << 24);

/// How a path is opened.
pub(super) const OPEN_CREATE: u32 = 1;
pub(super) const OPEN_DIRECTORY: u32 = 2;
pub(super) const OPEN_EXCLUSIVE: u32 = 4;
pub(super) const OPEN_TRUNCATE: u32 = 8;
/// Flag of an open file: every write goes to its end.
pub(super) const APPEND: u32 = 1;
/// Flags of times: set as given, or to now; of access, and of modification.
pub(super) const ACCESSED: u32 = 1;
pub(super) const ACCESSED_NOW: u32 = 2;
pub(super) const MODIFIED: u32 = 4;
pub(super) const MODIFIED_NOW: u32 = 8;

/// Kind of a file of the system.
pub(super) fn kind(kind: FileType) -> u8 {
    match kind {
        FileType::RegularFile => REGULAR_FILE,
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMBOLIC_LINK,
        FileType::CharacterDevice => CHARACTER_DEVICE,
        FileType::BlockDevice => 1,
        _ => UNKNOWN,
    }
}

/// `filestat`, without the number of the device, which is nobody's business.
#[allow(clippy::unnecessary_cast, reason = "architectures differ in the types of these fields")]
pub(super) fn file_stat(stat: &Stat) -> [u8; 64] {
    let time = |seconds: i64, nanoseconds: i64| -> u64 {
        let nanoseconds = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        u64::try_from(nanoseconds).unwrap_or(0)
    };
    let mut bytes = [0; 64];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(8, stat.st_ino as u64);
    put(16, kind(FileType::from_raw_mode(stat.st_mode)).into());
    put(24, stat.st_nlink as u64);
    put(32, u64::try_from(stat.st_size).unwrap_or(0));
    put(40, time(stat.st_atime as i64, stat.st_atime_nsec as i64));
    put(48, time(stat.st_mtime as i64, stat.st_mtime_nsec as i64));
    put(56, time(stat.st_ctime as i64, stat.st_ctime_nsec as i64));
    bytes
}

/// `filestat` of a stream.
pub(super) fn stream_stat() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[16] = CHARACTER_DEVICE;
    bytes
}

/// `fdstat`.
pub(super) fn fd_stat(kind: u8, flags: u16, rights: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0] = kind;
    bytes[2..4].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&rights.to_le_bytes());
    bytes[16..24].copy_from_slice(&rights.to_le_bytes());
    bytes
}
