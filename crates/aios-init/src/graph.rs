//! Order among units: who comes first, and which units wait for themselves.
//!
//! A graph is a list of successors: `edges[u]` are the units that must come before `u`.

/// Every node after all that it points to, or the first cycle found (each node points to the next, the last to the first).
pub fn order(edges: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut walk =
        Walk { edges, marks: vec![Mark::New; edges.len()], path: Vec::new(), order: Vec::with_capacity(edges.len()) };
    for node in 0..edges.len() {
        walk.visit(node)?;
    }
    Ok(walk.order)
}

/// One cycle per knot, each starting with its lowest node.
///
/// The nodes of each are marked by removing their edges, so that afterwards [`order`] succeeds on what is left.
pub fn cut_cycles(edges: &mut [Vec<usize>]) -> Vec<Vec<usize>> {
    let mut cycles = Vec::new();
    while let Err(mut cycle) = order(edges) {
        let lowest = cycle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(at, _)| at);
        cycle.rotate_left(lowest);
        for node in &cycle {
            edges[*node].clear();
        }
        cycles.push(cycle);
    }
    cycles
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    OnPath,
    Done,
}

struct Walk<'a> {
    edges: &'a [Vec<usize>],
    marks: Vec<Mark>,
    path: Vec<usize>,
    order: Vec<usize>,
}

impl Walk<'_> {
    /// Depth-first with a stack of its own: a chain of ten thousand units must not overflow PID 1's stack.
    fn visit(&mut self, root: usize) -> Result<(), Vec<usize>> {
        if self.marks[root] != Mark::New {
            return Ok(());
        }
        let mut next_edge = vec![0usize];
        self.path.push(root);
        self.marks[root] = Mark::OnPath;
        while let (Some(&node), Some(edge)) = (self.path.last(), next_edge.last_mut()) {
            let Some(&to) = self.edges[node].get(*edge) else {
                self.marks[node] = Mark::Done;
                self.order.push(node);
                self.path.pop();
                next_edge.pop();
                continue;
            };
            *edge += 1;
            match self.marks[to] {
                Mark::Done => {}
                Mark::New => {
                    self.marks[to] = Mark::OnPath;
                    self.path.push(to);
                    next_edge.push(0);
                }
                Mark::OnPath => {
                    let start = self.path.iter().position(|on_path| *on_path == to).unwrap_or(0);
                    return Err(self.path[start..].to_vec());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_node_points_to_comes_first() {
        assert_eq!(order(&[vec![1], vec![2], vec![]]), Ok(vec![2, 1, 0]));
    }

    #[test]
    fn a_cycle_is_given_in_its_direction() {
        assert_eq!(order(&[vec![1], vec![2], vec![0]]), Err(vec![0, 1, 2]));
        assert_eq!(order(&[vec![0]]), Err(vec![0]));
    }

    #[test]
    fn cutting_names_each_knot_once() {
        let mut edges = vec![vec![1], vec![0], vec![3], vec![2], vec![0, 2]];
        assert_eq!(cut_cycles(&mut edges), vec![vec![0, 1], vec![2, 3]]);
        assert_eq!(order(&edges), Ok(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let edges: Vec<Vec<usize>> = (0..100_000usize)
            .map(|node| node.checked_add(1).filter(|to| *to < 100_000).into_iter().collect())
            .collect();
        assert_eq!(order(&edges).map(|order| order.len()), Ok(100_000));
    }

    proptest! {
        #[test]
        fn after_cutting_every_graph_has_an_order(mut edges in graphs()) {
            let cycles = cut_cycles(&mut edges);
            let order = order(&edges).expect("no cycle is left");
            let mut place = vec![0; edges.len()];
            for (at, node) in order.iter().enumerate() {
                place[*node] = at;
            }
            for (node, before) in edges.iter().enumerate() {
                for earlier in before {
                    prop_assert!(place[*earlier] < place[node]);
                }
            }
            for cycle in cycles {
                prop_assert!(cycle.iter().all(|node| edges[*node].is_empty()));
            }
        }
    }

    fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1usize..12).prop_flat_map(|size| prop::collection::vec(prop::collection::vec(0..size, 0..4), size))
    }
}
