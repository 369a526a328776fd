//! How text falls into words before merging, by the names of `tokenizer.ggml.pre`.
//!
//! The names are llama.cpp's (`llama-vocab.cpp`); the expressions are those of the models' own `tokenizer.json`, which
//! llama.cpp adapts where its engine lacks a class.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Words {
    cut: Cut,
    /// Whether a word that is a token is taken whole, whatever the merges say.
    pub(super) whole: bool,
    /// Whether a beginning-of-text token is put before a text where the file does not say.
    pub(super) adds_bos: bool,
    /// Whether text is brought to Unicode's composed form (NFC) first.
    pub(super) composed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// GPT-2's expression, which is built into `ByteLevel`.
    Gpt2,
    /// The same behind each digit on its own.
    Digits,
    /// These expressions, one after the other: each cuts what those before it left.
    By(&'static [&'static str]),
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

impl Words {
    /// The way of text into words that `name` stands for.
    pub(super) fn named(name: &str) -> Option<Self> {
        let by = |expressions| Self { cut: Cut::By(expressions), whole: false, adds_bos: false, composed: false };
        let built_in = |cut| Self { cut, ..by(&[]) };
        Some(match name {
            "default" => by(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "gigachat" | "a.x-4.0"
            | "mellum" | "exaone4" => built_in(Cut::Gpt2),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
                built_in(Cut::Digits)
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
                Self { whole: true, adds_bos: true, ..by(&[LLAMA3]) }
            }
            "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => by(&[LLAMA3]),
            "qwen2" | "deepseek-r1-qwen" => Self { composed: true, ..by(&[QWEN2]) },
            "kormo" | "megrez" | "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => by(&[QWEN2]),
            "qwen35" => Self { composed: true, ..by(&[QWEN35]) },
            "tekken" => Self { whole: true, adds_bos: true, ..by(&[TEKKEN]) },
            "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => by(&[GPT4O]),
            "deepseek-coder" => by(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
            "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => by(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3]),
            "falcon" => by(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
            "seed-coder" => by(&[SEED]),
            "bailingmoe" | "bailingmoe2" | "llada-moe" => by(&[BAILING]),
            "poro-chat" | "bloom" | "gpt3-finnish" => by(&[BLOOM]),
            "viking" => by(&[BLOOM, r"\p{N}"]),
            _ => return None,
        })
    }

    /// What cuts a text into words and writes their bytes in the alphabet of the vocabulary.
    pub(super) fn pre_tokenizer(&self) -> PreTokenizerWrapper {
        let built_in = ByteLevel::new(false, false, true);
        match self.cut {
            Cut::Gpt2 => built_in.into(),
            Cut::Digits => Sequence::new(vec![Digits::new(true).into(), built_in.into()]).into(),
            Cut::By(expressions) => {
                let split = |expression: &&str| {
                    let pattern = SplitPattern::Regex((*expression).to_owned());
                    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
                    PreTokenizerWrapper::from(split.expect("invariant: the expressions of this file compile"))
                };
                let bytes = ByteLevel::new(false, false, false).into();
                Sequence::new(expressions.iter().map(split).chain([bytes]).collect()).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut cut = PreTokenizedString::from(text);
        Words::named(name).unwrap().pre_tokenizer().pre_tokenize(&mut cut).unwrap();
        let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    const TEXT: &str = "I'LL pay 12345€, don't\n\n  x  \u{301}Straße ЖжЖ漢字!!\r\n\ttab";

    #[test]
    fn words_are_cut_as_the_models_do() {
        // The words with a bar between them, which the text has none of.
        for (name, expected) in [
            ("gpt-2", "I|'|LL| pay| 12345|€,| don|'t|\n\n | x| | \u{301}|Straße| ЖжЖ漢字|!!|\r\n|\t|tab"),
            ("llama-bpe", "I|'LL| pay| |123|45|€,| don|'t|\n\n| | x| | \u{301}|Straße| ЖжЖ漢字|!!\r\n|\ttab"),
            ("qwen2", "I|'LL| pay| |1|2|3|4|5|€,| don|'t|\n\n| | x| | \u{301}|Straße| ЖжЖ漢字|!!\r\n|\ttab"),
            ("tekken", "I|'LL| pay| |1|2|3|4|5|€,| don|'t|\n\n| | x| | \u{301}Straße| Жж|Ж漢字|!!\r\n|\ttab"),
        ] {
            assert_eq!(words(name, TEXT).join("|"), expected, "{name}");
        }
    }

    #[test]
    fn no_word_loses_anything_of_the_text() {
        let names = "default gpt-2 smollm llama-bpe dbrx qwen2 stablelm2 qwen35 tekken gpt-4o deepseek-coder deepseek-v3 \
            falcon seed-coder bailingmoe bloom viking";
        for name in names.split_whitespace() {
            assert_eq!(words(name, TEXT).concat(), TEXT, "{name}");
        }
    }

    #[test]
    fn digits_fall_as_each_name_has_it() {
        assert_eq!(words("default", "a1234567b"), ["a", "123", "456", "7", "b"]);
        assert_eq!(words("smollm", "12"), ["1", "2"]);
        assert_eq!(words("deepseek-v3", "1234漢a"), ["123", "4", "漢", "a"]);
        assert!(Words::named("other").is_none());
    }
}
