//! What becomes of items with time: they move, and none is lost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::{collections::BTreeMap, time::Duration};

use aios_fault_disk::{Disk, Plan};
use aios_memory::{
    Aged, Content, Done, GoalUpdate, Kind, Options, Store, Tier, Write,
    item::{Body, Status},
};
use aios_policy::Origin;
use fixture::*;
use proptest::{collection::vec, prelude::*, sample::Index};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Goal(bool),
    /// For one of the goals so far.
    Task(Index),
    Call(Index),
    Pattern,
    Knowledge,
    /// Of one of the goals so far.
    End(Index),
    Use(Index),
    Days(i64),
    Age,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Goal),
        any::<Index>().prop_map(Step::Task),
        any::<Index>().prop_map(Step::Call),
        Just(Step::Pattern),
        Just(Step::Knowledge),
        any::<Index>().prop_map(Step::End),
        any::<Index>().prop_map(Step::Use),
        (1..40_i64).prop_map(Step::Days),
        Just(Step::Age),
    ]
}

/// What the store should hold.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    content: Content,
    updated: i64,
    tier: Tier,
}

struct Model {
    time: Time,
    store: Store,
    items: BTreeMap<u64, Known>,
}

impl Model {
    fn of_kind(&self, kind: Kind) -> Vec<u64> {
        self.items.iter().filter(|(_, known)| known.content.body.kind() == kind).map(|(id, _)| *id).collect()
    }

    fn put(&mut self, mut content: Content) {
        // Whence it is goes along with every item.
        content.provenance.source = format!("source {}", self.items.len());
        content.provenance.origins.insert(if self.items.len().is_multiple_of(2) { Origin::Web } else { Origin::Mqtt });
        let Done::Item(item) = self.store.write(Write::Put(content)).unwrap() else { panic!() };
        self.note(item);
    }

    fn note(&mut self, item: aios_memory::Item) {
        self.items.insert(item.id, Known { content: item.content, updated: item.updated, tier: item.tier });
    }

    fn change(&mut self, write: Write) {
        if let Ok(Done::Item(item)) = self.store.write(write) {
            self.note(item);
        }
    }

    fn run(&mut self, step: Step) {
        let goals = self.of_kind(Kind::Goal);
        match step {
            Step::Goal(ended) => {
                self.put(goal("a goal", if ended { Status::Failed } else { Status::Active }));
            }
            Step::Task(index) if !goals.is_empty() => self.put(task(*index.get(&goals), "a task")),
            Step::Call(index) if !goals.is_empty() => self.put(call(*index.get(&goals), "fs.read")),
            Step::Task(_) => self.put(task(0, "alone")),
            Step::Call(_) => self.put(call(0, "fs.read")),
            Step::Pattern => self.put(pattern("a goal")),
            Step::Knowledge => self.put(knowledge("title", "text")),
            Step::End(index) if !goals.is_empty() => {
                let id = *index.get(&goals);
                let update = GoalUpdate { id, status: Some(Status::Completed), ..GoalUpdate::default() };
                self.change(Write::UpdateGoal(update));
            }
            Step::Use(index) => {
                let patterns = self.of_kind(Kind::Pattern);
                if !patterns.is_empty() {
                    self.change(Write::CountUse { id: *index.get(&patterns), success: true });
                }
            }
            Step::End(_) => {}
            Step::Days(days) => self.time.pass(days * DAY),
            Step::Age => self.age(),
        }
    }

    /// What should move, said in another way than the store does it.
    fn age(&mut self) {
        let due = self.time.now() - 30 * DAY;
        let is_fresh = |known: &Known| known.updated >= due;
        let working: Vec<u64> =
            self.items.iter().filter(|(_, known)| known.tier == Tier::Working).map(|(id, _)| *id).collect();
        let goal_of = |id: u64| {
            let body = &self.items[&id].content.body;
            match body {
                Body::Goal(_) => Some(id),
                _ => body.goal().filter(|goal| self.items[goal].tier == Tier::Working),
            }
        };
        let stays = |id: u64| match goal_of(id) {
            None => is_fresh(&self.items[&id]),
            Some(goal) => {
                let Body::Goal(body) = &self.items[&goal].content.body else { panic!() };
                !body.status.has_ended()
                    || working.iter().any(|other| goal_of(*other) == Some(goal) && is_fresh(&self.items[other]))
            }
        };
        let leave: Vec<u64> = working.iter().copied().filter(|id| !stays(*id)).collect();
        assert_eq!(self.store.age().unwrap(), Aged { moved: leave.len() as u64, dropped: 0 });
        for id in leave {
            self.items.get_mut(&id).unwrap().tier = Tier::LongTerm;
        }
    }

    /// Everything is there, once, where it should be, and is found.
    fn check(&self) {
        let mut found = BTreeMap::new();
        for tier in Tier::ALL {
            for item in self.store.read(|view| view.items(tier)).unwrap() {
                assert_eq!(item.tier, tier);
                let known = Known { content: item.content, updated: item.updated, tier };
                assert_eq!(found.insert(item.id, known), None, "item {} is in two tiers", item.id);
            }
        }
        assert_eq!(found, self.items);
        let mut counted = 0;
        for total in self.store.read(|view| view.totals()).unwrap() {
            let fits = |known: &&Known| known.tier == total.tier && known.content.body.kind() == total.kind;
            assert_eq!(total.items, self.items.values().filter(fits).count() as u64);
            counted += total.items;
        }
        assert_eq!(counted, self.items.len() as u64);
        for goal in self.of_kind(Kind::Goal) {
            let tasks = self.store.read(|view| view.of_goal(goal, Kind::Task)).unwrap();
            let expected = self.items.iter().filter(|(_, known)| {
                known.content.body.kind() == Kind::Task && known.content.body.goal() == Some(goal)
            });
            assert_eq!(
                tasks.iter().map(|item| item.id).collect::<Vec<_>>(),
                expected.map(|(id, _)| *id).collect::<Vec<_>>()
            );
        }
        let active = self.store.read(|view| view.active_goals(usize::MAX)).unwrap().len();
        let is_open = |known: &&Known| matches!(&known.content.body, Body::Goal(goal) if !goal.status.has_ended());
        assert_eq!(active, self.items.values().filter(is_open).count());
        let patterns = self.store.read(|view| view.patterns("a goal")).unwrap().len();
        assert_eq!(patterns, self.of_kind(Kind::Pattern).len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn ageing_moves_what_is_due_and_loses_none(steps in vec(step(), 1..60)) {
        let time = Time::new();
        let store = Store::open_on(Box::new(Disk::new(Plan::Nothing)), time.options()).unwrap();
        let mut model = Model { time, store, items: BTreeMap::new() };
        steps.into_iter().for_each(|step| model.run(step));
        model.age();
        model.check();
    }
}

#[test]
fn a_goal_that_has_ended_takes_what_belongs_to_it_along_when_all_of_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::new();
    let store = Store::open(&folder.path().join("memory.redb"), time.options()).unwrap();
    let ended = store.put(goal("done long ago", Status::Completed)).unwrap();
    let open = store.put(goal("never done", Status::Active)).unwrap();
    let old = store.put(task(ended, "old")).unwrap();
    time.pass(20 * DAY);
    let late = store.put(call(ended, "fs.read")).unwrap();
    time.pass(11 * DAY);
    assert_eq!(store.age().unwrap(), Aged::default(), "a call of the goal is 11 days old");
    time.pass(20 * DAY);
    assert_eq!(store.age().unwrap(), Aged { moved: 3, dropped: 0 });
    let tier = |id| store.read(|view| view.item(id)).unwrap().unwrap().tier;
    assert_eq!([ended, old, late].map(tier), [Tier::LongTerm; 3]);
    assert_eq!(tier(open), Tier::Working, "what is not done is not put away");
}

#[test]
fn the_long_term_tier_drops_what_is_older_than_its_retention_if_it_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::new();
    let retention = Duration::from_secs(100 * 24 * 3600);
    let options = Options { long_term_retention: retention, ..time.options() };
    let path = folder.path().join("memory.redb");
    let store = Store::open(&path, options).unwrap();
    let old = store.put(knowledge("old", "a-secret-of-long-ago")).unwrap();
    time.pass(60 * DAY);
    let young = store.put(knowledge("young", "lately")).unwrap();
    time.pass(41 * DAY);
    assert_eq!(store.age().unwrap(), Aged { moved: 0, dropped: 1 });
    assert_eq!(store.read(|view| view.item(old)).unwrap(), None);
    assert!(store.read(|view| view.item(young)).unwrap().is_some());
    let bytes = std::fs::read(&path).unwrap();
    let secret = b"a-secret-of-long-ago";
    assert!(!bytes.windows(secret.len()).any(|window| window == secret), "retention leaves nothing behind");
}
