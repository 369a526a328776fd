//! The committed code is what the protos say.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Files under `proto/`; the generated names follow from the package in each.
const PROTOS: [&str; 3] = ["aios/memory/v1/memory.proto", "aios/runtime/v1/runtime.proto", "aios/tools/v1/tools.proto"];

/// Makes every generated file and returns its name and bytes.
fn generate() -> Vec<(String, Vec<u8>)> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&protos]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    let mut files = Vec::new();
    let out = tempfile::tempdir().unwrap();

    for proto in PROTOS {
        compiler.open_file(proto).unwrap();
    }
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(descriptors.clone()).unwrap();
    for entry in fs::read_dir(out.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.push((name, fs::read(&path).unwrap()));
    }

    // Reflection needs the shapes alone: comments and positions would double the bytes in the binary.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    for file in bare.file {
        let package = file.package().to_owned();
        files.push((format!("{package}.descriptors.bin"), FileDescriptorSet { file: vec![file] }.encode_to_vec()));
    }
    files
}

fn generated_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated")
}

#[test]
fn committed_code_is_what_the_protos_generate() {
    let files = generate();
    assert_eq!(files.len(), 2 * PROTOS.len(), "one module and one descriptor set per package");
    let regenerate = std::env::var_os("AIOS_REGENERATE").is_some();
    for (name, content) in files {
        let committed = generated_dir().join(&name);
        if regenerate {
            fs::write(&committed, &content).unwrap();
        }
        let found = fs::read(&committed).unwrap_or_default();
        assert!(
            found == content,
            "{} differs from its proto: run `AIOS_REGENERATE=1 cargo test -p aios-api` and commit the result",
            committed.display()
        );
    }
}

#[test]
fn descriptor_sets_name_the_services_and_their_calls() {
    let calls = |set: &[u8], package: &str| {
        let set = FileDescriptorSet::decode(set).unwrap();
        let file = set.file.into_iter().find(|file| file.package() == package).unwrap();
        let service = &file.service[0];
        let calls: Vec<String> = service.method.iter().map(|method| method.name().to_owned()).collect();
        (service.name().to_owned(), calls.join(" "))
    };
    let runtime = calls(aios_api::runtime::v1::FILE_DESCRIPTOR_SET, "aios.runtime.v1");
    assert_eq!(runtime.0, "RuntimeService");
    assert_eq!(runtime.1, "LoadModel UnloadModel ListModels Infer StreamInfer Embed CountTokens");
    let memory = calls(aios_api::memory::v1::FILE_DESCRIPTOR_SET, "aios.memory.v1");
    assert_eq!(memory.0, "MemoryService");
    assert_eq!(
        memory.1,
        "PushEvent GetRecentEvents UpdateMetric GetMetric GetSystemSnapshot StoreGoal UpdateGoal GetActiveGoals StoreTask \
         GetTasksForGoal StoreToolCall StoreDecision StorePattern FindPattern UpdatePatternStats StoreAgentState \
         GetAgentState StoreProcedure StoreIncident StoreConfigChange AddKnowledge SemanticSearch SearchKnowledge \
         AssembleContext Erase Stats"
    );
    let tools = calls(aios_api::tools::v1::FILE_DESCRIPTOR_SET, "aios.tools.v1");
    assert_eq!(tools.0, "ToolsService");
    assert_eq!(
        tools.1,
        "ListTools GetTool Execute Rollback ListRollbacks ListApprovals WatchApprovals Approve Grant Revoke ListGrants \
         IssueToken RevokeToken QueryLedger"
    );
}
