//! `fs.hash`

use std::{io::Read as _, time::Duration};

use aios_keys::hex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    access::Access,
    args::AbsolutePath,
    beneath::Tree,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

pub struct Hash;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Regular file.
    path: AbsolutePath,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// SHA-256 of the contents, 64 hexadecimal digits.
    sha256: String,
    /// Bytes that were read.
    size_bytes: u64,
}

impl Tool for Hash {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.hash",
        description: "Computes the SHA-256 of a file's contents. A file of many gigabytes takes longer than the two \
                      minutes that a call has.",
        examples: &[Example { goal: "checksum of a model", arguments: r#"{"path": "/var/lib/aios/models/a.gguf"}"# }],
        needs: &["fs:read:{path}"],
        timeout: Duration::from_secs(120),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().reads(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut file = Tree::of(host)?.file(&input.path)?;
        let (mut hash, mut size_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let read = file.read(&mut buffer).map_err(|error| ToolError::io(input.path.as_path(), &error))?;
            if read == 0 {
                return Ok(Output { sha256: hex::encode(&hash.finalize()), size_bytes });
            }
            hash.update(&buffer[..read]);
            size_bytes += read as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn the_hash_is_that_of_the_standard() {
        let folder = tempfile::tempdir().expect("tempdir");
        std::fs::write(folder.path().join("abc"), "abc").expect("write");
        let host = Host::below(folder.path());
        // FIPS 180-4, example B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = call::<Hash>(&host, json!({"path": "/abc"})).expect("hash");
        assert_eq!(hash, json!({"sha256": expected, "size_bytes": 3}));
        assert_eq!(call::<Hash>(&host, json!({"path": "/"})).expect_err("folder").code, Code::InvalidArgument);
    }
}
