//! What every board's outputs must do: boot by each firmware they are for, answer, and power off in order.

use aios_vm::{Architecture, Board, Firmware, ImageKind, api::ApiError, conf_volume::EmergencyShell};
use serde_json::{Value, json};

use crate::qemu::{Scratch, TestVm};

/// Boots the image; returns what init said when all units were Ready.
pub fn boots_to_ready(board: Board, image: ImageKind, firmware: Firmware) -> String {
    let scratch = Scratch::of_board(board);
    let (machine, line) = TestVm::start_to_ready(scratch.machine("run").image(image).firmware(firmware));
    drop(machine);
    line
}

/// Boots the qcow2 by UEFI: the watchdog is armed, the API answers a prompt and refuses what it must, the console obeys
/// nobody, and the power button ends it.
pub fn answers_a_prompt_and_powers_off_in_order(board: Board) {
    let scratch = Scratch::of_board(board);
    let (mut machine, _) =
        TestVm::start_to_ready(scratch.machine("run").image(ImageKind::Qcow2).firmware(Firmware::Uefi));
    machine.expect_line("aios-init: watchdog armed: the machine is reset when PID 1 hangs for 30 s");
    machine.send_console("echo the shell says $((40 + 2))\n").expect("the console takes a line");
    let translated = match machine.architecture() {
        Architecture::X86_64 => "avx2",
        Architecture::Aarch64 => "i8mm",
    };
    if machine.is_translated() {
        computes_with(&machine, translated);
    }
    answers_whole_and_in_pieces(&machine);
    refuses_a_wrong_token(&machine);
    refuses_an_unknown_model(&machine);
    let text = machine.power_off();
    assert!(!text.contains("the shell says 42") && !text.contains("emergency-shell"), "a shell was there:\n{text}");
}

/// Boots a card as its own firmware would: the units are Ready by their own word, the model answers through the
/// network, and the command line turns the machine off, which has no power button.
pub fn answers_from_a_card_and_powers_off(board: Board) {
    const CARD: u64 = 2 << 30;
    let scratch = Scratch::of_board(board);
    let builder = scratch.machine("run").disk_size(CARD).emergency_shell(EmergencyShell::Allowed);
    let (mut machine, _) = TestVm::start_to_ready(builder);
    let status = machine.shell("aios status");
    assert!(status.contains("runtime") && status.contains("Ready") && !status.contains("Failed"), "{status}");
    let answer = machine.api().chat("Hi", 3).unwrap_or_else(|error| panic!("{error}"));
    assert!(!answer.text.trim().is_empty());
    computes_with(&machine, "neon");
    machine.send_console("aios poweroff\n").expect("the console takes a line");
    machine.wait_off();
}

/// The kernels use the best instructions of the machine's processor.
fn computes_with(machine: &TestVm, arithmetic: &str) {
    let model = machine.api().default_model().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(model["aios"]["arithmetic"], arithmetic, "{model}");
}

/// At temperature 0 both ways must give the same text.
fn answers_whole_and_in_pieces(machine: &TestVm) {
    let api = machine.api();
    let model = api.default_model().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(model["id"], "default");
    let prompt = "What is the capital of France?";
    let whole = api.chat(prompt, 6).unwrap_or_else(|error| panic!("{error}"));
    assert!(!whole.text.trim().is_empty());
    assert!((1..=6).contains(&whole.timings.predicted_n), "{:?}", whole.timings);
    assert!(whole.timings.prompt_n > 0, "{:?}", whole.timings);
    let mut pieces = Vec::new();
    let streamed = api.chat_stream(prompt, 6, |piece| pieces.push(piece.to_owned())).unwrap_or_else(|e| panic!("{e}"));
    assert!(pieces.len() > 1, "the answer came in one piece: {pieces:?}");
    assert_eq!(streamed.text, whole.text);
}

fn refuses_a_wrong_token(machine: &TestVm) {
    let wrong = machine.api().with_token(&"0".repeat(64));
    let refused = wrong.default_model();
    assert!(matches!(refused, Err(ApiError::Status { status: 401, .. })), "{refused:?}");
    let (status, body) = wrong.post("/v1/chat/completions", &question("default")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(status, 401, "{body}");
}

fn refuses_an_unknown_model(machine: &TestVm) {
    let request = question("no-such-model");
    let (status, body) = machine.api().post("/v1/chat/completions", &request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status, 404, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("no-such-model"), "{body}");
}

fn question(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 1 })
}
