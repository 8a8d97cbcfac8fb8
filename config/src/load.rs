//! Files to a plan.

use std::path::{Path, PathBuf};

use crate::check;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::{self, DaemonFile, ParsedFlow};
use crate::plan::{FlowPlan, Plan, TokenPlan};
use crate::section::Context;
use crate::span::{FileId, SourceFile, Span, Spanned};
use crate::value::{self, Table};

/// Loads flow files (or folders of them) and the daemon's own file.
///
/// Without `files` the globs in the daemon's file name the flows. A file among
/// `files` that is a daemon's file is taken as one, when none is given.
///
/// # Errors
/// Every error of every file, with the warnings.
pub fn load(files: &[PathBuf], daemon_file: Option<&Path>) -> Result<Plan, Diagnostics> {
    load_with(files, daemon_file, |_, _| ())
}

/// The same with a check by a floor above, which knows what this one does not
/// (whether expressions compile). It sees every flow that could be read, also
/// when something else is wrong, so that all errors are told at once.
///
/// # Errors
/// Every error of every file, with the warnings.
pub fn load_with(
    files: &[PathBuf],
    daemon_file: Option<&Path>,
    check: impl Fn(&FlowPlan, &mut Diagnostics) + 'static,
) -> Result<Plan, Diagnostics> {
    let mut loader = Loader::new();
    loader = loader.check(check);
    if let Some(path) = daemon_file {
        loader = loader.daemon(path);
    }
    files.iter().fold(loader, Loader::file).load()
}

/// The same for flows that are about to run, which need of the daemon what a
/// flow alone does not say (a folder for messages that wait).
///
/// # Errors
/// Every error of every file, with the warnings.
pub fn load_to_run(
    files: &[PathBuf],
    daemon_file: Option<&Path>,
    check: impl Fn(&FlowPlan, &mut Diagnostics) + 'static,
) -> Result<Plan, Diagnostics> {
    let mut loader = Loader::new().to_run();
    loader.check = Box::new(check);
    if let Some(path) = daemon_file {
        loader = loader.daemon(path);
    }
    files.iter().fold(loader, Loader::file).load()
}

/// Loads one flow from text, as if it stood in a file of that name in the
/// working directory.
///
/// # Errors
/// Every error, with the warnings.
pub fn load_str(name: &str, text: &str) -> Result<Plan, Diagnostics> {
    Loader::new().text(name, text).load()
}

/// The name that a flow's text gives it; nothing else of it is looked at.
#[must_use]
pub fn flow_name(text: &str) -> Option<String> {
    let table = value::parse(FileId(u32::MAX), text, &mut Diagnostics::default())?;
    match &table.get("name")?.value {
        value::Value::String(name) => Some(name.clone()),
        _ => None,
    }
}

/// Loads a file of tokens, as `auth` of [api] does.
///
/// # Errors
/// Every error of the file.
pub fn load_auth(path: &Path) -> Result<Vec<TokenPlan>, Diagnostics> {
    let env: Env = Box::new(|name| std::env::var(name).ok());
    let mut run = Run::new(&*env);
    let tokens = run.auth_file(path);
    if run.cx.out.has_errors() { Err(run.cx.out) } else { Ok(tokens) }
}

type Env = Box<dyn Fn(&str) -> Option<String>>;
type Check = Box<dyn Fn(&FlowPlan, &mut Diagnostics)>;

/// What to load, and from which environment.
pub struct Loader {
    inputs: Vec<Given>,
    globs: bool,
    daemon: Option<PathBuf>,
    env: Env,
    check: Check,
    to_run: bool,
}

enum Given {
    File(PathBuf),
    Text(String, String),
    /// As if the file of that path held the text.
    TextAt(PathBuf, String),
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// Nothing yet, with the environment of the process.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inputs: Vec::new(),
            globs: false,
            daemon: None,
            env: Box::new(|name| std::env::var(name).ok()),
            check: Box::new(|_, _| ()),
            to_run: false,
        }
    }

    /// Another environment for `${NAME}`.
    #[must_use]
    pub fn env(mut self, lookup: impl Fn(&str) -> Option<String> + 'static) -> Self {
        self.env = Box::new(lookup);
        self
    }

    /// Adds a flow file, or a folder whose `*.toml` are flows.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.inputs.push(Given::File(path.as_ref().to_path_buf()));
        self
    }

    /// Adds a flow from text.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.inputs.push(Given::Text(name.to_owned(), text.to_owned()));
        self
    }

    /// Adds a flow from text, as if it stood in that file.
    #[must_use]
    pub fn text_at(mut self, path: &Path, text: &str) -> Self {
        self.inputs.push(Given::TextAt(path.to_owned(), text.to_owned()));
        self
    }

    /// Adds the flows that the daemon's file names, beside what is given.
    #[must_use]
    pub fn globs(mut self) -> Self {
        self.globs = true;
        self
    }

    /// A check by a floor above; see [`load_with`].
    #[must_use]
    pub fn check(mut self, check: impl Fn(&FlowPlan, &mut Diagnostics) + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Names the daemon's file.
    #[must_use]
    pub fn daemon(mut self, path: impl AsRef<Path>) -> Self {
        self.daemon = Some(path.as_ref().to_path_buf());
        self
    }

    /// What is loaded is about to run; see [`load_to_run`].
    #[must_use]
    pub fn to_run(mut self) -> Self {
        self.to_run = true;
        self
    }

    /// Loads everything.
    ///
    /// # Errors
    /// Every error of every file, with the warnings.
    pub fn load(self) -> Result<Plan, Diagnostics> {
        let mut run = Run::new(&*self.env);
        if let Some(path) = &self.daemon {
            run.daemon_file(path);
        }
        for given in &self.inputs {
            match given {
                Given::File(path) => run.path(path),
                Given::Text(name, text) => run.text(name, text, None),
                Given::TextAt(path, text) => {
                    run.text(&path.display().to_string(), text, Some(path))
                }
            }
        }
        if self.inputs.is_empty() || self.globs {
            run.globs();
        }
        run.finish(&self.check, self.to_run)
    }
}

/// A load under way.
struct Run<'e> {
    cx: Context<'e>,
    daemon: Option<(DaemonFile, PathBuf)>,
    daemon_failed: bool,
    flows: Vec<ParsedFlow>,
    /// Files that were read, by their real paths: naming one twice, or it and
    /// its folder, is no mistake.
    seen: Vec<PathBuf>,
}

impl<'e> Run<'e> {
    fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        let cx = Context { out: Diagnostics::default(), env };
        Self { cx, daemon: None, daemon_failed: false, flows: Vec::new(), seen: Vec::new() }
    }

    fn path(&mut self, path: &Path) {
        if !path.is_dir() {
            return self.flow_file(path);
        }
        let Some(files) = self.folder(path) else { return };
        if files.is_empty() {
            let message = format!("{}: there is no *.toml in this folder", path.display());
            self.cx.push(Diagnostic::general(message));
        }
        for file in files {
            self.flow_file(&file);
        }
    }

    /// The flow files in a folder, in the order of their names.
    fn folder(&mut self, path: &Path) -> Option<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = match std::fs::read_dir(path) {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
            Err(error) => {
                self.unreadable(path, &error);
                return None;
            }
        };
        files.retain(|p| p.extension().is_some_and(|e| e == "toml") && p.is_file());
        files.sort();
        Some(files)
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let message = format!("{}: cannot be read: {}", path.display(), plain(error));
        self.cx.push(Diagnostic::general(message).help(match error.kind() {
            std::io::ErrorKind::NotFound => {
                "check the path; it is relative to the working directory"
            }
            std::io::ErrorKind::PermissionDenied => "let the daemon's user read it",
            _ => "it must be a file that the daemon's user can read",
        }));
    }

    fn read(&mut self, path: &Path) -> Option<FileId> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.unreadable(path, &error);
                return None;
            }
        };
        let name = path.display().to_string();
        let path = Some(path.to_path_buf());
        // Up to the first bad byte the replaced text has the same positions.
        let bad = std::str::from_utf8(&bytes).err().map(|e| e.valid_up_to());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let file = self.cx.out.add_file(SourceFile { name, path, text });
        let Some(bad) = bad else { return Some(file) };
        let byte = bytes[bad];
        self.cx.push(
            Diagnostic::error(
                Span::new(file, bad, bad + 1),
                format!("not valid TOML: the byte 0x{byte:02x} is not UTF-8"),
            )
            .help("save the file in UTF-8"),
        );
        None
    }

    fn parse(&mut self, file: FileId) -> Option<Table> {
        let sources = self.cx.out.sources().clone();
        value::parse(file, &sources.get(file)?.text, &mut self.cx.out)
    }

    /// Whether the file was read before.
    fn again(&mut self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        let again = self.seen.contains(&real);
        if !again {
            self.seen.push(real);
        }
        again
    }

    fn flow_file(&mut self, path: &Path) {
        if self.again(path) {
            return;
        }
        let Some(file) = self.read(path) else { return };
        let Some(table) = self.parse(file) else { return };
        if is_daemon_file(&table) {
            return self.daemon_table(path, file, &table);
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let base_dir = parent.unwrap_or(Path::new("."));
        self.flows.push(parse::flow(&mut self.cx, file, &stem, base_dir, &table));
    }

    fn text(&mut self, name: &str, text: &str, path: Option<&Path>) {
        let path_of = path.map(Path::to_path_buf);
        let added = SourceFile { name: name.to_owned(), path: path_of, text: text.to_owned() };
        let file = self.cx.out.add_file(added);
        let Some(table) = self.parse(file) else { return };
        let stem = Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned());
        let stem = stem.unwrap_or_default();
        let base_dir = path.and_then(Path::parent).filter(|p| !p.as_os_str().is_empty());
        let base_dir = base_dir.unwrap_or(Path::new("."));
        self.flows.push(parse::flow(&mut self.cx, file, &stem, base_dir, &table));
    }

    fn daemon_file(&mut self, path: &Path) {
        self.daemon_failed = true;
        self.again(path);
        let Some(file) = self.read(path) else { return };
        let Some(table) = self.parse(file) else { return };
        self.daemon_table(path, file, &table);
    }

    fn daemon_table(&mut self, path: &Path, file: FileId, table: &Table) {
        if self.daemon.is_some() {
            let span = Span::new(file, 0, 0);
            let message = "a second daemon's file: there can be only one";
            self.cx.push(Diagnostic::error(span, message).help("give flow files beside it"));
            return;
        }
        let mut parsed = parse::daemon(&mut self.cx, file, table);
        self.daemon_failed = parsed.is_none();
        if let Some(daemon) = &mut parsed
            && let Some(auth) = &daemon.api.auth
        {
            daemon.api.tokens = self.auth_file(Path::new(&auth.value));
        }
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        self.daemon = parsed.map(|daemon| (daemon, base));
    }

    fn auth_file(&mut self, path: &Path) -> Vec<TokenPlan> {
        let Some(file) = self.read(path) else { return Vec::new() };
        let Some(table) = self.parse(file) else { return Vec::new() };
        parse::auth(&mut self.cx, file, &table)
    }

    /// Loads the flows that the daemon's file names.
    fn globs(&mut self) {
        let Some((daemon, base)) = &self.daemon else { return };
        let (globs, base) = (daemon.daemon.flows.clone(), base.clone());
        for pattern in &globs {
            for path in self.glob(pattern, &base) {
                self.flow_file(&path);
            }
        }
    }

    fn glob(&mut self, pattern: &Spanned<String>, base: &Path) -> Vec<PathBuf> {
        // Only the pattern has wildcards; a folder may be called "[x]".
        let base = glob::Pattern::escape(&base.to_string_lossy());
        let whole = Path::new(&base).join(&pattern.value);
        match glob::glob(&whole.to_string_lossy()) {
            Ok(paths) => {
                let (folders, mut found): (Vec<_>, Vec<_>) =
                    paths.filter_map(Result::ok).partition(|path| path.is_dir());
                for folder in &folders {
                    found.extend(self.folder(folder).unwrap_or_default());
                }
                if found.is_empty() && !folders.is_empty() {
                    let message = format!("there is no *.toml in '{pattern}' yet");
                    self.cx.push(Diagnostic::warning(pattern.span, message));
                } else if found.is_empty() {
                    let message = format!("no file matches '{pattern}'");
                    self.cx.push(
                        Diagnostic::warning(pattern.span, message)
                            .help("globs in 'flows' are relative to this file"),
                    );
                }
                found
            }
            Err(error) => {
                let message =
                    format!("'flows' of [daemon]: '{pattern}' is not a glob: {}", error.msg);
                self.cx.push(Diagnostic::error(pattern.span, message));
                Vec::new()
            }
        }
    }

    fn finish(mut self, check: &Check, to_run: bool) -> Result<Plan, Diagnostics> {
        if self.daemon.is_none() && !self.daemon_failed {
            let file = FileId(u32::MAX);
            let parsed = parse::daemon(&mut self.cx, file, &Table::default());
            self.daemon = parsed.map(|daemon| (daemon, PathBuf::new()));
        }
        let api = self.daemon.as_ref().and_then(|(daemon, _)| daemon.api.listen.as_ref());
        // Without a budget nothing can be said about it.
        let memory = self.daemon.as_ref().map_or(u64::MAX, |(d, _)| d.shards.memory_bytes);
        check::all(&mut self.cx.out, &self.flows, api, memory);
        let data_dir = self.daemon.as_ref().map(|(d, _)| d.daemon.data_dir.is_some());
        if to_run && data_dir == Some(false) {
            self.flows.iter().for_each(|flow| check::data_dir(&mut self.cx.out, flow));
        }
        for flow in &self.flows {
            check(&flow.plan, &mut self.cx.out);
        }
        let Some((daemon, _)) = self.daemon.filter(|_| !self.cx.out.has_errors()) else {
            return Err(self.cx.out);
        };
        for flow in &mut self.flows {
            parse::name_clients(&mut flow.plan, &daemon.daemon.name);
        }
        Ok(Plan {
            daemon: daemon.daemon,
            shards: daemon.shards,
            api: daemon.api,
            metrics: daemon.metrics,
            log: daemon.log,
            flows: self.flows.into_iter().map(|f| f.plan).collect(),
            sources: self.cx.out.sources().clone(),
            warnings: self.cx.out,
        })
    }
}

/// A daemon's file has only tables that no flow has.
fn is_daemon_file(table: &Table) -> bool {
    let own = |key: &str| crate::schema::ROOT.key(key).is_some();
    table.keys().any(own) && !table.keys().any(|k| crate::schema::FLOW.key(k).is_some())
}

/// The system's words without the number that Rust adds.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}
