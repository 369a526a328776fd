//! `pkg.verify`

use std::time::Duration;

use aios_core::paths;
use aios_models::{
    store::Store,
    trust::{Origin as Trusted, Trust},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

/// Most models that one call verifies.
const MODELS_MAX: usize = 16;

/// Longest reason that is shown, in characters.
const REASON_MAX: usize = 300;

pub struct Verify;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this model.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether all are what they were when their manifests were written.
    right: bool,
    /// Models, by id. Up to 16.
    models: Vec<Model>,
    /// Whether there are more than were verified.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Model {
    /// Id.
    id: String,
    /// Who vouches for it: `factory` the image, `device` this device's signature; absent where it is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    vouched_by: Option<&'static str>,
    /// Why it is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Tool for Verify {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.verify",
        description: "Verifies the models on this device against their manifests and signatures, reading all of their files.",
        examples: &[
            Example { goal: "are the models as they were installed", arguments: "{}" },
            Example { goal: "verify the default model", arguments: r#"{"model": "smollm2-135m-instruct"}"# },
        ],
        needs: &["pkg:verify:models"],
        timeout: Duration::from_secs(300),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        let access = Access::needs("pkg:verify:models").with(Privilege::ReadAll);
        [paths::FACTORY_MODELS, paths::DEVICE_MODELS, paths::KEYS].iter().fold(access, Access::sees)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let (factory, device) = (host.path(paths::FACTORY_MODELS), host.path(paths::DEVICE_MODELS));
        let store =
            Store { directory: device.clone(), dirs: vec![device, factory.clone()], factory: vec![factory.clone()] };
        let trust =
            Trust { keys: host.path(paths::KEYS), require_signature: true, factory: vec![factory], memory: None };
        let mut installed = store.models();
        if let Some(id) = &input.model {
            installed.retain(|model| model.id == *id);
            if installed.is_empty() {
                let text = format!("there is no model {:?} on this device", plain(id, 128));
                return Err(ToolError::new(Code::NotFound, text));
            }
        }
        let truncated = installed.len() > MODELS_MAX;
        let verify = |model: &aios_models::store::Installed| {
            let (vouched_by, reason) = match trust.check_in_full(&model.folder) {
                Ok(trusted) => (Some(if trusted.origin == Trusted::Factory { "factory" } else { "device" }), None),
                Err(error) => (None, Some(plain(&error.to_string(), REASON_MAX))),
            };
            Model { id: plain(&model.id, 128), vouched_by, reason }
        };
        let models: Vec<Model> = installed.iter().take(MODELS_MAX).map(verify).collect();
        Ok(Output { right: !truncated && models.iter().all(|model| model.reason.is_none()), models, truncated })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::testing::call;

    fn put(host: &Host, folder: &str, id: &str, bytes: &[u8], described: &[u8]) {
        let folder = host.path(format!("{folder}/{id}"));
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("model.gguf"), bytes).expect("write");
        let sha256 = aios_keys::hex::encode(&Sha256::digest(described));
        let manifest = format!(
            "id = \"{id}\"\nfile = \"model.gguf\"\nsha256 = \"{sha256}\"\nsize = {}\nlicence = \"MIT\"\nsource = \"test\"\n\
             revision = \"1\"\ncontext = 8\n",
            described.len()
        );
        fs::write(folder.join("model.toml"), manifest).expect("write");
    }

    #[test]
    fn a_model_that_was_changed_or_that_nobody_signed_is_named() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        put(&host, paths::FACTORY_MODELS, "good", b"weights", b"weights");
        assert_eq!(
            call::<Verify>(&host, json!({})),
            Ok(json!({"right": true, "models": [{"id": "good", "vouched_by": "factory"}], "truncated": false}))
        );
        put(&host, paths::FACTORY_MODELS, "bad", b"weightz", b"weights");
        put(&host, paths::DEVICE_MODELS, "unsigned", b"weights", b"weights");
        let answer = call::<Verify>(&host, json!({})).expect("verify");
        assert_eq!(answer["right"], false);
        let ids: Vec<_> = answer["models"]
            .as_array()
            .expect("models")
            .iter()
            .filter(|model| model["reason"].is_string())
            .map(|model| model["id"].clone())
            .collect();
        assert_eq!(ids, ["bad", "unsigned"]);
        assert_eq!(call::<Verify>(&host, json!({"model": "good"})).expect("verify")["right"], true);
        let code = call::<Verify>(&host, json!({"model": "../good"})).map_err(|error| error.code);
        assert_eq!(code, Err(Code::NotFound));
    }
}
