//! `aios mcp`

use std::{fs, sync::Arc};

use aios_mcp::{Conversation, GrpcDoor};
use anyhow::{Context as _, Result};

use super::tool::new_id;
use crate::{cli::McpArgs, service::connect};

/// Serves the client at standard input and output. What it may do is what the user who started this may, narrowed by the
/// token where there is one.
pub fn run(args: McpArgs) -> Result<()> {
    let token = match &args.token_file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("token file {}", file.display()))?,
        None => String::new(),
    };
    // A new name: what this process's client reads taints what it asks for later, and nobody else's arguments.
    let session = format!("mcp-{}", new_id()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let channel = connect(&args.tools.tools_socket, "the tools", "tools").await?;
        let conversation =
            Conversation { door: Arc::new(GrpcDoor::new(channel)), session, token: token.trim().to_owned() };
        // Clients end a process that takes its time with SIGTERM; what waits for approval is taken back even then.
        Ok(aios_mcp::stdio::serve(conversation, aios_service::shutdown()?).await?)
    });
    // A read of standard input that nothing answers would keep the process.
    runtime.shutdown_background();
    served
}
