//! What goes on behind the calls: keeping the memory in order, vectors, the index, telling of its state.
//!
//! Nothing looks again and again whether there is something to do: the store tells of changes, and an idle device sleeps.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    embed,
    index::Embedder,
    store::{Aged, Changed, Observer, State, Store},
};

/// Time between two looks for what is due to leave its tier.
const AGE_EVERY: Duration = Duration::from_secs(3600);
/// Looks of that kind between two checks of every item.
const VERIFY_EVERY: u32 = 24;
/// Time before something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Where the store's changes go, and tasks wait for them. A change between two looks is not missed.
pub(super) struct Changes {
    content: watch::Sender<()>,
    state: watch::Sender<()>,
}

impl Changes {
    pub fn new() -> Changes {
        Changes { content: watch::Sender::new(()), state: watch::Sender::new(()) }
    }

    /// For the store.
    pub fn observer(&self) -> Observer {
        let (content, state) = (self.content.clone(), self.state.clone());
        Arc::new(move |changed| match changed {
            Changed::Content => content.send_replace(()),
            Changed::State => state.send_replace(()),
        })
    }

    /// Tells of what is written from now on.
    pub fn content(&self) -> watch::Receiver<()> {
        self.content.subscribe()
    }

    /// Tells of other states from now on.
    pub fn state(&self) -> watch::Receiver<()> {
        self.state.subscribe()
    }
}

/// What came of one look.
enum Looked {
    /// Something was done, and there may be more.
    Done,
    /// There is nothing to do.
    Idle,
    /// It has to be tried again.
    Failed,
}

/// Waits for what `looked` says; false where nothing can change any more.
async fn wait(looked: Looked, changes: &mut watch::Receiver<()>) -> bool {
    match looked {
        Looked::Done => true,
        Looked::Idle => changes.changed().await.is_ok(),
        Looked::Failed => {
            tokio::time::sleep(RETRY_AFTER).await;
            true
        }
    }
}

/// Ages what is due, and checks every item now and then: damage is better known early.
pub(super) async fn keep_in_order(store: Arc<Store>) {
    let mut round = 0_u32;
    loop {
        let (at_work, verifies) = (store.clone(), round.is_multiple_of(VERIFY_EVERY));
        let look = move || {
            if verifies {
                let unreadable = at_work.read(|view| view.verify())?;
                tracing::info!(unreadable, "items checked");
            }
            at_work.age()
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(aged)) if aged != Aged::default() => {
                tracing::info!(moved = aged.moved, dropped = aged.dropped, "aged");
            }
            Ok(Err(error)) => tracing::warn!(%error, "not aged"),
            Ok(Ok(_)) | Err(_) => {}
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(AGE_EVERY).await;
    }
}

/// Gives vectors to items that have none yet.
pub(super) async fn embed_waiting(store: Arc<Store>, embedder: Arc<dyn Embedder>, mut changes: watch::Receiver<()>) {
    let mut told = false;
    loop {
        changes.mark_unchanged();
        let (at_work, makes) = (store.clone(), embedder.clone());
        let made = tokio::task::spawn_blocking(move || embed::embed_waiting(&at_work, &makes)).await;
        let looked = match made {
            Ok(Ok(0)) => Looked::Idle,
            Ok(Ok(_)) => Looked::Done,
            Ok(Err(error)) => {
                if !told {
                    tracing::warn!(%error, "items are found by their words alone until there are vectors again");
                }
                Looked::Failed
            }
            Err(_) => Looked::Failed,
        };
        told = matches!(looked, Looked::Failed);
        if !wait(looked, &mut changes).await {
            return;
        }
    }
}

/// Lets the index do, part by part, what makes searches faster.
pub(super) async fn work_on_index(store: Arc<Store>, mut changes: watch::Receiver<()>) {
    loop {
        changes.mark_unchanged();
        let at_work = store.clone();
        let looked = match tokio::task::spawn_blocking(move || at_work.work_on_index()).await {
            Ok(Ok(true)) => Looked::Done,
            Ok(Ok(false)) => Looked::Idle,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the index can't be worked on");
                Looked::Failed
            }
            Err(_) => Looked::Failed,
        };
        if !wait(looked, &mut changes).await {
            return;
        }
    }
}

/// Calls `tell` when the memory's state is another one.
pub(super) async fn follow_state<F: Future<Output = ()>>(
    store: Arc<Store>,
    mut changes: watch::Receiver<()>,
    tell: impl Fn(State) -> F,
) {
    while changes.changed().await.is_ok() {
        let at_work = store.clone();
        // The file may be being written anew, and then its state is only known after that.
        if let Ok(state) = tokio::task::spawn_blocking(move || at_work.state()).await {
            tell(state).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use aios_policy::Origin;
    use redb::{ReadTransaction, WriteTransaction};

    use super::*;
    use crate::{
        error::StoreError,
        index::{AfterCommit, Change, EmbedError, Found, Index, Query},
        item::{Body, Content, Knowledge, Provenance},
        store::Options,
    };

    /// An index that has one part of work after each vector, and counts how often it is asked.
    #[derive(Default)]
    struct Counting {
        asked: AtomicUsize,
        parts: AtomicUsize,
    }

    impl Index for Counting {
        fn version(&self) -> u64 {
            1
        }

        fn begin(&self, _: &WriteTransaction) -> Result<(), redb::Error> {
            Ok(())
        }

        fn open(&self, _: &ReadTransaction) -> Result<(), redb::Error> {
            Ok(())
        }

        fn clear(&self, _: &WriteTransaction) -> Result<(), redb::Error> {
            Ok(())
        }

        fn apply(&self, _: &WriteTransaction, changes: &[Change]) -> Result<AfterCommit, redb::Error> {
            let vectors = changes.iter().filter(|change| matches!(change, Change::Vector { .. })).count();
            self.parts.fetch_add(vectors, Ordering::Relaxed);
            Ok(None)
        }

        fn has_work(&self) -> bool {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.parts.load(Ordering::Relaxed) > 0
        }

        fn work(&self, _: &WriteTransaction) -> Result<AfterCommit, redb::Error> {
            self.parts.fetch_sub(1, Ordering::Relaxed);
            Ok(None)
        }

        fn search(
            &self,
            _: &ReadTransaction,
            _: &Query<'_>,
            _: &dyn Fn(u64) -> bool,
        ) -> Result<Vec<Found>, redb::Error> {
            Ok(Vec::new())
        }

        fn nearest(&self, _: &[f32], _: usize, _: &dyn Fn(u64) -> bool) -> Vec<Found> {
            Vec::new()
        }

        fn copy(&self, _: &ReadTransaction, _: &WriteTransaction) -> Result<(), redb::Error> {
            Ok(())
        }
    }

    /// Fails as long as it is told to, and counts the texts that it was given.
    #[derive(Default)]
    struct Model {
        fails: AtomicUsize,
        texts: AtomicUsize,
    }

    impl Embedder for Model {
        fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
            if self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                return Err(EmbedError("not now".into()));
            }
            self.texts.fetch_add(texts.len(), Ordering::Relaxed);
            Ok(vec![vec![1.0, 0.0]; texts.len()])
        }

        fn is_ready(&self) -> bool {
            true
        }
    }

    fn knowledge(text: &str) -> Content {
        let provenance = Provenance { agent: "task".into(), source: String::new(), origins: [Origin::Model].into() };
        Content { provenance, body: Body::Knowledge(Knowledge { title: "t".into(), text: text.into(), tags: vec![] }) }
    }

    struct Fixture {
        store: Arc<Store>,
        index: Arc<Counting>,
        model: Arc<Model>,
        _folder: tempfile::TempDir,
    }

    /// A store with its tasks, and time that passes as soon as everybody sleeps.
    fn start(fails: usize) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (changes, index) = (Changes::new(), Arc::new(Counting::default()));
        let options = Options { index: Some(index.clone()), observer: Some(changes.observer()), ..Options::default() };
        let store = Arc::new(Store::open(&folder.path().join("memory.redb"), options).unwrap());
        let model = Arc::new(Model { fails: fails.into(), ..Model::default() });
        tokio::spawn(embed_waiting(store.clone(), model.clone(), changes.content()));
        tokio::spawn(work_on_index(store.clone(), changes.content()));
        Fixture { store, index, model, _folder: folder }
    }

    impl Fixture {
        fn waiting(&self) -> u64 {
            self.store.read(|view| view.unembedded_count()).unwrap()
        }

        async fn put(&self, text: &str) {
            let (store, content) = (self.store.clone(), knowledge(text));
            tokio::task::spawn_blocking(move || store.put(content)).await.unwrap().unwrap();
        }
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[tokio::test(start_paused = true)]
    async fn an_idle_memory_looks_for_nothing_and_what_is_written_wakes_who_has_to_work() {
        let fixture = start(0);
        tokio::time::sleep(DAY).await;
        assert_eq!(fixture.index.asked.load(Ordering::Relaxed), 1, "once at the start");
        fixture.put("first").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((fixture.waiting(), fixture.model.texts.load(Ordering::Relaxed)), (0, 1));
        assert_eq!(fixture.index.parts.load(Ordering::Relaxed), 0, "the index did its part");
        let asked = fixture.index.asked.load(Ordering::Relaxed);
        tokio::time::sleep(DAY).await;
        assert_eq!(fixture.index.asked.load(Ordering::Relaxed), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn vectors_that_could_not_be_made_are_asked_for_again_without_another_write() {
        let fixture = start(3);
        fixture.put("first").await;
        tokio::time::sleep(RETRY_AFTER).await;
        assert_eq!(fixture.waiting(), 1, "it failed twice");
        tokio::time::sleep(3 * RETRY_AFTER).await;
        assert_eq!(fixture.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_state_is_told_and_the_same_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.redb");
        let changes = Changes::new();
        let options = Options { observer: Some(changes.observer()), ..Options::default() };
        let store = Arc::new(Store::open(&path, options.clone()).unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        tokio::spawn(follow_state(store.clone(), changes.state(), move |state| {
            tell.lock().unwrap().push(state);
            std::future::ready(())
        }));
        tokio::time::sleep(DAY).await;
        store.put(knowledge("x")).unwrap();
        tokio::time::sleep(DAY).await;
        assert_eq!(*told.lock().unwrap(), [], "it was writable, and is");
        let damage = StoreError::Damaged { place: "m.redb".into(), reason: "a page".into() };
        for _ in 0..2 {
            assert_eq!(store.read::<()>(|_| Err(damage.clone())), Err(damage.clone()));
            tokio::time::sleep(DAY).await;
        }
        assert_eq!(*told.lock().unwrap(), [State::ReadOnly(damage)]);
    }
}
