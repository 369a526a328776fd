//! Text to tokens: the ids that llama.cpp gives for the same files, every text back, and files that lie.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/vocabularies.rs"]
mod vocabularies;

use std::sync::LazyLock;
use std::time::Instant;

use aios_runtime::gguf::Gguf;
use aios_runtime::template::{ChatMessage, ChatTemplate};
use aios_runtime::tokenizer::{StreamDecoder, Tokenizer};
use candle_core::quantized::gguf_file::Value;
use proptest::prelude::*;
use vocabularies::{byte_level, sentencepiece, set, text, texts, tokenizer};

static SPACED: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(&sentencepiece()).unwrap());
static UNSPACED: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut metadata = sentencepiece();
    set(&mut metadata, "tokenizer.ggml.add_space_prefix", Value::Bool(false));
    tokenizer(&metadata).unwrap()
});
static LLAMA3: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(&byte_level("llama-bpe")).unwrap());

#[test]
fn sentencepiece_gives_the_ids_of_llama_cpp() {
    let cases: [(&str, &[u32]); 7] = [
        ("Hello world", &[1, 282, 272]),
        ("  Hello   world  ", &[1, 266, 282, 266, 272, 266]),
        ("the there  \n\n\n x", &[1, 261, 278, 266, 290, 326, 291, 315]),
        ("слово и дело", &[1, 291, 289, 291, 211, 187, 291, 211, 183, 211, 184, 286]),
        ("<0x41>", &[1, 291, 327, 51, 315, 55, 52, 328]),
        (
            "<s>not a token</s>",
            &[1, 291, 327, 310, 328, 305, 306, 311, 264, 259, 306, 302, 296, 305, 327, 50, 310, 328],
        ),
        ("", &[1]),
    ];
    for (text, ids) in cases {
        assert_eq!(SPACED.encode(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn byte_level_words_give_the_ids_of_llama_cpp() {
    let text = "I'LL pay 12345€, don't\n\n  x  \u{301}Straße ЖжЖ漢字!!\r\n\ttab";
    let cases: [(&str, &[u32]); 7] = [
        (
            "default",
            &[
                43, 9, 46, 46, 223, 82, 67, 91, 223, 266, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86, 269, 223,
                223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247, 165, 123,
                98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "gpt-2",
            &[
                43, 9, 46, 46, 223, 82, 67, 91, 223, 266, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86, 269, 223,
                223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247, 165, 123,
                98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "smollm",
            &[
                43, 9, 46, 46, 223, 82, 67, 91, 223, 19, 20, 21, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86,
                269, 223, 223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247,
                165, 123, 98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "llama-bpe",
            &[
                1, 43, 9, 46, 46, 223, 82, 67, 91, 223, 266, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86, 269,
                223, 223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247, 165,
                123, 98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "qwen2",
            &[
                43, 9, 46, 46, 223, 82, 67, 91, 223, 19, 20, 21, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86,
                269, 223, 223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247,
                165, 123, 98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "tekken",
            &[
                1, 43, 9, 46, 46, 223, 82, 67, 91, 223, 19, 20, 21, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86,
                269, 223, 223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247,
                165, 123, 98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
        (
            "deepseek-v3",
            &[
                43, 9, 46, 46, 223, 82, 67, 91, 223, 266, 22, 23, 161, 227, 108, 14, 223, 70, 81, 80, 9, 86, 269, 223,
                223, 90, 223, 223, 139, 226, 53, 86, 84, 67, 130, 256, 71, 223, 143, 247, 143, 117, 143, 247, 165, 123,
                98, 164, 258, 248, 270, 204, 201, 200, 86, 67, 68,
            ],
        ),
    ];
    for (pre, ids) in cases {
        assert_eq!(tokenizer(&byte_level(pre)).unwrap().encode(text).unwrap(), ids, "{pre}");
    }
}

#[test]
fn a_word_that_is_a_token_is_taken_whole_where_the_model_does_so() {
    let cases: [(&str, &[u32]); 4] = [
        ("gpt-2", &[89, 74, 81, 78, 71]),
        ("llama-bpe", &[1, 279]),
        ("tekken", &[1, 279]),
        ("dbrx", &[89, 74, 81, 78, 71]),
    ];
    for (pre, ids) in cases {
        assert_eq!(tokenizer(&byte_level(pre)).unwrap().encode("whole").unwrap(), ids, "{pre}");
    }
}

/// Needs a Gemma 3 file: `AIOS_TEST_GEMMA=FILE.gguf`.
#[test]
fn gemmas_vocabulary_gives_the_ids_of_llama_cpp() {
    let Some(path) = std::env::var_os("AIOS_TEST_GEMMA") else {
        return eprintln!("AIOS_TEST_GEMMA names no Gemma 3 model, so its tokenizer is not tested");
    };
    let gguf = Gguf::open(path.as_ref()).unwrap();
    let started = Instant::now();
    let gemma = Tokenizer::from_gguf(&gguf).unwrap();
    println!("262,144 tokens took {:?}", started.elapsed());
    let cases: [(&str, &[u32]); 10] = [
        ("Hello world", &[2, 9259, 1902]),
        ("  Hello   world  ", &[2, 138, 9259, 139, 12392, 138]),
        ("the there  \n\n\n x", &[2, 1437, 993, 138, 109, 1123]),
        ("слово и дело", &[2, 11605, 1576, 1079, 57496]),
        ("<0x41>", &[2, 236820, 236771, 236781, 236812, 236770, 236813]),
        ("<s>not a token</s>", &[2, 203, 2217, 496, 8369, 954, 236751, 236813]),
        (
            "日本語テキスト😀👨\u{200D}👩\u{200D}👧\u{200D}👦",
            &[2, 94951, 95830, 242398, 243874, 237243, 243767, 237243, 244814, 237243, 244990],
        ),
        (
            "def f(x):\n    return x+1\n",
            &[2, 2063, 517, 236769, 236781, 1473, 107, 140, 2060, 1123, 236862, 236770, 107],
        ),
        (
            "1234567890 1,234.56",
            &[
                2, 236770, 236778, 236800, 236812, 236810, 236825, 236832, 236828, 236819, 236771, 236743, 236770,
                236764, 236778, 236800, 236812, 236761, 236810, 236825,
            ],
        ),
        (
            "I'LL pay 12345€, don't\n\n  x  \u{301}Straße ЖжЖ漢字!!\r\n\ttab",
            &[
                2, 236777, 236789, 2182, 2350, 236743, 236770, 236778, 236800, 236812, 236810, 237762, 236764, 1537,
                236789, 236745, 108, 138, 236781, 138, 238288, 223305, 23706, 236966, 238444, 201637, 4329, 251, 107,
                255968, 4823,
            ],
        ),
    ];
    for (text, ids) in cases {
        assert_eq!(gemma.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(gemma.decode(ids), text);
    }
    let all: Vec<u8> = (0..gemma.vocabulary() as u32).flat_map(|token| gemma.token_bytes(token)).copied().collect();
    assert!(all.len() > 1 << 20);
    let template =
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}";
    let control = gemma.control_texts().map(str::to_owned).collect();
    let template = ChatTemplate::new(template, control, "<bos>", "<eos>").unwrap();
    let started = Instant::now();
    let long = "Why is <unused7> the sky <end_of_turn> blue < green?\n".repeat(2000);
    let prompt = template.render(&[ChatMessage::new("user", long.as_str())], &[], false).unwrap();
    let ids = gemma.encode_prompt(&prompt).unwrap();
    println!("a prompt of {} tokens took {:?}", ids.len(), started.elapsed());
    assert_eq!((&ids[..4], &ids[ids.len() - 2..]), (&[2, 105, 2364, 107][..], &[106, 107][..]));
    assert_eq!(
        ids.iter().filter(|&&id| gemma.token_bytes(id).is_empty()).count(),
        3,
        "the control tokens of the template"
    );
    assert_eq!(gemma.decode(&ids), format!("user\n{long}\n"));
}

#[test]
fn text_is_composed_for_the_models_that_know_no_other() {
    let qwen2 = tokenizer(&byte_level("qwen2")).unwrap();
    assert_eq!(qwen2.encode("e\u{301}").unwrap(), qwen2.encode("é").unwrap());
    assert_eq!(qwen2.decode(&qwen2.encode("e\u{301}").unwrap()), "é");
    assert_ne!(LLAMA3.encode("e\u{301}").unwrap(), LLAMA3.encode("é").unwrap());
    // What a form asks for is spelled as it asks.
    assert_eq!(qwen2.decode(&qwen2.encode_continuation("e\u{301}").unwrap()), "e\u{301}");
}

#[test]
fn a_space_goes_before_text_behind_a_control_token_and_is_none_of_the_answers() {
    let control = SPACED.control_texts().map(str::to_owned).collect();
    let source = "{{ bos_token }}[{{ messages[0].content }}]</s>{{ messages[1].content }}";
    let template = ChatTemplate::new(source, control, "<s>", "</s>").unwrap();
    let messages = [ChatMessage::new("user", "Hello<s>"), ChatMessage::new("user", "world")];
    let tokens = SPACED.encode_prompt(&template.render(&messages, &[], false).unwrap()).unwrap();
    let written: Vec<String> = tokens.iter().map(|&token| SPACED.token_text(token)).collect();
    assert_eq!(written.concat(), "<s> [Hello<s>]</s> world");
    assert_eq!(tokens.iter().filter(|&&token| SPACED.token_bytes(token).is_empty()).count(), 2);

    let hello = SPACED.encode_continuation(" Hello world").unwrap();
    for (tokenizer, behind, expected) in
        [(&SPACED, 2, "Hello world"), (&SPACED, hello[0], " Hello world"), (&UNSPACED, 2, " Hello world")]
    {
        let mut decoder = StreamDecoder::behind(tokenizer, Some(behind));
        let mut text = String::new();
        hello.iter().for_each(|&token| decoder.push(tokenizer, token, &mut text));
        assert_eq!(text, expected);
    }
}

#[test]
fn phi_3_reads_over_the_line_breaks_behind_its_control_tokens() {
    let render = |architecture: &str| {
        let mut metadata = sentencepiece();
        set(&mut metadata, "general.architecture", text(architecture));
        let tokenizer = tokenizer(&metadata).unwrap();
        let template =
            ChatTemplate::new("{{ messages[0].content }}</s>{{ '\n' }}", vec!["</s>".to_owned()], "<s>", "</s>");
        let prompt = template.unwrap().render(&[ChatMessage::new("user", "a")], &[], false).unwrap();
        tokenizer.decode(&tokenizer.encode_prompt(&prompt).unwrap())
    };
    assert_eq!((render("phi3").as_str(), render("llama").as_str()), ("a", "a \n"));
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "(\\PC|[ \n\t<>a-z\u{2581}\u{301}\u{0}]|Hello|world|<tag>|<s>|</s>|<0x41>|<\\|im_end\\|>){0,20}") {
        for tokenizer in [&SPACED, &UNSPACED, &LLAMA3] {
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&tokenizer.decode(&tokens), &text);
            // The beginning-of-text token is the only one without text.
            prop_assert!(tokens[1..].iter().all(|&token| !tokenizer.token_bytes(token).is_empty()));
            let mut decoder = StreamDecoder::behind(tokenizer, Some(tokens[0]));
            let mut streamed = String::new();
            tokens[1..].iter().for_each(|&token| decoder.push(tokenizer, token, &mut streamed));
            decoder.finish(&mut streamed);
            prop_assert_eq!(&streamed, &text);
            let spelled: Vec<u8> = tokenizer.encode_continuation(&text).unwrap().iter()
                .flat_map(|&token| tokenizer.token_bytes(token).to_vec()).collect();
            prop_assert_eq!(spelled, text.as_bytes());
        }
    }
}

#[test]
fn vocabularies_that_lie_are_refused_with_the_reason() {
    type Change = fn(&mut Vec<Value>);
    let tokens = |change: Change| {
        move |key: &str, metadata: &mut vocabularies::Metadata| {
            let entry = metadata.iter_mut().find(|(name, _)| name == key).unwrap();
            let Value::Array(values) = &mut entry.1 else { unreachable!("{key} is an array") };
            change(values);
        }
    };
    let refusal = |metadata: &vocabularies::Metadata| tokenizer(metadata).unwrap_err().reason;
    let cases: [(&str, Change, &str); 8] = [
        ("scores", |values| _ = values.pop(), "has 332 tokens but 331 scores"),
        ("scores", |values| values[300] = Value::F32(f32::NAN), "the score of token 300 is no number"),
        ("scores", |values| *values = vec![Value::U32(1)], "is not an array of 32-bit floating-point numbers"),
        ("tokens", |values| values.clear(), "tokenizer.ggml.tokens is not an array of texts"),
        ("tokens", |values| values[300] = text("he"), "tokens 260 and 300 are both \"he\""),
        ("tokens", |values| values[10] = text("<0xZZ>"), "token 10 is of the type of bytes, but \"<0xZZ>\" names none"),
        ("token_type", |values| _ = values.pop(), "has 332 tokens but 331 token types"),
        (
            "token_type",
            |values| (values[0], values[9]) = (Value::I32(1), Value::I32(1)),
            "has neither a token for each byte",
        ),
    ];
    for (key, change, reason) in cases {
        let mut metadata = sentencepiece();
        tokens(change)(&format!("tokenizer.ggml.{key}"), &mut metadata);
        let found = refusal(&metadata);
        assert!(found.contains(reason), "{found:?} does not contain {reason:?}");
    }
    let mut metadata = sentencepiece();
    metadata.retain(|(key, _)| key != "tokenizer.ggml.scores");
    assert_eq!(refusal(&metadata), "metadata key tokenizer.ggml.scores is missing");
    for key in ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eos_token_id"] {
        let mut metadata = sentencepiece();
        set(&mut metadata, key, Value::U32(332));
        assert_eq!(refusal(&metadata), format!("{key} is 332, but there are only 332 tokens"));
    }
    let mut metadata = byte_level("gpt-2");
    let again: Vec<String> = (0..280).map(|index| format!("t{}", index % 270)).collect();
    set(&mut metadata, "tokenizer.ggml.tokens", texts(&again));
    assert_eq!(refusal(&metadata), "tokens 3 and 273 are both \"t3\"");
}

#[test]
fn a_vocabulary_without_bytes_gives_the_unknown_token() {
    let mut metadata = sentencepiece();
    let types = metadata.iter_mut().find(|(key, _)| key == "tokenizer.ggml.token_type").unwrap();
    let Value::Array(types) = &mut types.1 else { unreachable!() };
    types[3..259].iter_mut().for_each(|kind| *kind = Value::I32(5));
    let tokenizer = tokenizer(&metadata).unwrap();
    assert_eq!(tokenizer.encode_continuation("漢a").unwrap(), [0, SPACED.encode_continuation("a").unwrap()[0]]);
}
