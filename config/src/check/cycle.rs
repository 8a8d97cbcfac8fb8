//! Cycles. One is allowed only through an input with a bound: without it the
//! flow would wait for itself as soon as it is full.

use super::readers;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::Node;

pub(super) fn check(out: &mut Diagnostics, nodes: &[Node]) {
    let readers = readers(nodes);
    let bounded = |(to, number): &(usize, usize)| nodes[*to].inputs[*number].bound.is_some();
    let open: Vec<Vec<usize>> = readers
        .iter()
        .map(|edges| {
            let mut to: Vec<usize> = edges.iter().filter(|e| !bounded(e)).map(|e| e.0).collect();
            // Two ports of one operator are one way around.
            to.dedup();
            to
        })
        .collect();
    for mut path in cycles(&open) {
        report(out, nodes, &mut path);
    }
    useless_bounds(out, nodes, &readers);
}

/// One cycle for each edge that leads back to an open node of a depth-first
/// search. Without recursion: flows are written by programs, too.
fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut done = vec![false; edges.len()];
    let mut depth: Vec<Option<usize>> = vec![None; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if done[start] {
            continue;
        }
        let mut path = vec![start];
        let mut next = vec![0];
        depth[start] = Some(0);
        while let (Some(&node), Some(edge)) = (path.last(), next.last_mut()) {
            let Some(&to) = edges[node].get(*edge) else {
                done[node] = true;
                depth[node] = None;
                path.pop();
                next.pop();
                continue;
            };
            *edge += 1;
            if let Some(first) = depth[to] {
                found.push(path[first..].to_vec());
            } else if !done[to] {
                depth[to] = Some(path.len());
                path.push(to);
                next.push(0);
            }
        }
    }
    found
}

fn report(out: &mut Diagnostics, nodes: &[Node], path: &mut [usize]) {
    // The way back is the input of the node that stands first in the file.
    let first = (0..path.len()).min_by_key(|at| nodes[path[*at]].name.span.start).unwrap_or(0);
    path.rotate_left(first);
    let (head, last) = (&nodes[path[0]], &nodes[path[path.len() - 1]]);
    let input = head.inputs.iter().find(|i| i.component == last.name && i.bound.is_none());
    let (span, from) = match input {
        Some(input) => (input.component.span, crate::parse::written(input)),
        None => (head.name.span, last.name.value.clone()),
    };
    let mut names: Vec<&str> = path.iter().map(|at| nodes[*at].name.as_str()).collect();
    names.push(names[0]);
    let message = format!("the flow runs in a circle: {}", names.join(" -> "));
    let edge = format!("{{ from = \"{from}\", bound = \"4MiB\", when_full = \"drop_newest\" }}");
    out.push(
        Diagnostic::error(span, message)
            .help(format!("if that is meant, give the way back a bound: inputs = [..., {edge}]")),
    );
}

/// A bound that closes no cycle is a queue nobody asked for.
fn useless_bounds(out: &mut Diagnostics, nodes: &[Node], readers: &[Vec<(usize, usize)>]) {
    for (from, edges) in readers.iter().enumerate() {
        for (to, number) in edges {
            let input = &nodes[*to].inputs[*number];
            if input.bound.is_some() && !reaches(readers, *to, from) {
                let message = format!(
                    "'{}' does not lead back to '{}': the bound has no use",
                    nodes[*to].name, nodes[from].name
                );
                out.push(
                    Diagnostic::warning(input.component.span, message)
                        .help(format!("write \"{}\"", crate::parse::written(input))),
                );
            }
        }
    }
}

/// Whether there is a way from `start` to `goal` over any edge.
pub(super) fn reaches(readers: &[Vec<(usize, usize)>], start: usize, goal: usize) -> bool {
    reachable(readers, start)[goal]
}

/// Everything that messages of `start` may come to, itself included.
pub(super) fn reachable(readers: &[Vec<(usize, usize)>], start: usize) -> Vec<bool> {
    let mut seen = vec![false; readers.len()];
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut seen[node], true) {
            open.extend(readers[node].iter().map(|(to, _)| *to));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_circle_is_found_once() {
        // 0 -> 1 -> 2 -> 1, 2 -> 3 -> 3, 0 -> 3
        let edges = vec![vec![1, 3], vec![2], vec![1, 3], vec![3]];
        assert_eq!(cycles(&edges), vec![vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let edges: Vec<Vec<usize>> = (0..100_000).map(|n| vec![(n + 1) % 100_000]).collect();
        assert_eq!(cycles(&edges).len(), 1);
    }
}
