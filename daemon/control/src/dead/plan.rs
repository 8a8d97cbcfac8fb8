//! The flow that puts letters back in: that of the user, with its sources
//! replaced by files of what is put in, and without what these do not reach.

use std::path::{Path, PathBuf};

use ringmain_base::limits::FRAME_BYTES_DEFAULT;
use ringmain_config::plan::{
    CsvDecode, DecodePlan, EncodePlan, FileMode, FileSink, FileSource, FileStart, FramePlan, Fsync,
    Input, ReadMode, Rotation, Segment, SinkKind, SinkPlan, SourceKind, SourcePlan, Template,
    WhenFull,
};
use ringmain_config::{FlowPlan, Spanned};

use super::letters::{Body, DeadError, Letter};

/// Letters that go in at one place in one form.
#[derive(Debug)]
pub(super) struct Group {
    /// The component at which they go in.
    pub at: String,
    /// The component whose bytes they are; `None` for messages.
    pub of: Option<String>,
    /// Frames, each with its length before it.
    pub bytes: Vec<u8>,
    longest: u32,
}

/// Sorts letters by where they go in.
pub(super) fn groups(
    flow: &FlowPlan,
    letters: &[&Letter],
    at: Option<&str>,
) -> Result<Vec<Group>, DeadError> {
    let mut groups: Vec<Group> = Vec::new();
    for letter in letters {
        let target = at.unwrap_or(&letter.component);
        if !flow.component_names().any(|name| name.value == target) {
            return Err(unknown(flow, target));
        }
        let (of, bytes) = match &letter.body {
            Body::Message(text) => (None, text.as_bytes()),
            Body::Raw(bytes) => (Some(letter.component.clone()), bytes.as_slice()),
        };
        let found = groups.iter_mut().position(|group| group.at == target && group.of == of);
        let found = found.unwrap_or_else(|| {
            let at = target.to_owned();
            groups.push(Group { at, of, bytes: Vec::new(), longest: 0 });
            groups.len() - 1
        });
        let group = &mut groups[found];
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        group.longest = group.longest.max(len);
        group.bytes.extend_from_slice(&len.to_be_bytes());
        group.bytes.extend_from_slice(bytes);
    }
    Ok(groups)
}

fn unknown(flow: &FlowPlan, name: &str) -> DeadError {
    let names: Vec<&str> = flow.component_names().map(|name| name.as_str()).collect();
    let (flow, names) = (&flow.name.value, names.join(", "));
    DeadError::Refused(format!(
        "the flow '{flow}' has no component '{name}'; name one with --at: {names}"
    ))
}

/// The flow for these groups, whose bytes are in `files`, with its refused
/// messages in `refused`.
pub(super) fn flow(
    flow: &FlowPlan,
    groups: &[Group],
    files: &[PathBuf],
    refused: &Path,
) -> FlowPlan {
    let mut plan = flow.clone();
    plan.tests.clear();
    plan.schedule = None;
    let names = source_names(flow, groups);
    let sources = groups.iter().zip(files).zip(&names);
    plan.sources = sources.map(|((group, file), name)| source(flow, group, file, name)).collect();
    let put_in = |at: &str| -> Vec<Input> {
        let mine = groups.iter().zip(&names).filter(|(group, _)| group.at == at);
        mine.map(|(_, name)| input(name)).collect()
    };
    let reached = reached(flow, groups);
    let inputs = |name: &str, inputs: &[Input]| -> Vec<Input> {
        let mut all = put_in(name);
        for old in inputs {
            match flow.sources.iter().any(|s| s.name.value == old.component.value) {
                true => all.extend(put_in(&old.component)),
                false if reached.contains(&old.component.value) => all.push(old.clone()),
                false => {}
            }
        }
        all
    };
    plan.operators.retain(|operator| reached.contains(&operator.name.value));
    for operator in &mut plan.operators {
        operator.inputs = inputs(&operator.name, &operator.inputs);
    }
    plan.sinks.retain(|sink| reached.contains(&sink.name.value));
    for sink in &mut plan.sinks {
        sink.inputs = inputs(&sink.name, &sink.inputs);
        careful(sink);
    }
    plan.dead_letters = Some(letters_sink(refused));
    plan
}

/// A source's letters go in under its name, so that what it refuses again has
/// it; the others have names that no component can have.
fn source_names(flow: &FlowPlan, groups: &[Group]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for group in groups {
        let own =
            flow.sources.iter().any(|s| s.name.value == group.at) && !names.contains(&group.at);
        let name = if own { group.at.clone() } else { format!("replay {}", names.len() + 1) };
        names.push(name);
    }
    names
}

fn input(name: &str) -> Input {
    Input { component: spanned(name.to_owned()), port: None, bound: None }
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Default::default())
}

fn source(flow: &FlowPlan, group: &Group, file: &Path, name: &str) -> SourcePlan {
    let paths = vec![spanned(glob_of(file))];
    let kind = SourceKind::File(FileSource {
        paths,
        mode: ReadMode::Read,
        start: FileStart::Beginning,
        poll_us: 1_000_000,
    });
    let mut plan = SourcePlan::new(spanned(name.to_owned()), kind);
    plan.decode = decode_of(flow, group);
    plan.frame = FramePlan::U32;
    plan.frame_bytes = group.longest.max(FRAME_BYTES_DEFAULT);
    plan
}

/// A path is a glob; its own characters mean themselves.
fn glob_of(file: &Path) -> String {
    let mut text = String::new();
    for c in file.to_string_lossy().chars() {
        match c {
            '?' | '*' | '[' | ']' => text.extend(['[', c, ']']),
            c => text.push(c),
        }
    }
    text
}

/// What the bytes of a group are.
pub(super) fn decode_of(flow: &FlowPlan, group: &Group) -> DecodePlan {
    group.of.as_deref().map_or(DecodePlan::Json, |of| decode(flow, of))
}

/// What the bytes of a component are.
fn decode(flow: &FlowPlan, name: &str) -> DecodePlan {
    if let Some(source) = flow.sources.iter().find(|s| s.name.value == name) {
        // The names of the columns stood at the beginning of the file.
        return match &source.decode {
            DecodePlan::Csv(csv) if !csv.columns.is_empty() => {
                DecodePlan::Csv(CsvDecode { header: false, ..csv.clone() })
            }
            decode => decode.clone(),
        };
    }
    let sink = flow.sinks.iter().find(|s| s.name.value == name);
    match sink.map(|sink| &sink.encode) {
        Some(EncodePlan::Csv { columns, delimiter, .. }) => DecodePlan::Csv(CsvDecode {
            header: false,
            columns: columns.clone(),
            delimiter: *delimiter,
            ..CsvDecode::default()
        }),
        Some(EncodePlan::Text) => DecodePlan::Text,
        _ => DecodePlan::Json,
    }
}

/// Everything that messages come to from where they go in.
fn reached(flow: &FlowPlan, groups: &[Group]) -> Vec<String> {
    let mut reached: Vec<String> = Vec::new();
    let mut open: Vec<String> = groups.iter().map(|group| group.at.clone()).collect();
    while let Some(name) = open.pop() {
        if reached.contains(&name) {
            continue;
        }
        let operators = flow.operators.iter().map(|o| (&o.name, &o.inputs));
        let readers = operators.chain(flow.sinks.iter().map(|s| (&s.name, &s.inputs)));
        let reads = |inputs: &[Input]| inputs.iter().any(|i| i.component.value == name);
        open.extend(readers.filter(|(_, i)| reads(i)).map(|(name, _)| name.value.clone()));
        reached.push(name);
    }
    reached
}

/// What a sink does only in a run of its own it does not do here: empty its
/// file, keep messages for later.
fn careful(sink: &mut SinkPlan) {
    if let SinkKind::File(file) = &mut sink.kind {
        file.mode = FileMode::Append;
    }
    sink.when_full = spanned(WhenFull::Block);
    sink.spill = None;
}

fn letters_sink(path: &Path) -> SinkPlan {
    let text = path.to_string_lossy().into_owned();
    let path = Template { text: spanned(text.clone()), segments: vec![Segment::Literal(text)] };
    SinkPlan {
        name: spanned("dead_letters".to_owned()),
        inputs: Vec::new(),
        encode: EncodePlan::Json,
        frame: FramePlan::Newline,
        when_full: spanned(WhenFull::Block),
        spill: None,
        buffer_bytes: 1 << 20,
        kind: SinkKind::File(FileSink {
            path,
            mode: FileMode::Append,
            rotate: Rotation::default(),
            fsync: Fsync::Always,
        }),
    }
}
