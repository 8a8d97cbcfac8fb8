//! What a new version of a flow changes: by value, so that a comment or a
//! reordered table rebuilds nothing.

use crate::plan::FlowPlan;

/// Names of components by what happens to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowDiff {
    /// Only in the new version.
    pub added: Vec<String>,
    /// Only in the old version.
    pub removed: Vec<String>,
    /// In both, not equal. A source that became a sink is here, too.
    pub changed: Vec<String>,
    /// Equal in both.
    pub unchanged: Vec<String>,
    /// Keys of the flow itself that changed: `partition`, `allow_loss`,
    /// `drain`, `name`, `base_dir`.
    pub settings: Vec<&'static str>,
}

impl FlowDiff {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.settings.is_empty()
    }
}

/// Compares two versions of one flow. `[dead_letters]` counts as a component,
/// `[[tests]]` do not: they change nothing that runs. The content of Lua files
/// is not compared; whoever loads them does.
#[must_use]
pub fn diff(old: &FlowPlan, new: &FlowPlan) -> FlowDiff {
    let mut diff = FlowDiff::default();
    for name in names(new) {
        if !names(old).any(|n| n == name) {
            diff.added.push(name.to_owned());
        } else if same(old, new, name) {
            diff.unchanged.push(name.to_owned());
        } else {
            diff.changed.push(name.to_owned());
        }
    }
    let gone = names(old).filter(|name| !names(new).any(|n| n == *name));
    diff.removed = gone.map(str::to_owned).collect();
    let settings = [
        ("name", old.name != new.name),
        ("base_dir", old.base_dir != new.base_dir),
        ("partition", old.partition != new.partition),
        ("allow_loss", old.allow_loss != new.allow_loss),
        ("drain", old.drain_us != new.drain_us),
    ];
    diff.settings = settings.into_iter().filter(|(_, changed)| *changed).map(|s| s.0).collect();
    diff
}

fn names(flow: &FlowPlan) -> impl Iterator<Item = &str> {
    let dead = flow.dead_letters.iter().map(|d| d.name.as_str());
    flow.component_names().map(|n| n.as_str()).chain(dead)
}

fn same(old: &FlowPlan, new: &FlowPlan, name: &str) -> bool {
    fn find<'a, T>(list: &'a [T], name: &str, of: impl Fn(&T) -> &str) -> Option<&'a T> {
        list.iter().find(|c| of(c) == name)
    }
    let source = |f: &'_ FlowPlan| find(&f.sources, name, |c| &c.name).cloned();
    let operator = |f: &'_ FlowPlan| find(&f.operators, name, |c| &c.name).cloned();
    let sink = |f: &'_ FlowPlan| {
        let dead = f.dead_letters.as_ref().filter(|d| d.name.value == name);
        find(&f.sinks, name, |c| &c.name).or(dead).cloned()
    };
    source(old) == source(new) && operator(old) == operator(new) && sink(old) == sink(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
        name = "f"
        [sources.a]
        type = "stdin"
        [operators.b]
        type = "filter"
        inputs = ["a"]
        where = "x > 1"
        [sinks.c]
        type = "stdout"
        inputs = ["b"]
    "#;

    fn flow(text: &str) -> FlowPlan {
        let mut plan = crate::load_str("f.toml", text).unwrap_or_else(|e| panic!("{e}"));
        plan.flows.remove(0)
    }

    #[test]
    fn comments_and_layout_change_nothing() {
        let new = OLD.replace("where =", "# what matters\n\n where   =");
        let diff = diff(&flow(OLD), &flow(&new));
        assert!(diff.is_empty());
        assert_eq!(diff.unchanged, ["a", "b", "c"]);
    }

    #[test]
    fn each_component_is_in_one_list() {
        let new = OLD.replace("x > 1", "x > 2").replace("sinks.c", "sinks.d")
            + "[dead_letters]\ntype = \"stdout\"\n[partition]\nkey = \"x\"\n";
        let diff = diff(&flow(OLD), &flow(&new));
        assert_eq!(diff.unchanged, ["a"]);
        assert_eq!(diff.changed, ["b"]);
        assert_eq!(diff.added, ["d", "dead_letters"]);
        assert_eq!(diff.removed, ["c"]);
        assert_eq!(diff.settings, ["partition"]);
    }
}
