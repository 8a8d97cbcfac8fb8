//! Scripts that change while their operators run.
//!
//! A change is noticed through the folder that holds the script (editors
//! replace files by renaming), waits until the file has been quiet for a
//! moment (editors write in pieces), and counts only if the text is another
//! one. It is compiled here first: what does not compile never reaches a
//! shard.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ringmain_config::{FlowKey, FlowPlan, LuaSource, OperatorKind, OperatorPlan};
use ringmain_shard::compile;
use ringmain_slab::SharedSchema;

use crate::start::Flow;

/// How long a file must be quiet.
const QUIET: Duration = Duration::from_millis(50);

/// Notices that wait; one is enough to look at everything.
const NOTICES: usize = 64;

struct Script {
    flow: usize,
    operator: usize,
    plan: OperatorPlan,
    key: FlowKey,
    path: PathBuf,
    /// The text that was loaded or refused last.
    text: String,
}

/// Watches the scripts of all flows.
pub(crate) struct Scripts {
    scripts: Vec<Script>,
    notices: Receiver<()>,
    /// Kept: dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    changed: Option<Instant>,
}

impl Scripts {
    /// Begins to watch. Where that cannot be, SIGHUP still reloads.
    pub(crate) fn watch(flows: &[FlowPlan]) -> Self {
        let scripts: Vec<_> = flows.iter().enumerate().flat_map(|(at, f)| of_flow(at, f)).collect();
        let (send, notices) = sync_channel(NOTICES);
        let folders: BTreeSet<_> = scripts.iter().map(|script| folder(&script.path)).collect();
        let watcher = if folders.is_empty() {
            None
        } else {
            // Other files of the folder may change all the time.
            let names: BTreeSet<_> =
                scripts.iter().filter_map(|s| s.path.file_name().map(OsString::from)).collect();
            let on_event = move |event: notify::Result<notify::Event>| {
                let ours = |path: &PathBuf| path.file_name().is_some_and(|n| names.contains(n));
                if event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(ours)) {
                    // A full channel has a notice already.
                    let _ = send.try_send(());
                }
            };
            let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
                folders
                    .iter()
                    .try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive))?;
                Ok(watcher)
            });
            watcher
                .map_err(|error| {
                    tracing::warn!("scripts are not watched ({error}): reload them with SIGHUP");
                })
                .ok()
        };
        Self { scripts, notices, _watcher: watcher, changed: None }
    }

    /// Looks whether scripts have changed, and passes new versions on. True
    /// when shards must be woken.
    pub(crate) fn tick(&mut self, flows: &[Flow]) -> bool {
        while self.notices.try_recv().is_ok() {
            self.changed = Some(Instant::now());
        }
        report(flows);
        if self.changed.is_some_and(|at| at.elapsed() >= QUIET) {
            self.changed = None;
            return self.reload(flows);
        }
        false
    }

    /// Whether a change waits for its moment of quiet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.changed.is_some()
    }

    /// Loads what is not what it was. True when there was anything.
    pub(crate) fn reload(&mut self, flows: &[Flow]) -> bool {
        let mut any = false;
        for script in &mut self.scripts {
            // Gone for a moment while an editor replaces it, or for good: the
            // loaded version goes on either way.
            let Ok(text) = std::fs::read_to_string(&script.path) else { continue };
            if text == script.text {
                continue;
            }
            script.text = text;
            let flow = &flows[script.flow];
            let name = format!("{}.{}", flow.name, script.plan.name);
            match compile(&script.plan, &script.key, &SharedSchema::new()) {
                Err(error) => {
                    let (line, message) = (error.line, error.message);
                    let path = script.path.display();
                    tracing::error!("{name}: {path}:{line}: {message}; the old version goes on");
                }
                Ok(_) => {
                    let chunk = script
                        .path
                        .file_name()
                        .map_or_else(String::new, |file| file.to_string_lossy().into_owned());
                    flow.control.replace_script(script.operator, &script.text, &chunk);
                    any = true;
                }
            }
        }
        any
    }
}

fn of_flow(at: usize, plan: &FlowPlan) -> Vec<Script> {
    let operators = plan.operators.iter().enumerate();
    let script = |(operator, plan_of): (usize, &OperatorPlan)| {
        let OperatorKind::Lua(lua) = &plan_of.kind else { return None };
        let LuaSource::Script(path) = &lua.source else { return None };
        let text = std::fs::read_to_string(&path.value).unwrap_or_default();
        let (path, key) = (path.value.clone(), plan.flow_key());
        Some(Script { flow: at, operator, plan: plan_of.clone(), key, path, text })
    };
    operators.filter_map(script).collect()
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn report(flows: &[Flow]) {
    for flow in flows {
        for report in flow.control.take_reports() {
            let components = &flow.control.components;
            let name = &components[flow.first_operator + report.operator];
            let (flow, shard, version) = (&flow.name, report.shard, report.version);
            match report.result {
                Ok(()) => {
                    let swap_us = report.swap_us;
                    tracing::info!(
                        "{flow}.{name}: version {version} on shard {shard}, swapped in {swap_us} us"
                    );
                }
                Err(error) => tracing::error!(
                    "{flow}.{name}: version {version} on shard {shard}: {error}; the old version \
                     goes on"
                ),
            }
        }
    }
}
