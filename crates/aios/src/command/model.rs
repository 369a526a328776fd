//! `aios model`, `aios ask`

mod add;
mod convert;
mod kept;
mod list;
mod local;
mod pull;
mod show;
mod verify;

use std::{
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use aios_api::runtime::v1::{
    Conversation, Form, InferRequest, ListModelsRequest, LoadModelRequest, Message, ModelState, Role, Sampling,
    UnloadModelRequest, form, infer_request::Input, runtime_service_client::RuntimeServiceClient,
    stream_infer_response::Event,
};
use aios_core::paths;
use anyhow::{Context as _, Result, bail};
use tonic::transport::Channel;

use self::local::Local;
use crate::{
    cli::{AskArgs, ModelCommand},
    service::{self, block_on, refused},
};

pub fn run(command: ModelCommand, json: bool) -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        ModelCommand::List { device, runtime } => {
            done(list::run(&Local::open(&device)?, &runtime.runtime_socket, json))
        }
        ModelCommand::Show { model, device } => done(show::run(&Local::open(&device)?, &model, json)),
        ModelCommand::Pull(args) => done(pull::run(&args, json)),
        ModelCommand::Convert(args) => done(convert::run(&args, json)),
        ModelCommand::Import(args) => done(add::import(&args, json)),
        ModelCommand::Verify { model, sign: false, device } => {
            verify::run(&Local::open(&device)?, model.as_deref(), json)
        }
        ModelCommand::Verify { model, sign: true, device } => {
            done(verify::sign(&Local::open(&device)?, &model.unwrap_or_default(), json))
        }
        ModelCommand::Remove { model, force, device, runtime } => {
            done(remove(&Local::open(&device)?, &model, force, &runtime.runtime_socket))
        }
        ModelCommand::Load { model, runtime } => done(block_on(async {
            let request = LoadModelRequest { model };
            let answer = connect(&runtime.runtime_socket).await?.load_model(request).await.map_err(refused)?;
            list::print_loaded(answer.into_inner().model.as_slice(), json)
        })),
        ModelCommand::Unload { model, runtime } => done(block_on(async {
            let request = UnloadModelRequest { model };
            connect(&runtime.runtime_socket).await?.unload_model(request).await.map(drop).map_err(refused)
        })),
    }
}

/// Removes a model. One that is in memory is refused, or unloaded with `force`.
fn remove(local: &Local, id: &str, force: bool, socket: &Path) -> Result<()> {
    let in_memory = block_on(async {
        // Without a runtime nothing is in memory.
        let Ok(mut client) = connect(socket).await else { return Ok(false) };
        let models = client.list_models(ListModelsRequest {}).await.map_err(refused)?.into_inner().models;
        let loaded = models.iter().any(|model| model.id == id && model.state() == ModelState::Loaded);
        if loaded && force {
            let request = UnloadModelRequest { model: id.to_owned() };
            client.unload_model(request).await.map_err(refused)?;
            return Ok(false);
        }
        Ok(loaded)
    })?;
    if in_memory {
        bail!("model '{id}' is in memory: `aios model unload {id}` first, or add --force");
    }
    local.store.remove(id)?;
    kept::forget(Path::new(paths::RUNTIME_STATE), paths::PREFIXES, id).with_context(|| {
        let folder = Path::new(paths::RUNTIME_STATE).join(paths::PREFIXES).join(id);
        format!("model '{id}' is removed, but not what is kept of prompts to it: {}", folder.display())
    })
}

pub fn ask(args: AskArgs, json: bool) -> Result<()> {
    block_on(async {
        let mut client = connect(&args.runtime.runtime_socket).await?;
        let request = request(&args)?;
        if json {
            let answer = client.infer(request).await.map_err(refused)?.into_inner();
            let finish = answer.finish_reason().as_str_name();
            println!("{}", serde_json::json!({"model": answer.model, "text": answer.text, "finish_reason": finish}));
            return Ok(());
        }
        let mut events = client.stream_infer(request).await.map_err(refused)?.into_inner();
        let mut out = io::stdout().lock();
        while let Some(event) = events.message().await.map_err(refused)? {
            if let Some(Event::Text(text)) = event.event {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
        }
        writeln!(out)?;
        Ok(())
    })
}

fn request(args: &AskArgs) -> Result<InferRequest> {
    let mut prompt = args.prompt.clone();
    if prompt == "-" {
        prompt.clear();
        io::stdin().lock().read_to_string(&mut prompt).context("can't read the question from standard input")?;
    }
    let message = |role: Role, content: String| Message { role: role.into(), content };
    let system = args.system.clone().map(|text| message(Role::System, text));
    let messages = system.into_iter().chain([message(Role::User, prompt)]).collect();
    Ok(InferRequest {
        model: args.model.clone(),
        input: Some(Input::Conversation(Conversation { messages })),
        sampling: Some(Sampling { temperature: Some(args.temperature), top_p: None, seed: args.seed }),
        max_tokens: Some(args.max_tokens),
        stop: Vec::new(),
        form: form(args)?.map(|form| Form { form: Some(form) }),
        ..Default::default()
    })
}

/// What the answer must look like.
fn form(args: &AskArgs) -> Result<Option<form::Form>> {
    Ok(match (&args.json_schema, &args.regex) {
        (Some(schema), _) if schema.trim_start().starts_with('{') => Some(form::Form::JsonSchema(schema.clone())),
        (Some(file), _) => {
            let schema = std::fs::read_to_string(file).with_context(|| format!("can't read the JSON schema {file}"))?;
            Some(form::Form::JsonSchema(schema))
        }
        (None, Some(regex)) => Some(form::Form::Regex(regex.clone())),
        (None, None) => None,
    })
}

async fn connect(socket: &Path) -> Result<RuntimeServiceClient<Channel>> {
    service::connect(socket, "the model runtime", "runtime").await.map(RuntimeServiceClient::new)
}
