//! Reading the tables, of which nothing is believed.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, TableError};

use crate::{
    error::{Damage, OpenError},
    graph::Graph,
    rows::{Rows, SLOTS_MAX},
    state::State,
    tables::{
        ABOUT, ABOUT_NAME, CHANGES, CHANGES_NAME, DIMENSIONS, FORMAT, FORMAT_NOW, GENERATION, LINKS, LINKS_NAME, ROWS,
        ROWS_NAME, SLOTS, TOGETHER, parse_node, parse_row,
    },
};

/// All that the tables hold. Where there are none yet, there are no vectors.
pub(crate) fn load(read: &ReadTransaction, dimensions: usize) -> Result<State, OpenError> {
    let Some(about) = table(read, ABOUT)? else {
        return Ok(State::new(Rows::new(dimensions), Graph::default(), 0));
    };
    let number = |name: &'static str| -> Result<u64, OpenError> {
        let number = about.get(name)?.ok_or_else(|| Damage::new(ABOUT_NAME, name, "it is missing"))?;
        Ok(number.value())
    };
    let found = number(FORMAT)?;
    if found != FORMAT_NOW {
        return Err(OpenError::Format { found, expected: FORMAT_NOW });
    }
    let found = number(DIMENSIONS)?;
    if found != dimensions as u64 {
        return Err(OpenError::Dimensions { expected: dimensions, found });
    }
    let slots = number(SLOTS)?;
    if slots > SLOTS_MAX.into() {
        return Err(Damage::new(ABOUT_NAME, SLOTS, format!("{slots} are more than there can be")).into());
    }
    let rows = load_rows(read, dimensions, slots as u32)?;
    let graph = load_graph(read, &rows, slots as u32)?;
    Ok(State::new(rows, graph, number(GENERATION)?))
}

fn load_rows(read: &ReadTransaction, dimensions: usize, slots: u32) -> Result<Rows, OpenError> {
    let mut rows = Rows::new(dimensions);
    let Some(table) = table(read, ROWS)? else { return Ok(rows) };
    for row in table.iter()? {
        let (id, row) = row?;
        let id = id.value();
        let (slot, scale, numbers) = parse_row(id, row.value(), dimensions)?;
        if slot >= slots {
            return Err(Damage::new(ROWS_NAME, id, format!("its slot {slot} is not below {slots}")).into());
        }
        if rows.is_used(slot) {
            let other = rows.id(slot);
            return Err(Damage::new(ROWS_NAME, id, format!("its slot {slot} is that of row {other}")).into());
        }
        rows.insert(slot, id, scale, numbers.iter().map(|number| number.cast_signed()));
    }
    Ok(rows)
}

fn load_graph(read: &ReadTransaction, rows: &Rows, slots: u32) -> Result<Graph, OpenError> {
    let mut graph = Graph::default();
    if let Some(table) = table(read, LINKS)? {
        for row in table.iter()? {
            let (number, row) = row?;
            load_together(number.value(), row.value(), slots, &mut graph)?;
        }
    }
    if let Some(table) = table(read, CHANGES)? {
        for row in table.iter()? {
            let (generation, row) = row?;
            load_changes(generation.value(), row.value(), slots, &mut graph)?;
        }
    }
    // Only now: what a row says of a slot may be told otherwise by a later one.
    for slot in graph.slots() {
        if let Some(reason) = reason_against(slot, &graph, rows) {
            return Err(Damage::new(LINKS_NAME, slot / TOGETHER, format!("slot {slot}: {reason}")).into());
        }
    }
    graph.choose_entry();
    Ok(graph)
}

/// A row of neighbours.
fn load_together(number: u32, mut row: &[u8], slots: u32, graph: &mut Graph) -> Result<(), Damage> {
    let damage = |reason: String| Damage::new(LINKS_NAME, number, reason);
    if number >= slots.div_ceil(TOGETHER) {
        return Err(damage(format!("its slots are not below {slots}")));
    }
    for slot in number * TOGETHER..(number + 1) * TOGETHER {
        let (node, rest) = parse_node(row).map_err(|reason| damage(format!("slot {slot}: {reason}")))?;
        if !node.is_empty() {
            graph.set(slot, &node);
        }
        row = rest;
    }
    if row.is_empty() { Ok(()) } else { Err(damage("it goes on after its end".to_owned())) }
}

/// What a batch changed.
fn load_changes(generation: u64, mut row: &[u8], slots: u32, graph: &mut Graph) -> Result<(), Damage> {
    let damage = |reason: String| Damage::new(CHANGES_NAME, generation, reason);
    while let Some((slot, rest)) = row.split_first_chunk() {
        let slot = u32::from_le_bytes(*slot);
        let (node, rest) = parse_node(rest).map_err(|reason| damage(format!("slot {slot}: {reason}")))?;
        // There may have been more slots then.
        if node.is_empty() {
            graph.remove(slot);
        } else if slot < slots {
            graph.set(slot, &node);
        }
        row = rest;
    }
    if row.is_empty() { Ok(()) } else { Err(damage("it ends too soon".to_owned())) }
}

/// Why the neighbours of a slot can't be as they are.
fn reason_against(slot: u32, graph: &Graph, rows: &Rows) -> Option<&'static str> {
    if !rows.is_used(slot) {
        Some("there is no vector in it")
    } else if graph.levels_of(slot).flatten().any(|link| *link == slot) {
        Some("it is its own neighbour")
    } else if !leads(graph, slot) {
        Some("a neighbour is not in the graph on its level")
    } else {
        None
    }
}

/// Whether all links of a slot lead to what is on their level.
fn leads(graph: &Graph, slot: u32) -> bool {
    graph.levels_of(slot).enumerate().all(|(level, links)| links.iter().all(|link| graph.levels(*link) > level))
}

/// A table, if there is one.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    definition: TableDefinition<K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, OpenError> {
    match read.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
