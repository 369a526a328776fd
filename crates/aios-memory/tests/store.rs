//! What the store keeps, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::sync::Arc;

use aios_fault_disk::{Disk, Plan};
use aios_memory::{
    Body, Change, Done, Embedded, Events, GoalUpdate, Invalid, Item, Kind, Options, Query, State, Store, StoreError,
    Tier, Write,
    item::{AgentState, Severity, Status},
    limits::{ITEM, RING},
};
use aios_policy::Origin;
use fixture::*;

fn open(options: Options) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state/memory.redb"), options).unwrap();
    (folder, store)
}

fn item(store: &Store, id: u64) -> Option<Item> {
    store.read(|view| view.item(id)).unwrap()
}

#[test]
fn what_is_stored_is_there_after_closing_with_whence_it_is() {
    let (folder, store) = open(options());
    let mut content = knowledge("fans", "they hum");
    content.provenance.source = "https://example.com/fans".into();
    content.provenance.origins = [Origin::Web, Origin::Tool("web.read".into())].into();
    let id = store.put(content.clone()).unwrap();
    store.write(Write::Metric(metric("disk.free", 1e9))).unwrap();
    store.close().unwrap();
    let store = Store::open(&folder.path().join("state/memory.redb"), options()).unwrap();
    let found = item(&store, id).unwrap();
    assert_eq!((found.content, found.tier, found.created), (content, Tier::LongTerm, options_time()));
    let metric = store.read(|view| view.metric("disk.free")).unwrap();
    assert_eq!((metric.value, metric.updated), (1e9, options_time()));
    assert_eq!(store.put(event("later")).unwrap(), id + 1, "ids go on");
}

fn options_time() -> i64 {
    Time::new().now()
}

#[test]
fn the_ring_holds_ten_thousand_events_and_one_more_evicts_the_oldest() {
    let store = Arc::new(Store::open_on(Box::new(Disk::new(Plan::Nothing)), options()).unwrap());
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        let batch = RING / 8;
        std::thread::spawn(move || (0..batch).for_each(|n| assert!(store.put(event(&format!("{writer} {n}"))).is_ok())))
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
    let all = Events { limit: usize::MAX, ..Events::default() };
    let before = store.read(|view| view.events(&all)).unwrap();
    assert_eq!(before.len() as u64, RING);
    let newest = store.put(event("one more")).unwrap();
    let after = store.read(|view| view.events(&all)).unwrap();
    assert_eq!(after.len() as u64, RING);
    assert_eq!(after[0].id, newest);
    assert_eq!(after[1..], before[..before.len() - 1], "the oldest is gone, and nothing else");
    let totals = store.read(|view| view.totals()).unwrap();
    assert_eq!((totals.len(), totals[0].kind, totals[0].items), (1, Kind::Event, RING));
}

#[test]
fn events_are_filtered_by_category_severity_and_place() {
    let (_folder, store) = open(options());
    let push = |category: &str, severity| {
        let mut content = event("x");
        let Body::Event(event) = &mut content.body else { panic!() };
        (event.category, event.severity) = (category.into(), severity);
        store.put(content).unwrap()
    };
    let ids = [push("disk", Severity::Error), push("net", Severity::Critical), push("disk", Severity::Info)];
    let list = |wanted: Events| -> Vec<u64> {
        store.read(|view| view.events(&wanted)).unwrap().iter().map(|item| item.id).collect()
    };
    let all = Events { limit: 10, ..Events::default() };
    assert_eq!(list(all.clone()), [ids[2], ids[1], ids[0]]);
    assert_eq!(list(Events { limit: 1, ..all.clone() }), [ids[2]]);
    assert_eq!(list(Events { category: Some("disk".into()), ..all.clone() }), [ids[2], ids[0]]);
    assert_eq!(list(Events { severity: Some(Severity::Error), ..all.clone() }), [ids[1], ids[0]]);
    assert_eq!(list(Events { before: Some(ids[1]), ..all }), [ids[0]]);
}

#[test]
fn goals_go_on_until_they_end_and_keep_whence_their_words_are() {
    let time = Time::new();
    let (_folder, store) = open(time.options());
    let first = store.put(goal("clean up", Status::Pending)).unwrap();
    let mut urgent = goal("stop the leak", Status::Active);
    if let Body::Goal(goal) = &mut urgent.body {
        goal.priority = 9;
    }
    let urgent = store.put(urgent).unwrap();
    let active =
        || -> Vec<u64> { store.read(|view| view.active_goals(10)).unwrap().iter().map(|item| item.id).collect() };
    assert_eq!(active(), [urgent, first]);
    time.pass(5);
    let update = GoalUpdate {
        id: urgent,
        status: Some(Status::Completed),
        progress: Some(1.0),
        result: Some("tightened".into()),
        origins: [Origin::Log].into(),
        ..GoalUpdate::default()
    };
    let Done::Item(done) = store.write(Write::UpdateGoal(update.clone())).unwrap() else { panic!() };
    assert_eq!((done.updated, done.created), (time.now(), time.now() - 5));
    assert_eq!(done.content.provenance.origins, [Origin::Log, Origin::Model].into());
    assert_eq!(active(), [first]);
    let again = GoalUpdate { status: Some(Status::Active), ..update.clone() };
    assert_eq!(store.write(Write::UpdateGoal(again)), Err(StoreError::Ended(urgent)));
    let missing = store.write(Write::UpdateGoal(GoalUpdate { id: 99, ..update }));
    assert_eq!(missing, Err(StoreError::NotFound { kind: Kind::Goal, id: 99 }));
}

#[test]
fn tasks_belong_to_goals_that_exist_and_are_replaced_by_id() {
    let (_folder, store) = open(options());
    let goal = store.put(goal("clean up", Status::Active)).unwrap();
    let first = store.put(task(goal, "look")).unwrap();
    let second = store.put(task(goal, "delete")).unwrap();
    store.put(call(goal, "fs.list")).unwrap();
    let mut replaced = task(goal, "look twice");
    replaced.provenance.agent = "storage".into();
    replaced.provenance.origins = [Origin::Web].into();
    store.write(Write::ReplaceTask { id: first, content: replaced }).unwrap();
    let tasks = store.read(|view| view.of_goal(goal, Kind::Task)).unwrap();
    assert_eq!(tasks.iter().map(|item| item.id).collect::<Vec<_>>(), [first, second]);
    let Body::Task(task_now) = &tasks[0].content.body else { panic!() };
    assert_eq!(task_now.description, "look twice");
    assert_eq!(tasks[0].content.provenance.agent, "task", "who began it");
    assert_eq!(tasks[0].content.provenance.origins, [Origin::Model, Origin::Web].into(), "taint is never lost");
    let orphan = store.put(task(99, "look"));
    assert_eq!(orphan, Err(StoreError::NotFound { kind: Kind::Goal, id: 99 }));
    let no_task = store.write(Write::ReplaceTask { id: goal, content: task(goal, "x") });
    assert_eq!(no_task, Err(StoreError::NotFound { kind: Kind::Task, id: goal }));
}

#[test]
fn a_pattern_is_found_by_its_goal_and_failures_lower_its_place() {
    let (_folder, store) = open(options());
    let first = store.put(pattern("Free some  disk space")).unwrap();
    let second = store.put(pattern("free some disk space")).unwrap();
    store.put(pattern("restart nginx")).unwrap();
    let find = || -> Vec<u64> {
        store.read(|view| view.patterns("FREE some disk\nspace")).unwrap().iter().map(|item| item.id).collect()
    };
    let used = |id, success| {
        let Done::Item(item) = store.write(Write::CountUse { id, success }).unwrap() else { panic!() };
        let Body::Pattern(pattern) = item.content.body else { panic!() };
        (pattern.successes, pattern.failures)
    };
    assert_eq!(used(first, true), (1, 0));
    assert_eq!(find(), [first, second]);
    assert_eq!((used(first, false), used(first, false)), ((1, 1), (1, 2)));
    assert_eq!(find(), [second, first], "a pattern that failed ranks below one that was not tried");
}

#[test]
fn the_state_of_an_agent_is_replaced_under_its_key() {
    let (_folder, store) = open(options());
    let state = |agent: &str, key: &str, value: &str| {
        by(agent, Body::AgentState(AgentState { agent: agent.into(), key: key.into(), value: value.into() }))
    };
    let first = store.put(state("web", "cursor", "1")).unwrap();
    store.put(state("task", "cursor", "theirs")).unwrap();
    assert_eq!(store.put(state("web", "cursor", "2")).unwrap(), first);
    let found = store.read(|view| view.agent_state("web", "cursor")).unwrap();
    assert_eq!(found.content, state("web", "cursor", "2"));
    let missing = store.read(|view| view.agent_state("web", "none")).unwrap_err();
    assert_eq!(missing.to_string(), "there is no agent state \"web/none\"");
}

#[test]
fn what_is_too_large_or_incomplete_is_refused_with_the_limit_and_its_neighbours_are_kept() {
    let (_folder, store) = open(options());
    let large = store.put(knowledge("large", &"x".repeat(ITEM)));
    assert!(large.unwrap_err().to_string().ends_with("the most is 262144"));
    let long = store.put(knowledge(&"t".repeat(1025), "x"));
    assert_eq!(long, Err(Invalid::Long { field: "title", found: 1025, limit: 1024 }.into()));
    let mut nowhere = knowledge("title", "x");
    nowhere.provenance.origins.clear();
    assert_eq!(store.put(nowhere), Err(Invalid::Origins.into()));
    let mut broken = event("x");
    if let Body::Event(event) = &mut broken.body {
        event.data = "{".into();
    }
    assert!(store.put(broken).unwrap_err().to_string().starts_with("data is no JSON: "));
    let infinite = store.write(Write::Metric(metric("load", f64::INFINITY)));
    assert!(infinite.unwrap_err().to_string().contains("it has to be finite"));
    // Refused changes share a transaction with others.
    let store = Arc::new(store);
    let writers: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            std::thread::spawn(move || store.put(if n % 2 == 0 { event("good") } else { event("") }).is_ok())
        })
        .collect();
    let kept = writers.into_iter().map(|writer| writer.join().unwrap()).filter(|kept| *kept).count();
    assert_eq!(kept, 20);
    assert_eq!(store.read(|view| view.totals()).unwrap()[0].items, 20);
}

#[test]
fn the_room_of_the_configuration_is_kept_to_and_events_still_come() {
    let (_folder, store) = open(Options { size_max: 64 << 10, ..options() });
    let mut stored = 0;
    let error = loop {
        match store.put(knowledge("title", &"x".repeat(4000))) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Room { limit: 65536, .. }), "{error}");
    assert!((10..=16).contains(&stored), "{stored}");
    store.put(event("still here")).unwrap();
    assert_eq!(store.state(), State::Writable);
    store.erase(aios_memory::Selector::Agent("learning".into())).unwrap();
    store.put(knowledge("title", "there is room again")).unwrap();
}

#[test]
fn a_thousand_writers_at_once_lose_nothing_that_was_acknowledged() {
    let (folder, store) = open(options());
    let store = Arc::new(store);
    let writers: Vec<_> = (0..1000)
        .map(|writer| {
            let store = store.clone();
            let builder = std::thread::Builder::new().stack_size(128 << 10);
            let work = move || {
                (0..4)
                    .map(|n| (store.put(knowledge(&format!("{writer}"), &format!("{n}"))).unwrap(), writer, n))
                    .collect()
            };
            builder.spawn(work).unwrap()
        })
        .collect();
    let told: Vec<(u64, i32, i32)> =
        writers.into_iter().flat_map(|writer| -> Vec<_> { writer.join().unwrap() }).collect();
    // As after a crash: nobody closes the file in order, and it is opened elsewhere.
    let copy = folder.path().join("copy.redb");
    std::fs::copy(folder.path().join("state/memory.redb"), &copy).unwrap();
    let reopened = Store::open(&copy, options()).unwrap();
    for (id, writer, n) in told {
        let content = item(&reopened, id).unwrap().content;
        assert_eq!(content, knowledge(&writer.to_string(), &n.to_string()));
    }
    assert_eq!(reopened.read(|view| view.totals()).unwrap()[0].items, 4000);
}

#[test]
fn the_index_follows_every_change_in_its_transaction() {
    let index = Arc::new(WordIndex::default());
    let (_folder, store) = open(Options { index: Some(index.clone()), ..options() });
    let id = store.put(knowledge("fans", "they hum")).unwrap();
    store.put(event("they hum too")).unwrap();
    let search = |text: &str, kind: Kind| -> Vec<u64> {
        let query = Query { text, vector: None, limit: 10 };
        let found = store.read(|view| view.search(&query, &|found| found == kind)).unwrap();
        found.iter().map(|(item, _)| item.id).collect()
    };
    assert_eq!(search("hum", Kind::Knowledge), [id]);
    let goal_id = store.put(goal("quiet", Status::Active)).unwrap();
    let result = GoalUpdate { id: goal_id, result: Some("oiled".into()), ..GoalUpdate::default() };
    store.write(Write::UpdateGoal(result)).unwrap();
    assert_eq!(search("oiled", Kind::Goal), [goal_id]);
    let followed = index.followed.lock().unwrap();
    let changed = Change::Words { id: goal_id, text: "quiet\noiled".into(), before: Some("quiet".into()) };
    assert_eq!(followed.last(), Some(&changed));
}

#[test]
fn items_wait_for_their_vector_and_only_a_vector_of_their_words_is_taken() {
    let time = Time::new();
    let (_folder, store) = open(Options { index: Some(Arc::new(WordIndex::default())), ..time.options() });
    let id = store.put(goal("quiet", Status::Active)).unwrap();
    store.put(event("events get none")).unwrap();
    let waiting = store.read(|view| view.unembedded(10)).unwrap();
    assert_eq!(waiting.iter().map(|item| item.id).collect::<Vec<_>>(), [id]);
    time.pass(1);
    let result = GoalUpdate { id, result: Some("oiled".into()), ..GoalUpdate::default() };
    store.write(Write::UpdateGoal(result)).unwrap();
    let vector = |updated| Write::Vectors(vec![Embedded { id, updated, vector: vec![1.0, 0.0] }]);
    store.write(vector(waiting[0].updated)).unwrap();
    assert_eq!(store.read(|view| view.unembedded_count()).unwrap(), 1, "that was of the words before");
    store.write(vector(time.now())).unwrap();
    assert_eq!(store.read(|view| view.unembedded_count()).unwrap(), 0);
}

#[test]
fn an_index_that_is_new_or_of_another_version_gets_all_items() {
    let (folder, store) = open(options());
    let id = store.put(knowledge("fans", "they hum")).unwrap();
    let query = Query { text: "hum", vector: None, limit: 10 };
    assert_eq!(store.read(|view| view.search(&query, &|_| true)).unwrap_err(), StoreError::NoIndex);
    store.close().unwrap();
    for version in [1, 2] {
        let index = Arc::new(WordIndex { version, ..WordIndex::default() });
        let options = Options { index: Some(index), ..options() };
        let store = Store::open(&folder.path().join("state/memory.redb"), options).unwrap();
        let found = store.read(|view| view.search(&query, &|_| true)).unwrap();
        assert_eq!(found[0].0.id, id, "version {version}");
        store.close().unwrap();
    }
}

#[test]
fn only_one_process_has_the_file_and_what_is_no_memory_is_left_alone() {
    let (folder, store) = open(options());
    let path = folder.path().join("state/memory.redb");
    let second = Store::open(&path, options()).map(|_| ()).unwrap_err();
    assert!(second.to_string().contains("another process has it open"), "{second}");
    drop(store);
    let foreign = folder.path().join("foreign.redb");
    let database = redb::Database::create(&foreign).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(&foreign).unwrap();
    let error = Store::open(&foreign, options()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read(&foreign).unwrap().len(), before.len());
}
