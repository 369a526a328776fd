//! `aios tool`, `aios rollback`, `aios tools`

mod approve;
mod arguments;
mod call;
mod remote;
mod show;

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use aios_api::tools::v1::{
    GetToolRequest, GrantRequest, ListGrantsRequest, ListRollbacksRequest, ListToolsRequest, RevokeRequest,
    RollbackRequest, tools_service_client::ToolsServiceClient,
};
use aios_core::quantity::HumanDuration;
use anyhow::Result;
use serde_json::{Value, json};
use tonic::transport::Channel;

pub use self::call::new_id;

use crate::{
    cli::{RollbackArgs, ToolCommand, ToolsArgs},
    service::{self, block_on, refused},
};

pub(super) type Client = ToolsServiceClient<Channel>;

pub fn run(command: ToolCommand, json: bool) -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        ToolCommand::List { namespace, tools } => done(block_on(async {
            let request = ListToolsRequest { namespace: namespace.unwrap_or_default(), ..ListToolsRequest::default() };
            let listed = connect(&tools.tools_socket).await?.list_tools(request).await.map_err(refused)?;
            show::list(&listed.into_inner().tools, json)
        })),
        ToolCommand::Show { tool, tools } => done(block_on(async {
            let request = GetToolRequest { name: tool };
            let shown = connect(&tools.tools_socket).await?.get_tool(request).await.map_err(refused)?;
            show::tool(&shown.into_inner().tool.unwrap_or_default(), json)
        })),
        ToolCommand::Run(args) => block_on(call::run(args, json)),
        ToolCommand::Approvals { afar, tools } => done(block_on(async {
            if afar.broker.is_some() {
                return remote::list(&afar, json).await;
            }
            approve::list(&tools.tools_socket, json).await
        })),
        ToolCommand::Approve { call, yes, afar, tools } => done(block_on(async {
            if afar.broker.is_some() {
                return remote::answer(&afar, &call, yes.then_some(true)).await;
            }
            approve::approve(&tools.tools_socket, &call, yes).await
        })),
        ToolCommand::Deny { call, afar, tools } => done(block_on(async {
            if afar.broker.is_some() {
                return remote::answer(&afar, &call, Some(false)).await;
            }
            approve::deny(&tools.tools_socket, &call).await
        })),
        ToolCommand::Grants { tools } => done(block_on(grants(&tools.tools_socket, json))),
        ToolCommand::Grant { agent, capability, lifetime, tools } => done(block_on(async {
            let request = GrantRequest { agent, capability, lifetime_s: seconds(lifetime) };
            let granted = connect(&tools.tools_socket).await?.grant(request).await.map_err(refused)?;
            let grant = granted.into_inner().grant.unwrap_or_default();
            let text = format!("grant {}: {} may {} until {}", grant.id, grant.agent, grant.capability, grant.expires);
            print(json, &json!({ "id": grant.id, "expires": grant.expires }), &text)
        })),
        ToolCommand::Revoke { id, tools } => done(block_on(async {
            connect(&tools.tools_socket).await?.revoke(RevokeRequest { id }).await.map_err(refused).map(drop)
        })),
    }
}

/// `aios rollback`
pub fn rollback(args: RollbackArgs, json: bool) -> Result<ExitCode> {
    block_on(async {
        let mut client = connect(&args.tools.tools_socket).await?;
        let Some(call_id) = args.call else {
            let listed = client.list_rollbacks(ListRollbacksRequest { limit: 0 }).await.map_err(refused)?;
            return show::rollbacks(&listed.into_inner().calls, json);
        };
        let request = RollbackRequest { call_id, force: args.force };
        let done = client.rollback(request).await.map_err(refused)?.into_inner();
        let text = done.restored.iter().map(|what| format!("restored {what}")).collect::<Vec<_>>().join("\n");
        print(json, &json!({ "restored": done.restored, "ledger_seq": done.ledger_seq }), &text)
    })
    .map(|()| ExitCode::SUCCESS)
}

/// `aios tools`
pub fn serve(args: ToolsArgs) -> ExitCode {
    let ToolsArgs { config, policy, state, keys, without_groups } = args;
    aios_tools::daemon::run(aios_tools::daemon::Files { config, policy, state, keys, without_groups })
}

/// A time as the service takes it; 0 stands for the longest that the policy allows.
fn seconds(lifetime: Option<HumanDuration>) -> u32 {
    lifetime.map_or(0, |time| u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX).max(1))
}

async fn grants(socket: &Path, json: bool) -> Result<()> {
    let listed = connect(socket).await?.list_grants(ListGrantsRequest {}).await.map_err(refused)?;
    show::grants(&listed.into_inner().grants, json)
}

pub(super) async fn connect(socket: &Path) -> Result<Client> {
    let channel = service::connect(socket, "the tools", "tools").await?;
    Ok(ToolsServiceClient::new(channel).max_decoding_message_size(16 << 20))
}

pub(super) fn print(as_json: bool, value: &Value, text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(value)?)?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}
