//! Reading the tables, of which nothing is believed.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, TableError};

use crate::{
    error::{Damage, OpenError},
    graph::{Graph, Node},
    rows::{Rows, SLOTS_MAX},
    state::State,
    tables::{
        ABOUT, ABOUT_NAME, DIMENSIONS, FORMAT, FORMAT_NOW, GENERATION, LINKS, LINKS_NAME, ROWS, ROWS_NAME, SLOTS,
        parse_links, parse_row,
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
    let graph = load_graph(read, &rows)?;
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

fn load_graph(read: &ReadTransaction, rows: &Rows) -> Result<Graph, OpenError> {
    let mut graph = Graph::default();
    let Some(table) = table(read, LINKS)? else { return Ok(graph) };
    for row in table.iter()? {
        let (slot, row) = row?;
        let slot = slot.value();
        if !rows.is_used(slot) {
            return Err(Damage::new(LINKS_NAME, slot, "there is no vector in this slot").into());
        }
        let node: Node = parse_links(slot, row.value())?;
        if node.iter().flatten().any(|link| *link == slot) {
            return Err(Damage::new(LINKS_NAME, slot, "it is its own neighbour").into());
        }
        graph.set(slot, &node);
    }
    let astray = |slot: &u32| graph.node(*slot).is_some_and(|node| !leads(&graph, &node));
    if let Some(slot) = rows.slots().find(astray) {
        return Err(Damage::new(LINKS_NAME, slot, "a neighbour is not in the graph on its level").into());
    }
    graph.choose_entry();
    Ok(graph)
}

/// Whether all links of a node lead to what is on their level.
fn leads(graph: &Graph, node: &Node) -> bool {
    node.iter().enumerate().all(|(level, links)| links.iter().all(|link| graph.levels(*link) > level))
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
