//! The configuration's flows, read again: what differs, and when to look.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ringmain_base::Clock;
use ringmain_config::{Diagnostics, FlowPlan, Plan, diff as flow_diff};

use crate::change::Want;
use crate::check::{Given, Prepared, prepare};
use crate::definitions::Definitions;
use crate::desk::Failure;
use crate::view::{FlowView, View};

/// How long the files must be quiet.
const QUIET: Duration = Duration::from_millis(100);

/// Notices that wait; one is enough to look at everything.
const NOTICES: usize = 64;

/// Shows every flow of a plan, and those that are kept and do not run.
pub(crate) fn show(prepared: &Prepared, view: &View) {
    for plan in &prepared.plan.flows {
        view.put(definition(&prepared.plan, plan, view));
    }
    let Some(kept) = kept(&prepared.plan) else { return };
    for name in kept.names().into_iter().filter(|name| view.flow(name).is_none()) {
        let Ok(state) = kept.state(&name) else { continue };
        let Ok(text) = kept.text(&name, state.version) else { continue };
        let texts = [(kept.path(&name), text)];
        match crate::check::prepare_texts(&prepared.given, &texts) {
            Ok(alone) => {
                for plan in &alone.plan.flows {
                    let shelved = plan.schedule.is_some();
                    view.put(FlowView { shelved, ..definition(&alone.plan, plan, view) });
                }
            }
            Err(errors) => tracing::error!("flow '{name}' is kept, and is refused:\n{errors}"),
        }
    }
}

/// Where flows are kept that were put in over the API.
pub(crate) fn kept(plan: &Plan) -> Option<Definitions> {
    let dir = plan.daemon.data_dir.as_ref().filter(|_| plan.api.listen.is_some());
    dir.map(|dir| Definitions::at(dir))
}

/// A flow as it is shown before it runs.
pub(crate) fn definition(of: &Plan, plan: &FlowPlan, view: &View) -> FlowView {
    let source = of.sources.get(plan.file);
    let file = source.and_then(|source| source.path.clone());
    let kept = kept(of);
    let kept = kept.filter(|kept| file.as_deref().is_some_and(|file| kept.owns(file)));
    let state = kept.as_ref().and_then(|kept| kept.state(plan.name.as_str()).ok());
    let by = state.and_then(|state| Some(state.versions.last()?.creator.clone()));
    let at_rest = FlowView::at_rest(Arc::new(plan.clone()), view.clock.now());
    FlowView {
        text: source.map_or("", |source| &source.text).into(),
        file,
        kept: kept.is_some(),
        creator: by.unwrap_or_else(|| "configuration".into()),
        ..at_rest
    }
}

/// Every error as `check` prints it.
pub(crate) fn rendered(errors: &Diagnostics) -> Vec<String> {
    errors.sorted().into_iter().map(|error| errors.render(error).trim_end().to_owned()).collect()
}

/// What has to be done so that the configuration's flows run as they are
/// written now. Those that were put in over the API are left alone, those that
/// were stopped stay so.
pub(crate) fn diff(given: &Given, view: &View) -> Result<Vec<(String, Want)>, Failure> {
    let read = prepare(&given.files, given.daemon_file.as_deref());
    let read = read.map_err(|errors| Failure { rolled_back: false, errors: rendered(&errors) })?;
    let mut wanted = Vec::new();
    for plan in &read.plan.flows {
        let name = plan.name.value.clone();
        let new = definition(&read.plan, plan, view);
        if new.kept {
            continue;
        }
        let want = || Want::Run(new.plan.clone());
        match view.flow(&name) {
            None if plan.schedule.is_some() => {}
            None => wanted.push((name, want())),
            Some(old) if old.kept => {
                let error = format!("there is a flow '{name}' already, put in over the API");
                return Err(Failure::new(error));
            }
            Some(old) if !flow_diff(&old.plan, plan).is_empty() => {
                if old.at_work() > 0 || !old.control.errors().is_empty() {
                    wanted.push((name, want()));
                }
            }
            Some(_) => {}
        }
        view.put(new);
    }
    let names: BTreeSet<_> = read.plan.flows.iter().map(|plan| plan.name.as_str()).collect();
    let flows = view.flows();
    let gone = flows.iter().filter(|flow| !flow.kept && !names.contains(flow.name()));
    wanted.extend(gone.map(|flow| (flow.name().to_owned(), Want::Delete)));
    Ok(wanted)
}

/// Notices changes of flow files.
pub(crate) struct Files {
    notices: Option<Receiver<()>>,
    /// Kept: dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    changed: Option<Instant>,
}

impl Files {
    /// Nothing is watched.
    pub(crate) fn none() -> Self {
        Self { notices: None, _watcher: None, changed: None }
    }

    /// Begins to watch the folders of flow files. Where that cannot be, SIGHUP
    /// and the API still reload.
    pub(crate) fn watch(prepared: &Prepared) -> Self {
        let folders = folders(prepared);
        let (send, notices) = sync_channel(NOTICES);
        let on_event = move |event: notify::Result<notify::Event>| {
            let flow = |path: &PathBuf| path.extension().is_some_and(|e| e == "toml");
            if event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(flow)) {
                // A full channel has a notice already.
                let _ = send.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            folders.iter().try_for_each(|f| watcher.watch(f, RecursiveMode::NonRecursive))?;
            Ok(watcher)
        });
        let watcher = watcher.map_err(|error| {
            tracing::warn!("flow files are not watched ({error}): reload them with SIGHUP");
        });
        Self { notices: Some(notices), _watcher: watcher.ok(), changed: None }
    }

    /// True when files have changed and are quiet now.
    pub(crate) fn tick(&mut self) -> bool {
        let Some(notices) = &self.notices else { return false };
        while notices.try_recv().is_ok() {
            self.changed = Some(Instant::now());
        }
        let quiet = self.changed.is_some_and(|at| at.elapsed() >= QUIET);
        if quiet {
            self.changed = None;
        }
        quiet
    }

    /// Whether a change waits for its moment of quiet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.changed.is_some()
    }
}

fn folders(prepared: &Prepared) -> BTreeSet<PathBuf> {
    let given = &prepared.given;
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !given.files.is_empty() {
        let folder = |file: &PathBuf| if file.is_dir() { file.clone() } else { parent(file) };
        return given.files.iter().map(folder).collect();
    }
    let base = given.daemon_file.as_deref().map(parent).unwrap_or_default();
    let globs = prepared.plan.daemon.flows.iter();
    // The folder itself, or that before the first wildcard.
    let plain = |glob: &str| glob.split(['*', '?', '[']).next().unwrap_or("").to_owned();
    let folders = globs.map(|glob| {
        let whole = base.join(&glob.value);
        if whole.is_dir() {
            return whole;
        }
        let start = plain(glob);
        let folder = start.rsplit_once('/').map_or("", |(folder, _)| folder);
        base.join(folder)
    });
    folders.filter(|folder| folder.is_dir()).collect()
}
