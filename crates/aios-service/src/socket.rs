//! The Unix socket: taken over from a dead process, never from a living one.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// A socket file of this process. It is removed at the end, unless another process has taken the path over.
pub struct OwnedSocket {
    path: PathBuf,
    inode: u64,
}

impl OwnedSocket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a listener to `path`, whose directory must exist. Those whom `mode` lets write may connect; between binding and
/// setting it, the usual umask lets only the owner in.
pub fn bind(path: &Path, mode: u32) -> Result<(UnixListener, OwnedSocket), String> {
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "its directory does not exist: create it".to_owned(),
        _ => error.to_string(),
    })?;
    let inode = fs::symlink_metadata(path).map_err(|error| error.to_string())?.ino();
    let socket = OwnedSocket { path: path.to_owned(), inode };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())?;
    Ok((listener, socket))
}

/// Removes a socket that nobody listens on any more.
fn clear(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(file) if !file.file_type().is_socket() => {
            return Err("there is a file that is no socket: remove it, or use another path".to_owned());
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("remove the stale socket: {error}"))
        }
        Err(error) => Err(format!("find out whether the socket is in use: {error}")),
        Ok(_) => Err("another process listens there: stop it first".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grpc.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, socket) = bind(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(bind(&path, 0o660).map(|_| ()).unwrap_err().contains("another process"));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(bind(&path, 0o660).map(|_| ()).unwrap_err().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        let missing = dir.path().join("none/grpc.sock");
        assert!(bind(&missing, 0o660).map(|_| ()).unwrap_err().contains("directory does not exist"));
    }
}
