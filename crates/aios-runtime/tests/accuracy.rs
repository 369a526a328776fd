//! What the kernels' rounding costs: a model, teacher-forced over fixed texts, against the same weights in full precision
//! (`f32`) in candle's own implementation of the architecture. One line of figures for each set of instructions:
//! `cargo test --release -p aios-runtime --test accuracy -- --nocapture`.
//!
//! Needs the factory model, as `tests/model.rs` does; Gemma is compared where `AIOS_TEST_GEMMA` names a GGUF file of Gemma 3
//! 270M.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/candle.rs"]
mod candle;
#[path = "support/factory_model.rs"]
mod factory_model;
#[path = "support/gemma_tokens.rs"]
mod gemma_tokens;

use std::path::Path;

use aios_kernels::Isa;
use aios_runtime::engine::{self, Cancel, Engine};
use aios_runtime::gguf::Gguf;
use aios_runtime::model::{LoadOptions, LoadedModel};

const CONTEXT: usize = 512;
/// An explanation, a story, a program and a document.
const TEXTS: [&str; 4] = [
    "A computer stores numbers in binary form. Every digit is either zero or one, and a group of eight digits is called \
     a byte. The processor reads instructions from memory one after another, decodes them and carries them out. Because \
     memory is slow compared with the processor, small and fast caches keep what was used lately close at hand. The \
     operating system decides which program may use the processor next, and it keeps programs from harming each other.",
    "Once upon a time there was a little girl who lived at the edge of a great forest with her grandmother. Every morning \
     she went to the river to fetch water, and every evening she lit the lamp in the window so that travellers would \
     find their way. One winter night somebody knocked at the door. It was an old man with a long white beard, and he \
     was very cold. \"Come in,\" said the girl, \"and sit down by the fire.\"",
    "def fibonacci(n):\n    \"\"\"Return the first n numbers of the Fibonacci sequence.\"\"\"\n    numbers = [0, 1]\n    while \
     len(numbers) < n:\n        numbers.append(numbers[-1] + numbers[-2])\n    return numbers[:n]\n\n\nif __name__ == \
     \"__main__\":\n    for number in fibonacci(10):\n        print(number)\n",
    "{\n  \"name\": \"sensor-7\",\n  \"location\": \"greenhouse\",\n  \"readings\": [\n    {\"time\": \"2024-05-01T08:00:00Z\", \
     \"temperature\": 18.5, \"humidity\": 0.61},\n    {\"time\": \"2024-05-01T09:00:00Z\", \"temperature\": 19.2, \
     \"humidity\": 0.58},\n    {\"time\": \"2024-05-01T10:00:00Z\", \"temperature\": 20.1, \"humidity\": 0.55}\n  ]\n}\n",
];

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - largest - sum.ln()).collect()
}

fn likeliest(logs: &[f64]) -> usize {
    (0..logs.len()).max_by(|&a, &b| logs[a].total_cmp(&logs[b])).unwrap()
}

/// Sums over all predictions.
#[derive(Default)]
struct Sums {
    predictions: f64,
    surprise: f64,
    reference_surprise: f64,
    divergence: f64,
    agreements: f64,
}

struct Figures {
    perplexity: f64,
    /// Perplexity in full precision.
    reference: f64,
    /// Part of the predictions whose likeliest token is the same.
    agreement: f64,
    /// Mean Kullback-Leibler divergence, in nats.
    divergence: f64,
}

impl Sums {
    fn add(&mut self, reference: &[f64], logits: &[f32], next: u32) {
        let logs = log_softmax(logits);
        self.predictions += 1.0;
        self.surprise -= logs[next as usize];
        self.reference_surprise -= reference[next as usize];
        self.divergence += reference.iter().zip(&logs).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        self.agreements += f64::from(u8::from(likeliest(reference) == likeliest(&logs)));
    }

    fn merge(&mut self, other: &Self) {
        self.predictions += other.predictions;
        self.surprise += other.surprise;
        self.reference_surprise += other.reference_surprise;
        self.divergence += other.divergence;
        self.agreements += other.agreements;
    }

    fn figures(&self) -> Figures {
        Figures {
            perplexity: (self.surprise / self.predictions).exp(),
            reference: (self.reference_surprise / self.predictions).exp(),
            agreement: self.agreements / self.predictions,
            divergence: self.divergence / self.predictions,
        }
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { perplexity, reference, agreement, divergence } = self.figures();
        write!(
            formatter,
            "{} predictions, perplexity {perplexity:.4} (f32 {reference:.4}, {:+.2}%), likeliest token the same {:.2}%, \
             mean KL {divergence:.5}",
            self.predictions,
            (perplexity / reference - 1.0) * 100.0,
            agreement * 100.0
        )
    }
}

/// The model on one set of instructions, fed by so many tokens at a time: products of single tokens and of several are
/// computed differently.
struct Subject {
    isa: Isa,
    step: usize,
    engine: Box<dyn Engine>,
    sums: Sums,
}

/// Compares the model at `path` on each of `sets` with full precision, over texts given as tokens.
fn compare(path: &Path, sets: &[Isa], texts: &[Vec<u32>]) {
    let gguf = Gguf::open(path).unwrap();
    let mut reference = candle::in_full(path);
    let mut subjects = Vec::new();
    for &isa in sets {
        for step in [1, 3] {
            let options = LoadOptions { isa: Some(isa), ..LoadOptions::new(CONTEXT) };
            subjects.push(Subject { isa, step, engine: engine::load(&gguf, &options).unwrap(), sums: Sums::default() });
        }
    }
    for tokens in texts {
        assert!(tokens.len() > 80 && tokens.len() < CONTEXT, "{} tokens", tokens.len());
        candle::clear(&mut reference);
        let mut sessions: Vec<_> = subjects.iter().map(|subject| subject.engine.session().unwrap()).collect();
        for position in 1..tokens.len() {
            let logits = candle::logits(&mut reference, &tokens[position - 1..position], position - 1);
            let logs = log_softmax(&logits);
            for (subject, session) in subjects.iter_mut().zip(&mut sessions) {
                if position % subject.step == 0 {
                    let logits =
                        session.forward(&tokens[position - subject.step..position], 1, &Cancel::default()).unwrap();
                    subject.sums.add(&logs, logits, tokens[position]);
                }
            }
        }
    }
    let mut beyond = Vec::new();
    for of_isa in subjects.chunks(2) {
        let mut both = Sums::default();
        for Subject { isa, step, sums, .. } in of_isa {
            println!("{isa}, tokens by {step}: {sums}");
            both.merge(sums);
        }
        let Figures { perplexity, reference, agreement, divergence } = both.figures();
        if (perplexity / reference - 1.0).abs() > 0.01 || agreement < 0.97 || divergence > 0.01 {
            beyond.push(of_isa[0].isa.name());
        }
    }
    assert!(beyond.is_empty(), "beyond the bounds: {beyond:?} (the figures are printed)");
}

#[test]
fn rounding_hardly_changes_what_the_factory_model_predicts() {
    let path = factory_model::path();
    let model = LoadedModel::load("smollm2", &path, &LoadOptions::new(CONTEXT)).unwrap();
    let texts = TEXTS.map(|text| model.text_tokens(text).unwrap());
    compare(&path, &Isa::available(), &texts);
}

#[test]
fn rounding_hardly_changes_what_gemma_predicts() {
    let Some(path) = std::env::var_os("AIOS_TEST_GEMMA") else {
        println!("AIOS_TEST_GEMMA names no file of Gemma 3 270M: not compared");
        return;
    };
    // The portable set computes as the others do, and takes minutes.
    let sets: Vec<Isa> = Isa::available().into_iter().filter(|isa| !isa.is_portable()).collect();
    compare(Path::new(&path), &sets, &gemma_tokens::TEXTS.map(<[u32]>::to_vec));
}
