//! Everything that can be known to be wrong before anything is started.

use std::path::{Path, PathBuf};

use ringmain_base::units::format_bytes;
use ringmain_config::{
    CoresSpec, Diagnostic, Diagnostics, FlowPlan, Loader, Plan, SourceFile, Span, Spanned,
    load_to_run,
};
use ringmain_runtime::cores;
use ringmain_shard::{OperatorError, Setting, compile, memory_bytes, slow_parts};
use ringmain_slab::SharedSchema;

use crate::definitions::Definitions;

/// A plan that may be run.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The cores that carry shards, in the order of the shards.
    pub cores: Vec<usize>,
    /// Warnings, rendered with their files.
    pub warnings: Diagnostics,
    /// Bytes that slabs may grow by: what the pools leave of the budget.
    pub growth_bytes: u64,
    /// Where it was read.
    pub given: Given,
}

/// Where the configuration was read, to read it again.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Flow files, or folders of them.
    pub files: Vec<PathBuf>,
    /// The daemon's own file.
    pub daemon_file: Option<PathBuf>,
}

/// Loads and checks.
///
/// # Errors
/// Every error that was found, in every file, with the warnings.
pub fn prepare(files: &[PathBuf], daemon_file: Option<&Path>) -> Result<Prepared, Diagnostics> {
    let given = Given { files: files.to_vec(), daemon_file: daemon_file.map(Path::to_path_buf) };
    let plan = load_to_run(files, daemon_file, operators)?;
    let kept = match &plan.daemon.data_dir {
        // Flows that were put in over the API come back with it.
        Some(dir) if plan.api.listen.is_some() => Definitions::at(dir).deployed(),
        _ => Vec::new(),
    };
    if kept.is_empty() {
        return finish(plan, given);
    }
    let loader = given.loader(plan.flows.is_empty());
    finish(add(loader, &kept).load()?, given)
}

/// The same for flows that are given as texts, with the daemon's settings.
pub(crate) fn prepare_texts(
    given: &Given,
    texts: &[(PathBuf, String)],
) -> Result<Prepared, Diagnostics> {
    let loader = Given { files: Vec::new(), ..given.clone() }.loader(true);
    finish(add(loader, texts).load()?, given.clone())
}

fn add(loader: Loader, texts: &[(PathBuf, String)]) -> Loader {
    texts.iter().fold(loader, |loader, (path, text)| loader.text_at(path, text))
}

impl Given {
    /// With the globs of the daemon's file, unless there are `no_files`.
    fn loader(&self, no_files: bool) -> Loader {
        let mut loader = Loader::new().check(operators).to_run();
        if let Some(path) = &self.daemon_file {
            loader = loader.daemon(path);
        }
        match (self.files.is_empty(), no_files) {
            (true, false) => loader.globs(),
            _ => self.files.iter().fold(loader, Loader::file),
        }
    }
}

fn finish(plan: Plan, given: Given) -> Result<Prepared, Diagnostics> {
    let mut found = plan.warnings.clone();
    if plan.flows.is_empty() && plan.api.listen.is_none() {
        found.push(Diagnostic::general("there is no flow to run").help(
            "name flow files on the command line, or in `flows` of [daemon] in the daemon's file",
        ));
    }
    let cores = resolve_cores(&plan, &mut found);
    let growth_bytes = memory(&plan, cores.len(), &mut found);
    if found.has_errors() {
        return Err(found);
    }
    Ok(Prepared { plan, cores, warnings: found, growth_bytes, given })
}

/// Compiles every expression and script, to throw the result away.
pub(crate) fn operators(flow: &FlowPlan, found: &mut Diagnostics) {
    let schema = SharedSchema::new();
    for key in flow.partition.iter().flat_map(|partition| &partition.key) {
        if schema.intern(&key.value).is_err() {
            let message = format!("'{}' is one key field too many, or too long", key.value);
            found.push(Diagnostic::error(key.span, message));
        }
    }
    let setting = Setting::of(flow);
    for operator in &flow.operators {
        if let Err(error) = compile(operator, &setting, &schema) {
            let name = operator.name.as_str();
            let message = format!("operator '{name}': {}", error.message);
            let span = place(&error, found);
            found.push(Diagnostic::error(span, message));
        }
        for (slow, help) in slow_parts(operator) {
            let span = place(&slow, found);
            let message = format!("operator '{}': {}", operator.name, slow.message);
            found.push(Diagnostic::warning(span, message).help(help));
        }
    }
    crate::flow_test::check(flow, found);
}

/// The character that the compiler stumbled over; in a script, the line.
pub(crate) fn place(error: &OperatorError, found: &mut Diagnostics) -> Span {
    let code = &error.code;
    if let Some(path) = &error.file {
        let (name, text) = (path.display().to_string(), code.value.clone());
        let len = text.len();
        let file = found.add_file(SourceFile { name, path: Some(path.clone()), text });
        let whole = Spanned::new(code.value.clone(), Span::new(file, 0, len));
        return found.sources().line_inside(&whole, error.line);
    }
    if code.contains('\n') {
        return found.sources().line_inside(code, error.line);
    }
    let at = code.char_indices().nth(error.column.saturating_sub(1));
    let start = at.map_or(code.len(), |(at, _)| at);
    let len = at.map_or(0, |(_, c)| c.len_utf8());
    found.sources().inside(code, start..start + len)
}

fn resolve_cores(plan: &Plan, found: &mut Diagnostics) -> Vec<usize> {
    let spec = &plan.shards.cores;
    let asked = match &spec.value {
        CoresSpec::Auto => cores::Cores::Auto,
        CoresSpec::List(list) => cores::Cores::List(list.iter().map(|c| usize::from(*c)).collect()),
    };
    match cores::resolve(&asked) {
        Ok(cores) => cores,
        Err(error) => {
            found.push(Diagnostic::error(spec.span, error.to_string()));
            vec![0]
        }
    }
}

/// What all pools take, against the budget.
fn memory(plan: &Plan, shards: usize, found: &mut Diagnostics) -> u64 {
    let slab_bytes = plan.shards.slab_bytes as usize;
    let need = |flow: &FlowPlan| memory_bytes(flow, shards, slab_bytes);
    let sum: u64 = plan.flows.iter().map(need).sum();
    let budget = plan.shards.memory_bytes;
    if sum > budget {
        let message = format!(
            "the flows need {} for their queues and buffers on {shards} shards, and [shards] \
             memory is {}",
            format_bytes(sum),
            format_bytes(budget)
        );
        let help = "raise `memory`, lower `slab` (the size of a batch), or use fewer `cores` in \
                    [shards] of the daemon's file";
        found.push(Diagnostic::general(message).help(help));
    }
    budget.saturating_sub(sum)
}
