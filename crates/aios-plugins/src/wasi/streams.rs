//! Reading and writing.

use super::{
    Done, Fail, Guest, Stop,
    abi::Errno,
    files::{FILE_SIZE_MAX, Open, OpenFile},
};

/// What is kept of complaints, in bytes.
const ERRORS_MAX: usize = 4096;

/// The end of what was written.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(ERRORS_MAX)..];
        let old = (self.0.len() + new.len()).saturating_sub(ERRORS_MAX);
        self.0.drain(..old);
        self.0.extend_from_slice(new);
    }

    /// As text; bytes that are none are replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

pub(super) fn fd_read(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, at: u32) -> Done {
    let vectors = guest.memory.vectors(vectors, count)?;
    let read = match guest.state.files.get(fd)? {
        Open::Input => read_input(guest, &vectors)?,
        Open::File(file) => read_file(guest, &file, &vectors, None)?,
        Open::Folder(_) | Open::Output | Open::Errors => return Err(Errno::BADF.into()),
    };
    Ok(guest.memory.put_u32(at, read)?)
}

pub(super) fn fd_pread(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, offset: u64, at: u32) -> Done {
    let vectors = guest.memory.vectors(vectors, count)?;
    let file = guest.state.files.file(fd)?;
    let read = read_file(guest, &file, &vectors, Some(offset))?;
    Ok(guest.memory.put_u32(at, read)?)
}

pub(super) fn fd_write(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, at: u32) -> Done {
    let vectors = guest.memory.vectors(vectors, count)?;
    let length = vectors.iter().map(|(_, length)| u64::from(*length)).sum();
    let written = match guest.state.files.get(fd)? {
        Open::Output => {
            guest.copies(length);
            for (place, length) in vectors {
                let bytes = guest.memory.bytes(place, length)?;
                if (guest.state.output.len() + bytes.len()) as u64 > guest.state.output_max {
                    return Err(Fail::Stop(Stop::Output));
                }
                guest.state.output.extend_from_slice(bytes);
            }
            u32::try_from(length).map_err(|_| Errno::INVAL)?
        }
        Open::Errors => {
            guest.copies(length);
            for (place, length) in vectors {
                guest.state.errors.push(guest.memory.bytes(place, length)?);
            }
            u32::try_from(length).map_err(|_| Errno::INVAL)?
        }
        Open::File(file) => write_file(guest, &file, &vectors, None)?,
        Open::Folder(_) | Open::Input => return Err(Errno::BADF.into()),
    };
    Ok(guest.memory.put_u32(at, written)?)
}

pub(super) fn fd_pwrite(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, offset: u64, at: u32) -> Done {
    let vectors = guest.memory.vectors(vectors, count)?;
    let file = guest.state.files.file(fd)?;
    let written = write_file(guest, &file, &vectors, Some(offset))?;
    Ok(guest.memory.put_u32(at, written)?)
}

fn read_input(guest: &mut Guest<'_>, vectors: &[(u32, u32)]) -> Result<u32, Fail> {
    let mut read = 0;
    for (place, length) in vectors {
        let rest = &guest.state.input[guest.state.input_read..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(*length);
        guest.memory.put(*place, &rest[..length as usize])?;
        guest.state.input_read += length as usize;
        read += length;
    }
    guest.copies(read.into());
    Ok(read)
}

fn read_file(
    guest: &mut Guest<'_>,
    file: &OpenFile,
    vectors: &[(u32, u32)],
    mut offset: Option<u64>,
) -> Result<u32, Fail> {
    let mut total: u32 = 0;
    for (place, length) in vectors {
        let buffer = guest.memory.bytes_mut(*place, *length)?;
        let read = match offset {
            None => rustix::io::read(&file.file, &mut *buffer),
            Some(offset) => rustix::io::pread(&file.file, &mut *buffer, offset),
        };
        let read = match read {
            Ok(read) => read,
            // What was read before is not lost.
            Err(_) if total > 0 => break,
            Err(error) => return Err(error.into()),
        };
        total = total.saturating_add(u32::try_from(read).unwrap_or(u32::MAX));
        offset = offset.map(|offset| offset.saturating_add(read as u64));
        if read < *length as usize {
            break;
        }
    }
    guest.copies(total.into());
    Ok(total)
}

fn write_file(
    guest: &mut Guest<'_>,
    file: &OpenFile,
    vectors: &[(u32, u32)],
    mut offset: Option<u64>,
) -> Result<u32, Fail> {
    let mut total: u32 = 0;
    for (place, length) in vectors {
        let at = match offset {
            Some(offset) => offset,
            None if file.appends => file.file.metadata()?.len(),
            None => rustix::fs::tell(&file.file)?,
        };
        // Beyond this the kernel would end the process.
        if at.checked_add((*length).into()).is_none_or(|end| end > FILE_SIZE_MAX) {
            return Err(Errno::FBIG.into());
        }
        guest.state.spend((*length).into())?;
        let buffer = guest.memory.bytes(*place, *length)?;
        let written = match offset {
            None => rustix::io::write(&file.file, buffer),
            Some(offset) => rustix::io::pwrite(&file.file, buffer, offset),
        };
        let written = match written {
            Ok(written) => written,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error.into()),
        };
        total = total.saturating_add(u32::try_from(written).unwrap_or(u32::MAX));
        offset = offset.map(|offset| offset.saturating_add(written as u64));
        if written < *length as usize {
            break;
        }
    }
    guest.copies(total.into());
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_complaints_the_end_is_kept() {
        let mut tail = Tail::default();
        tail.push(b"first");
        tail.push(&[b'a'; ERRORS_MAX - 4]);
        assert!(tail.text().starts_with("irsta") && tail.text().len() == ERRORS_MAX);
        tail.push(&[b'b'; 3 * ERRORS_MAX]);
        assert_eq!(tail.text(), "b".repeat(ERRORS_MAX));
        tail.push("é\u{7f}".as_bytes());
        assert!(tail.text().ends_with("é\u{7f}"));
    }
}
