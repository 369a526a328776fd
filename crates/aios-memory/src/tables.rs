//! The tables of the memory's database (docs/formats/memory.md).

use aios_tables::copy_table;
use redb::{ReadTransaction, Table, TableDefinition, TableError, WriteTransaction};

use crate::kind::{Kind, Tier};

/// By id: rows (see `row`), a table for each tier.
pub(crate) const OPERATIONAL: TableDefinition<u64, &[u8]> = TableDefinition::new("operational");
/// See [`OPERATIONAL`].
pub(crate) const WORKING: TableDefinition<u64, &[u8]> = TableDefinition::new("working");
/// See [`OPERATIONAL`].
pub(crate) const LONG_TERM: TableDefinition<u64, &[u8]> = TableDefinition::new("long-term");
/// By name: JSON.
pub(crate) const METRICS: TableDefinition<&str, &[u8]> = TableDefinition::new("metrics");
/// Goal and id of each task, call and decision of a goal.
pub(crate) const CHILDREN: TableDefinition<(u64, u64), ()> = TableDefinition::new("children");
/// Goals that have not ended.
pub(crate) const OPEN_GOALS: TableDefinition<u64, ()> = TableDefinition::new("open-goals");
/// By agent and key: id.
pub(crate) const STATES: TableDefinition<(&str, &str), u64> = TableDefinition::new("states");
/// Hash of a pattern's goal, and id.
pub(crate) const PATTERNS: TableDefinition<(&[u8], u64), ()> = TableDefinition::new("patterns");
/// `last-id`: the last id that was given out.
pub(crate) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// Since schema 2. By tier * 256 + kind: number of items, bytes of their rows.
pub(crate) const TOTALS: TableDefinition<u16, (u64, u64)> = TableDefinition::new("totals");
/// Since schema 2. Items that wait for their vector.
pub(crate) const UNEMBEDDED: TableDefinition<u64, ()> = TableDefinition::new("unembedded");
/// What the file is: [`SCHEMA`]; and what is left to do: [`REWRITE`].
pub(crate) const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("aios-memory");

/// Name of the schema's number in [`ABOUT`].
pub(crate) const SCHEMA: &str = "schema";
/// Name of the mark in [`ABOUT`] that something was erased whose bytes may still be in the file.
pub(crate) const REWRITE: &str = "rewrite";
/// Name of the last id in [`COUNTERS`].
pub(crate) const LAST_ID: &str = "last-id";

/// The table of a tier.
pub(crate) fn of(tier: Tier) -> TableDefinition<'static, u64, &'static [u8]> {
    match tier {
        Tier::Operational => OPERATIONAL,
        Tier::Working => WORKING,
        Tier::LongTerm => LONG_TERM,
    }
}

/// Key of the items of a kind in a tier in [`TOTALS`].
pub(crate) fn total_key(tier: Tier, kind: Kind) -> u16 {
    u16::from(tier as u8) << 8 | u16::from(kind as u8)
}

/// All tables of a transaction that writes.
pub(crate) struct Tables<'t> {
    pub operational: Table<'t, u64, &'static [u8]>,
    pub working: Table<'t, u64, &'static [u8]>,
    pub long_term: Table<'t, u64, &'static [u8]>,
    pub metrics: Table<'t, &'static str, &'static [u8]>,
    pub children: Table<'t, (u64, u64), ()>,
    pub open_goals: Table<'t, u64, ()>,
    pub states: Table<'t, (&'static str, &'static str), u64>,
    pub patterns: Table<'t, (&'static [u8], u64), ()>,
    pub counters: Table<'t, &'static str, u64>,
    pub totals: Table<'t, u16, (u64, u64)>,
    pub unembedded: Table<'t, u64, ()>,
    pub about: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    /// Opens all of them, and makes those that are missing.
    pub fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, TableError> {
        Ok(Tables {
            operational: transaction.open_table(OPERATIONAL)?,
            working: transaction.open_table(WORKING)?,
            long_term: transaction.open_table(LONG_TERM)?,
            metrics: transaction.open_table(METRICS)?,
            children: transaction.open_table(CHILDREN)?,
            open_goals: transaction.open_table(OPEN_GOALS)?,
            states: transaction.open_table(STATES)?,
            patterns: transaction.open_table(PATTERNS)?,
            counters: transaction.open_table(COUNTERS)?,
            totals: transaction.open_table(TOTALS)?,
            unembedded: transaction.open_table(UNEMBEDDED)?,
            about: transaction.open_table(ABOUT)?,
        })
    }

    /// The table of a tier.
    pub fn tier(&mut self, tier: Tier) -> &mut Table<'t, u64, &'static [u8]> {
        match tier {
            Tier::Operational => &mut self.operational,
            Tier::Working => &mut self.working,
            Tier::LongTerm => &mut self.long_term,
        }
    }
}

/// Copies all tables of the store.
pub(crate) fn copy(from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
    for tier in Tier::ALL {
        copy_table(of(tier), from, to)?;
    }
    copy_table(METRICS, from, to)?;
    copy_table(CHILDREN, from, to)?;
    copy_table(OPEN_GOALS, from, to)?;
    copy_table(STATES, from, to)?;
    copy_table(PATTERNS, from, to)?;
    copy_table(COUNTERS, from, to)?;
    copy_table(TOTALS, from, to)?;
    copy_table(UNEMBEDDED, from, to)?;
    copy_table(ABOUT, from, to)
}
