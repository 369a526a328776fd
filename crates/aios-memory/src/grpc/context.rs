//! Contexts over the wire.

use std::collections::BTreeSet;

use aios_api::memory::v1::{
    AssembleContextRequest, AssembleContextResponse, SearchBy,
    assemble_context_response::{Included, LeftOut, Reason},
};
use aios_recall::context::{self, Piece};
use tonic::Status;

use super::{Service, caller::Caller, convert, find};
use crate::{
    assemble::{self, About, CountError, Filled, Gathered, Wanted},
    limits,
};

impl Service {
    /// What the caller may read that matters for a query, within its budget.
    pub(super) async fn context(
        &self,
        caller: &Caller,
        request: AssembleContextRequest,
    ) -> Result<AssembleContextResponse, Status> {
        let AssembleContextRequest { query, budget_tokens, model, goal, kinds } = request;
        let kinds = find::readable(caller, &kinds)?;
        if budget_tokens == 0 {
            return Err(Status::invalid_argument("budget_tokens: must be at least 1"));
        }
        limits::query("query", &query).map_err(|invalid| convert::status(invalid.into()))?;
        if self.store.options().index.is_none() {
            return Err(convert::status(crate::StoreError::NoIndex));
        }
        let tokenizer = self.tokenizer.clone().ok_or_else(|| Status::unimplemented("nothing here counts tokens"))?;
        let vector = self.embed(query.clone()).await;
        let by = if vector.is_some() { SearchBy::MeaningAndWords } else { SearchBy::Words };
        let wanted = Wanted { query, vector, kinds, goal };
        let trusted = self.policy.taint.trusted.clone();
        let Gathered { candidates, irrelevant } =
            self.read(move |view| assemble::gather(view, &wanted, &trusted)).await?;
        let (budget, now) = (budget_tokens as usize, (self.store.options().clock)());
        let work = move || {
            let filled = assemble::fill(&candidates, tokenizer.as_ref(), &model, budget, now);
            filled.map(|filled| (filled, candidates))
        };
        let filled = tokio::task::spawn_blocking(work).await;
        let filled = filled.map_err(|error| Status::internal(format!("the call ended by itself: {error}")))?;
        let (Filled { context, model, tokens }, candidates) = filled.map_err(count_status)?;
        let tier = |id: u64| {
            let of = candidates.iter().find(|candidate| candidate.id == id);
            of.map_or(0, |candidate| i32::from(candidate.provenance.tier as u8))
        };
        let left_out = context.left_out.iter().map(|left| {
            let (reason, same_as) = match left.reason {
                context::Reason::NoRoom => (Reason::Budget, 0),
                context::Reason::SameAs { id, .. } => (Reason::Duplicate, id),
                context::Reason::Empty => (Reason::Irrelevant, 0),
            };
            LeftOut { id: left.id, tier: tier(left.id), reason: reason.into(), same_as }
        });
        let irrelevant = irrelevant.iter().map(|about| LeftOut {
            id: about.id,
            tier: i32::from(about.tier as u8),
            reason: Reason::Irrelevant.into(),
            same_as: 0,
        });
        let origins: BTreeSet<_> = context.pieces.iter().flat_map(|piece| &piece.provenance.origins).collect();
        Ok(AssembleContextResponse {
            tokens: count(context.tokens),
            included: context.pieces.iter().zip(tokens).map(|(piece, tokens)| included(piece, tokens)).collect(),
            left_out: left_out.chain(irrelevant).collect(),
            by: by.into(),
            origins: origins.into_iter().map(ToString::to_string).collect(),
            model,
            text: context.text,
        })
    }
}

fn included(piece: &Piece<About>, tokens: usize) -> Included {
    Included { id: piece.id, tier: i32::from(piece.provenance.tier as u8), tokens: count(tokens), cut: piece.is_cut }
}

/// A budget is a `u32`, and what is in it is no more.
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn count_status(error: CountError) -> Status {
    let text = error.to_string();
    match error {
        CountError::NoModel(_) => Status::not_found(text),
        CountError::Unavailable(_) => Status::unavailable(text),
    }
}
