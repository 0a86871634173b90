//! [`Level`]: a node of the tree below a host.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::metric::MetricId;

/// A node of the tree below a host: `socket0`, `hwthread12`, or the host itself at the root.
///
/// A level may hold metrics and children at once. A metric has more than one column only if its configured
/// frequency changed over the life of the data: the newest stands last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    children: BTreeMap<Box<str>, Level>,
    /// In the order of metrics, those of one metric in the order in which they were entered. Lists rather than a map:
    /// most levels are leaves with few metrics, and a node of a map has room for eleven.
    metrics: Vec<MetricId>,
    columns: Vec<u32>,
}

/// One element of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// The child of this name.
    Exact(Box<str>),
    /// The children of these names; names that do not exist are passed over. Found faster if they are in order.
    Group(Vec<Box<str>>),
    /// All children.
    Any,
}

impl Level {
    /// The levels directly below, in the order of their names.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Level)> {
        self.children.iter().map(|(name, level)| (&**name, level))
    }

    /// The metrics that this level itself holds, with their columns, the newest column last.
    pub fn metrics(&self) -> impl Iterator<Item = (MetricId, &[u32])> {
        let mut columns = &self.columns[..];
        self.metrics.chunk_by(|a, b| a == b).map(move |of_one| {
            let (here, behind) = columns.split_at(of_one.len());
            columns = behind;
            (of_one[0], here)
        })
    }

    /// The child of a name.
    pub fn child(&self, name: &str) -> Option<&Level> {
        self.children.get(name)
    }

    /// The level at a path from here.
    pub fn descend<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Level> {
        path.into_iter().try_fold(self, |level, name| level.child(name))
    }

    /// The columns of a metric that this level itself holds, the newest last.
    pub fn columns(&self, metric: MetricId) -> &[u32] {
        let begin = self.metrics.partition_point(|other| *other < metric);
        let count = self.metrics[begin..].iter().take_while(|other| **other == metric).count();
        &self.columns[begin..begin + count]
    }

    /// Enters a column; the shape that owns this tree sees to it that columns are entered in their order.
    pub(crate) fn enter(&mut self, path: &[Box<str>], metric: MetricId, column: u32) {
        let mut level = self;
        for name in path {
            level = level.children.entry(name.clone()).or_default();
        }
        let at = level.metrics.partition_point(|other| *other <= metric);
        level.metrics.insert(at, metric);
        level.columns.insert(at, column);
    }

    /// Calls `visit` with each series of `metric` that `selector` means: its columns, the newest last.
    ///
    /// A selector that ends above the level that holds the metric means everything below; as soon as a level
    /// holds the metric itself, its children are not looked at.
    ///
    /// Ends early, with `Break`, if `visit` does, or if more names and levels would have to be looked at than
    /// `steps_left`, which is counted down: names that are asked for twice count twice, so that a short selector can
    /// mean far more than a host has.
    pub fn select(
        &self,
        selector: &[Element],
        metric: MetricId,
        steps_left: &mut u64,
        visit: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((element, rest)) = selector.split_first() else {
            return self.below(metric, steps_left, visit);
        };
        match element {
            Element::Exact(name) => match self.children.get(name) {
                Some(child) => child.select(rest, metric, steps_left, visit),
                None => ControlFlow::Continue(()),
            },
            Element::Group(names) => {
                step(steps_left, names.len())?;
                // In the order of the tree: the answer must not depend on the order asked for. A name that is
                // asked for twice counts twice, as the original has it.
                if names.is_sorted() {
                    self.select_each(names.iter().map(|name| &**name), rest, metric, steps_left, visit)
                } else {
                    let mut names: Vec<&str> = names.iter().map(|name| &**name).collect();
                    names.sort_unstable();
                    self.select_each(names.into_iter(), rest, metric, steps_left, visit)
                }
            }
            Element::Any => {
                step(steps_left, self.children.len())?;
                self.children.values().try_for_each(|child| child.select(rest, metric, steps_left, visit))
            }
        }
    }

    /// The same for the children of these names, which are in order.
    fn select_each<'n>(
        &self,
        mut names: impl Iterator<Item = &'n str>,
        rest: &[Element],
        metric: MetricId,
        steps_left: &mut u64,
        visit: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        step(steps_left, self.children.len())?;
        let mut children = self.children.iter().peekable();
        names.try_for_each(|name| {
            while children.next_if(|(child, _)| &***child < name).is_some() {}
            match children.peek().filter(|(child, _)| &***child == name) {
                Some((_, child)) => child.select(rest, metric, steps_left, visit),
                None => ControlFlow::Continue(()),
            }
        })
    }

    /// Bytes on the heap, approximately: how full the nodes of the tree are depends on the order of names.
    pub fn heap_bytes(&self) -> usize {
        /// Entries that a node has room for, and those that it has when names come in order.
        const ROOM: usize = 11;
        const FILLED: usize = 6;
        let nodes = self.children.len().div_ceil(FILLED);
        let lists =
            self.metrics.capacity() * size_of::<MetricId>() + self.columns.capacity() * size_of::<u32>();
        let names: usize = self.children.keys().map(|name| name.len().next_multiple_of(8)).sum();
        let below: usize = self.children.values().map(Level::heap_bytes).sum();
        nodes * (ROOM * size_of::<(Box<str>, Level)>() + 16) + lists + names + below
    }

    fn below(
        &self,
        metric: MetricId,
        steps_left: &mut u64,
        visit: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let here = self.columns(metric);
        if !here.is_empty() {
            return visit(here);
        }
        step(steps_left, self.children.len())?;
        self.children.values().try_for_each(|child| child.below(metric, steps_left, visit))
    }

    /// All columns of this level and below.
    pub fn all_columns(&self, found: &mut Vec<u32>) {
        found.extend(&self.columns);
        for child in self.children.values() {
            child.all_columns(found);
        }
    }
}

/// Counts `steps` down; `Break` if there are not as many left.
fn step(steps_left: &mut u64, steps: usize) -> ControlFlow<()> {
    match steps_left.checked_sub(steps as u64) {
        Some(left) => {
            *steps_left = left;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Level {
        let mut root = Level::default();
        root.enter(&[], MetricId(0), 0);
        root.enter(&["socket0".into()], MetricId(1), 1);
        root.enter(&["socket1".into()], MetricId(1), 2);
        root.enter(&["socket1".into(), "die0".into()], MetricId(1), 3);
        root.enter(&["socket1".into(), "die0".into()], MetricId(2), 4);
        root
    }

    fn select(selector: &[Element], metric: u32) -> Vec<u32> {
        let tree = tree();
        let mut found = Vec::new();
        let flow = tree.select(selector, MetricId(metric), &mut 1000, &mut |columns| {
            found.extend_from_slice(columns);
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        found
    }

    #[test]
    fn a_selection_ends_when_it_is_told_to_and_when_its_steps_are_used_up() {
        let tree = tree();
        let mut found = Vec::new();
        let flow = tree.select(&[], MetricId(1), &mut 1000, &mut |columns| {
            found.extend_from_slice(columns);
            ControlFlow::Break(())
        });
        assert!(flow.is_break());
        assert_eq!(found, [1], "not the second one");
        // 300 names for each of 300 names, none of which exists: a thousand times what a visitor would see.
        let group = |name: &str| Element::Group(vec![name.into(); 300]);
        let selector = [group("socket1"), group("die7")];
        let mut steps = 300 * 300;
        let flow = tree.select(&selector, MetricId(1), &mut steps, &mut |_| unreachable!("nothing is found"));
        assert!(flow.is_break());
        let mut steps = 2 * 300 * 300;
        let flow = tree.select(&selector, MetricId(1), &mut steps, &mut |_| unreachable!("nothing is found"));
        assert!(flow.is_continue() && steps < 300 * 300);
    }

    #[test]
    fn a_level_that_holds_the_metric_hides_its_children() {
        assert_eq!(select(&[], 1), [1, 2]);
    }

    #[test]
    fn a_selector_above_the_metric_means_everything_below() {
        assert_eq!(select(&[], 2), [4]);
        assert_eq!(select(&[Element::Any], 1), [1, 2]);
    }

    #[test]
    fn a_group_is_answered_in_the_order_of_the_tree_whatever_the_order_asked() {
        let asked = |names: [&str; 2]| select(&[Element::Group(names.map(Into::into).to_vec())], 1);
        assert_eq!(asked(["socket1", "socket0"]), [1, 2]);
        assert_eq!(asked(["socket1", "socket1"]), [2, 2]);
        assert_eq!(asked(["socket9", "socket0"]), [1]);
    }

    #[test]
    fn an_exact_element_that_does_not_exist_finds_nothing() {
        assert!(select(&[Element::Exact("socket7".into())], 1).is_empty());
    }
}
