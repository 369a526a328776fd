//! What the build leaves in `output/images`.

use std::path::{Path, PathBuf};

use crate::{Architecture, Board, StartError};

/// The outputs that boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// Live medium: hybrid BIOS and UEFI ISO 9660.
    Iso,
    /// Disk or SD card, raw.
    Img,
    /// The same disk for virtual machines.
    Qcow2,
}

/// A directory of built images, of one board.
#[derive(Clone, Debug)]
pub struct Images {
    dir: PathBuf,
    board: Board,
}

/// A kernel to start without firmware or boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectKernel {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

impl ImageKind {
    pub fn extension(self) -> &'static str {
        match self {
            ImageKind::Iso => "iso",
            ImageKind::Img => "img",
            ImageKind::Qcow2 => "qcow2",
        }
    }
}

impl Images {
    /// The images of the board `x86_64`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Images::of_board(dir, Board::x86_64())
    }

    pub fn of_board(dir: impl Into<PathBuf>, board: Board) -> Self {
        Images { dir: dir.into(), board }
    }

    pub fn board(&self) -> &Board {
        &self.board
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image of this kind, which must be there.
    pub fn path(&self, kind: ImageKind) -> Result<PathBuf, StartError> {
        self.existing(&format!("aios-{}.{}", self.board.name, kind.extension()))
    }

    /// Of x86_64 the uncompressed PVH kernel where the build made one (it saves the guest the decompression), else the
    /// bzImage; an aarch64 kernel is uncompressed.
    pub fn direct_kernel(&self) -> Result<DirectKernel, StartError> {
        let kernel = match self.board.architecture {
            Architecture::X86_64 => self.existing("vmlinux").or_else(|_| self.existing("bzImage"))?,
            Architecture::Aarch64 => self.existing("Image")?,
        };
        Ok(DirectKernel { kernel, initrd: self.existing("initramfs.img")? })
    }

    /// Absolute, because a qcow2 overlay resolves a relative backing file against its own directory.
    fn existing(&self, name: &str) -> Result<PathBuf, StartError> {
        let path = self.dir.join(name);
        path.canonicalize().map_err(|_| StartError::MissingImage { path, board: self.board.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_says_to_run_make() {
        let dir = tempfile::tempdir().unwrap();
        let error = Images::new(dir.path()).path(ImageKind::Iso).unwrap_err().to_string();
        assert!(error.contains("aios-x86_64.iso") && error.contains("`make aios_x86_64_defconfig && make`"), "{error}");
        let error = Images::of_board(dir.path(), Board::aarch64()).path(ImageKind::Img).unwrap_err().to_string();
        assert!(
            error.contains("aios-aarch64.img") && error.contains("`make aios_aarch64_defconfig && make`"),
            "{error}"
        );
    }

    #[test]
    fn the_uncompressed_kernel_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bzImage", "initramfs.img"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let images = Images::new(dir.path());
        assert!(images.direct_kernel().unwrap().kernel.ends_with("bzImage"));
        std::fs::write(dir.path().join("vmlinux"), "").unwrap();
        assert!(images.direct_kernel().unwrap().kernel.ends_with("vmlinux"));
    }
}
