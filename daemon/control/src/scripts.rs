//! Scripts that change while their operators run.
//!
//! A change is noticed through the folders that hold scripts and what they
//! require (editors replace files by renaming), waits until the files have been
//! quiet for a moment (editors write in pieces), and counts only if a text is
//! another one. It is compiled here first, with all that it requires: what does
//! not compile never reaches a shard, and every shard gets the same texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ringmain_config::{FlowPlan, LuaPlan, LuaSource, OperatorKind, OperatorPlan, Spanned};
use ringmain_shard::{CodeVersion, Looked, Setting, load_script};

use crate::start::{Flow, Running};

/// How long a file must be quiet.
const QUIET: Duration = Duration::from_millis(50);

/// How long the shards may take to say what became of a version, before nobody
/// waits for it any more.
const ANSWER: Duration = Duration::from_secs(10);

/// Notices that wait; one is enough to look at everything.
const NOTICES: usize = 64;

/// What the name of a file that may be required ends with.
const EXTENSION: &str = "lua";

struct Script {
    flow: usize,
    /// That flow's name.
    of: String,
    operator: usize,
    name: Spanned<String>,
    plan: LuaPlan,
    setting: Setting,
    /// Its own file; none when the code is in the flow's.
    path: Option<PathBuf>,
    /// The files that decide what is loaded, with the texts that were loaded or
    /// refused last.
    looked: Vec<Looked>,
}

/// What became of scripts that are not what they were.
#[derive(Default)]
pub(crate) struct Reloaded {
    /// Those that went on to the shards.
    pub passed_on: Vec<String>,
    /// Those that did not compile, and why.
    pub refused: Vec<String>,
}

/// Watches the scripts of all flows.
pub(crate) struct Scripts {
    scripts: Vec<Script>,
    notices: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Option<Instant>,
    /// Answers of shards that are expected, and until when.
    expected: Option<(usize, Instant)>,
}

impl Scripts {
    /// Begins to watch. Where that cannot be, SIGHUP still reloads. To be called
    /// before the shards read the scripts, so that no change falls in between.
    pub(crate) fn watch(flows: &[FlowPlan]) -> Self {
        let scripts: Vec<_> = flows.iter().enumerate().flat_map(|(at, f)| of_flow(at, f)).collect();
        let (send, notices) = sync_channel(NOTICES);
        let watcher = if scripts.iter().all(|script| script.looked.is_empty()) {
            None
        } else {
            // Other files of the folders may change all the time.
            let own: BTreeSet<PathBuf> = scripts.iter().filter_map(|s| s.path.clone()).collect();
            let names: BTreeSet<_> =
                own.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
            let on_event = move |event: notify::Result<notify::Event>| {
                let ours = |path: &PathBuf| {
                    path.extension().is_some_and(|e| e == EXTENSION)
                        || path.file_name().is_some_and(|n| names.contains(n))
                };
                if event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(ours)) {
                    // A full channel has a notice already.
                    let _ = send.try_send(());
                }
            };
            notify::recommended_watcher(on_event).map_err(|error| not_watched(&error)).ok()
        };
        let (watched, changed, expected) = (BTreeSet::new(), None, None);
        let mut all = Self { scripts, notices, watcher, watched, changed, expected };
        all.watch_folders();
        all
    }

    /// Flows have come, gone or changed. An operator that went on runs what it
    /// ran; what has changed since that was read is taken up.
    pub(crate) fn take_up(&mut self, running: &Running) {
        let plans: Vec<_> = running.flows.iter().map(|flow| FlowPlan::clone(&flow.plan)).collect();
        let mut before = std::mem::replace(self, Self::watch(&plans));
        self.expected = before.expected;
        for script in &mut self.scripts {
            let same = |old: &&mut Script| {
                (&old.of, &old.name, &old.plan) == (&script.of, &script.name, &script.plan)
            };
            let Some(old) = before.scripts.iter_mut().find(same) else { continue };
            script.looked = std::mem::take(&mut old.looked);
            if is_changed(&script.looked) {
                self.changed = Some(Instant::now());
            }
        }
    }

    /// Watches the folders of all files that were looked at, as far as they are
    /// there.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let files = self.scripts.iter().flat_map(|script| &script.looked);
        let folders: BTreeSet<_> = files.map(|(path, _)| folder(path)).collect();
        for folder in folders {
            if !self.watched.contains(&folder) && folder.is_dir() {
                match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                    Ok(()) => drop(self.watched.insert(folder)),
                    Err(error) => not_watched(&error),
                }
            }
        }
    }

    /// Looks whether scripts have changed, and passes new versions on. True
    /// when shards must be woken.
    pub(crate) fn tick(&mut self, flows: &[Flow]) -> bool {
        while self.notices.try_recv().is_ok() {
            self.changed = Some(Instant::now());
        }
        let answers = report(flows);
        self.expected = self.expected.and_then(|(count, until)| {
            let left = count.saturating_sub(answers);
            (left > 0 && Instant::now() < until).then_some((left, until))
        });
        if self.changed.is_some_and(|at| at.elapsed() >= QUIET) {
            self.changed = None;
            return self.reload(flows, None).is_any();
        }
        false
    }

    /// Whether a change waits for its moment of quiet, or for the shards.
    pub(crate) fn is_waiting(&self) -> bool {
        self.changed.is_some() || self.expected.is_some()
    }

    /// Loads what is not what it was; only one flow's, if that is named. Whoever
    /// calls wakes the shards when there was any.
    pub(crate) fn reload(&mut self, flows: &[Flow], only: Option<&str>) -> Reloaded {
        let (mut answers, mut reloaded) = (0, Reloaded::default());
        for script in &mut self.scripts {
            if only.is_some_and(|only| flows[script.flow].name != only) {
                continue;
            }
            // Gone for a moment while an editor replaces it, or for good: the
            // loaded version goes on either way.
            let gone = script.path.as_ref().is_some_and(|path| !path.exists());
            if gone || !is_changed(&script.looked) {
                continue;
            }
            let flow = &flows[script.flow];
            let (loaded, looked) = load_script(&script.name, &script.plan, &script.setting);
            script.looked = looked;
            match loaded {
                Err(error) => {
                    let (line, message) = (error.line, error.message);
                    let own = || script.path.clone().unwrap_or_default();
                    let path = error.file.unwrap_or_else(own);
                    let why = format!("{}:{line}: {message}", path.display());
                    let name = format!("{}.{}", flow.name, script.name);
                    tracing::error!("{name}: {why}; the old version goes on");
                    flow.control.refuse_script(script.operator, &why);
                    reloaded.refused.push(format!("{name}: {why}"));
                }
                Ok(code) => {
                    flow.control.replace_script(script.operator, code);
                    reloaded.passed_on.push(format!("{}.{}", flow.name, script.name));
                    answers += flow.parts;
                }
            }
        }
        self.watch_folders();
        if answers > 0 {
            let before = self.expected.map_or(0, |(count, _)| count);
            self.expected = Some((before + answers, Instant::now() + ANSWER));
        }
        reloaded
    }
}

impl Reloaded {
    pub(crate) fn is_any(&self) -> bool {
        !self.passed_on.is_empty()
    }
}

fn not_watched(error: &notify::Error) {
    tracing::warn!("scripts are not watched ({error}): reload them with SIGHUP");
}

fn is_changed(looked: &[Looked]) -> bool {
    looked
        .iter()
        .any(|(path, text)| std::fs::read_to_string(path).ok().as_deref() != text.as_deref())
}

fn of_flow(at: usize, plan: &FlowPlan) -> Vec<Script> {
    let setting = Setting::of(plan);
    let of = plan.name.value.clone();
    let operators = plan.operators.iter().enumerate();
    let script = |(operator, plan): (usize, &OperatorPlan)| {
        let OperatorKind::Lua(lua) = &plan.kind else { return None };
        let path = match &lua.source {
            LuaSource::Script(path) => Some(path.value.clone()),
            LuaSource::Inline(_) => None,
        };
        let (_, looked) = load_script(&plan.name, lua, &setting);
        let (name, setting, plan) = (plan.name.clone(), setting.clone(), lua.clone());
        Some(Script { flow: at, of: of.clone(), operator, name, plan, setting, path, looked })
    };
    operators.filter_map(script).collect()
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Tells people what the shards say; how many answers there were.
fn report(flows: &[Flow]) -> usize {
    let mut answers = 0;
    for flow in flows {
        for report in flow.control.take_reports() {
            answers += 1;
            let components = &flow.control.components;
            let name = &components[flow.first_operator + report.operator];
            let (flow, shard, version) = (&flow.name, report.shard, report.version);
            match report.result {
                Ok(()) => {
                    let swap_us = report.swap_us;
                    let code = report.code.map(|code| describe(&code)).unwrap_or_default();
                    tracing::info!(
                        "{flow}.{name}: version {version}{code} on shard {shard}, swapped in \
                         {swap_us} us"
                    );
                }
                Err(error) => tracing::error!(
                    "{flow}.{name}: version {version} on shard {shard}: {error}; the old version \
                     goes on"
                ),
            }
        }
    }
    answers
}

/// The hash of the text, and what the script calls itself.
fn describe(code: &CodeVersion) -> String {
    let own = code.version.as_ref().map(|own| format!(", calls itself {own}"));
    format!(" ({:016x}{})", code.hash, own.unwrap_or_default())
}
