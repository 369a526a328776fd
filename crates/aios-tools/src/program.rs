//! Running a program of the image.

use std::{
    ffi::OsStr,
    io::{self, Read, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use crate::error::{Code, ToolError};

/// Most that is kept of what a program says about its failure.
const COMPLAINT_MAX: u64 = 4096;

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to its output, as far as the limit.
    pub output: Vec<u8>,
    /// Whether it wrote more than the limit.
    pub truncated: bool,
    /// The end of what it wrote to its error output is not kept: its beginning names the cause.
    pub complaint: String,
}

/// Runs `program` without a shell, with `input` as its standard input and nothing in its environment but `environment`.
/// Keeps `output_max` bytes of its output. The call's timeout, which the sandbox keeps, ends it.
pub fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    environment: &[(&str, &str)],
    input: &[u8],
    output_max: u64,
) -> Result<Finished, ToolError> {
    let failed = |error: io::Error| ToolError::of_io(program.display(), &error);
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, complaint) = thread::scope(|scope| {
        // A program that ends without reading its input closes the pipe; its status says more than that.
        let writer = scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let complaint = scope.spawn(move || bounded(stderr, COMPLAINT_MAX));
        let output = bounded(stdout, output_max);
        let _ = writer.join();
        (output, complaint.join().unwrap_or_else(|_| Ok((Vec::new(), false))))
    });
    let status = child.wait().map_err(failed)?.code();
    let (output, truncated) = output.map_err(failed)?;
    let (complaint, _) = complaint.map_err(failed)?;
    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
    Ok(Finished { status, output, truncated, complaint })
}

impl Finished {
    /// Itself where the program says that all went well, else an error of the kind that `code` finds in its complaint.
    pub fn succeeded(self, name: &str, code: impl FnOnce(&str) -> Code) -> Result<Self, ToolError> {
        if self.status == Some(0) {
            return Ok(self);
        }
        let status = self
            .status
            .map_or_else(|| "was ended by a signal".to_owned(), |status| format!("ended with status {status}"));
        let complaint = if self.complaint.is_empty() { "it said nothing" } else { self.complaint.as_str() };
        Err(ToolError::new(code(complaint), format!("{name} {status}: {complaint}")))
    }

    /// The output as JSON.
    pub fn json(&self, name: &str) -> Result<serde_json::Value, ToolError> {
        if self.truncated {
            let text = format!("{name} answered with more than {} bytes", self.output.len());
            return Err(ToolError::new(Code::TooLarge, text));
        }
        serde_json::from_slice(&self.output)
            .map_err(|error| ToolError::new(Code::Failed, format!("{name} answered with what is no JSON: {error}")))
    }
}

/// At most `max` bytes, and whether there was more. Reads all of it, so that the program is not stopped by a full pipe.
fn bounded(pipe: Option<impl Read>, max: u64) -> io::Result<(Vec<u8>, bool)> {
    let Some(mut pipe) = pipe else { return Ok((Vec::new(), false)) };
    let mut bytes = Vec::new();
    pipe.by_ref().take(max).read_to_end(&mut bytes)?;
    let more = io::copy(&mut pipe, &mut io::sink())?;
    Ok((bytes, more > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_input_and_an_empty_environment() {
        let finished = run(Path::new("/bin/cat"), &[] as &[&str], &[], b"some input", 100).expect("run");
        assert_eq!(
            (finished.status, finished.output.as_slice(), finished.truncated),
            (Some(0), &b"some input"[..], false)
        );
        let finished = run(Path::new("/usr/bin/env"), &[] as &[&str], &[("LC_ALL", "C")], b"", 100).expect("run");
        assert_eq!(finished.output, b"LC_ALL=C\n");
    }

    #[test]
    fn output_beyond_the_limit_is_cut_and_never_blocks_the_program() {
        let finished =
            run(Path::new("/usr/bin/head"), &["-c", "1000000", "/dev/zero"], &[], &[0; 100_000], 10).expect("run");
        assert_eq!((finished.status, finished.output.len(), finished.truncated), (Some(0), 10, true));
        assert_eq!(finished.json("head").map_err(|error| error.code), Err(Code::TooLarge));
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let finished = run(Path::new("/bin/ls"), &["/no-such-folder"], &[("LC_ALL", "C")], b"", 10).expect("run");
        let error = finished.succeeded("ls", |_| Code::NotFound).expect_err("failed");
        assert!(error.message.contains("ended with status 2") && error.message.contains("no-such-folder"), "{error}");
        assert_eq!(
            run(Path::new("/no-such-program"), &[""; 0], &[], b"", 1).map(|_| ()).map_err(|e| e.code),
            Err(Code::NotFound)
        );
    }
}
