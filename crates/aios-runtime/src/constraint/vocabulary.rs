//! The model's vocabulary as the grammar library wants it: a prefix tree of the tokens' bytes.

use std::sync::Arc;

use toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::tokenizer::Tokenizer;

/// A tokenizer and the tree of its tokens.
struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

/// The vocabulary of `tokenizer` for grammars. Control tokens have no bytes in it, so no grammar can take one for text;
/// those that end an answer are allowed where the grammar is at an end.
pub(super) fn environment(tokenizer: Arc<Tokenizer>) -> TokEnv {
    let size = tokenizer.vocabulary() as TokenId;
    let words: Vec<Vec<u8>> = (0..size).map(|token| word(&tokenizer, token)).collect();
    let ends: Vec<TokenId> = (0..size).filter(|&token| tokenizer.is_end(token)).collect();
    let first = *ends.first().expect("invariant: a tokenizer without an end token is refused when it is loaded");
    let trie = TokTrie::from(&TokRxInfo::new(size, first), &words).with_eos_tokens(&ends);
    Arc::new(Vocabulary { tokenizer, trie })
}

/// Tokens that no grammar may ask for: they mean something to the model and have no text.
pub(super) fn forbidden(tokenizer: &Tokenizer) -> SimpleVob {
    let mut tokens = SimpleVob::alloc(tokenizer.vocabulary());
    for token in 0..tokenizer.vocabulary() as TokenId {
        if word(tokenizer, token).is_empty() && !tokenizer.is_end(token) {
            tokens.allow_token(token);
        }
    }
    tokens
}

/// A token's bytes; none where it begins with 0xFF, which no text contains and the library takes for a mark of its own.
fn word(tokenizer: &Tokenizer, token: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(token);
    if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { Vec::new() } else { bytes.to_vec() }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| {
            let tokens = self.tokenizer.encode_continuation(text);
            tokens.unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
