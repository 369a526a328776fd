//! `aios model`, `aios ask`

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use aios_api::runtime::v1::{
    Conversation, InferRequest, ListModelsRequest, LoadModelRequest, Message, Model, ModelState, Role, Sampling,
    UnloadModelRequest, infer_request::Input, runtime_service_client::RuntimeServiceClient,
    stream_infer_response::Event,
};
use anyhow::{Context, Result, bail};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::cli::{AskArgs, ModelCommand, RuntimeArgs};

pub fn run(command: ModelCommand, json: bool) -> Result<()> {
    on_runtime(async {
        match command {
            ModelCommand::List(RuntimeArgs { runtime_socket }) => {
                let answer = connect(&runtime_socket).await?.list_models(ListModelsRequest {}).await;
                print_models(&answer.map_err(refused)?.into_inner().models, json)
            }
            ModelCommand::Load { model, runtime } => {
                let request = LoadModelRequest { model };
                let answer = connect(&runtime.runtime_socket).await?.load_model(request).await.map_err(refused)?;
                print_models(answer.into_inner().model.as_slice(), json)
            }
            ModelCommand::Unload { model, runtime } => {
                let request = UnloadModelRequest { model };
                connect(&runtime.runtime_socket).await?.unload_model(request).await.map(drop).map_err(refused)
            }
        }
    })
}

pub fn ask(args: AskArgs, json: bool) -> Result<()> {
    on_runtime(async {
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
    })
}

fn on_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn connect(socket: &Path) -> Result<RuntimeServiceClient<Channel>> {
    let path: PathBuf = socket.into();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is only a name: the connector goes to the socket.
    let channel =
        Endpoint::from_static("http://runtime").connect_with_connector(connector).await.with_context(|| {
            format!("can't reach the model runtime at {} (see `aios status runtime`)", socket.display())
        })?;
    Ok(RuntimeServiceClient::new(channel))
}

/// A refusal in the runtime's own words.
fn refused(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

fn print_models(models: &[Model], json: bool) -> Result<()> {
    if json {
        let list: Vec<_> = models.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    if models.is_empty() {
        bail!("no models in the model directories (see runtime.model-dirs in `aios config show`)");
    }
    let width = models.iter().map(|m| m.id.len()).max().unwrap_or(0).max(5);
    println!("{:width$}  {:9}  {:>9}  {:>7}", "MODEL", "STATE", "SIZE", "CONTEXT");
    for model in models {
        let size = format!("{:.0} MB", model.size_bytes as f64 / 1e6);
        let context = if model.context_length == 0 { "-".into() } else { model.context_length.to_string() };
        let remark = if model.is_default { "default" } else { model.error.as_str() };
        println!("{:width$}  {:9}  {size:>9}  {context:>7}  {remark}", model.id, state(model));
    }
    Ok(())
}

fn state(model: &Model) -> &'static str {
    match model.state() {
        ModelState::Unspecified => "unknown",
        ModelState::Available => "available",
        ModelState::Loaded => "loaded",
        ModelState::Failed => "failed",
    }
}

fn as_json(model: &Model) -> serde_json::Value {
    serde_json::json!({
        "id": model.id, "state": state(model), "default": model.is_default, "architecture": model.architecture,
        "parameters": model.parameters, "context_length": model.context_length, "size_bytes": model.size_bytes,
        "load_ms": model.load_ms, "error": model.error,
    })
}
