//! The daemon's own file.

use std::path::PathBuf;

use super::net;
use crate::diagnostics::Diagnostic;
use crate::plan::{
    ApiPlan, CoresSpec, DaemonPlan, Listen, LogFormat, LogLevel, LogPlan, MetricsPlan, ShardsPlan,
    TlsPlan,
};
use crate::schema::{self, Schema};
use crate::section::{Context, Section};
use crate::span::{FileId, Span, Spanned};
use crate::value::Table;

/// What the daemon's file says, every table with its defaults.
#[derive(Debug)]
pub(crate) struct DaemonFile {
    pub(crate) daemon: DaemonPlan,
    pub(crate) shards: ShardsPlan,
    pub(crate) api: ApiPlan,
    pub(crate) metrics: MetricsPlan,
    pub(crate) log: LogPlan,
}

/// Reads the daemon's file; an empty table gives the defaults. `None` only when
/// something was reported.
pub(crate) fn daemon(cx: &mut Context<'_>, file: FileId, table: &Table) -> Option<DaemonFile> {
    let top = Span::new(file, 0, 0);
    let root = Section::open(cx, table, &schema::ROOT, "the daemon's file", top, None);
    let daemon = sub(cx, &root, "daemon", &schema::DAEMON, "[daemon]", daemon_table);
    let shards = sub(cx, &root, "shards", &schema::SHARDS, "[shards]", shards);
    let api = sub(cx, &root, "api", &schema::API, "[api]", api);
    let metrics = sub(cx, &root, "metrics", &schema::METRICS, "[metrics]", metrics);
    let log = sub(cx, &root, "log", &schema::LOG, "[log]", log);
    Some(DaemonFile { daemon: daemon?, shards: shards?, api: api?, metrics: metrics?, log: log? })
}

/// Opens a table of the root, or an empty one in its place.
fn sub<T>(
    cx: &mut Context<'_>,
    root: &Section<'_>,
    key: &str,
    schema: &'static Schema,
    what: &str,
    read: impl FnOnce(&mut Context<'_>, &Section<'_>) -> Option<T>,
) -> Option<T> {
    let empty = Table::default();
    let (table, span) = match root.table(cx, key) {
        Some(found) => found,
        None if root.has(key) => return None,
        None => (&empty, root.span),
    };
    let section = Section::open(cx, table, schema, what, span, None);
    read(cx, &section)
}

fn daemon_table(cx: &mut Context<'_>, section: &Section<'_>) -> Option<DaemonPlan> {
    let name = section.filled(cx, "name");
    let data_dir = if section.has("data_dir") {
        section.filled(cx, "data_dir").map(|d| Some(PathBuf::from(d.value)))
    } else {
        Some(None)
    };
    let flows = section.texts(cx, "flows");
    let checkpoint_every_us = section.time(cx, "checkpoint_every");
    Some(DaemonPlan {
        name: name?.value,
        data_dir: data_dir?,
        checkpoint_every_us: checkpoint_every_us?,
        flows: flows?,
    })
}

fn shards(cx: &mut Context<'_>, section: &Section<'_>) -> Option<ShardsPlan> {
    let cores = cores(cx, section);
    let memory = section.size(cx, "memory");
    let slab = section.size(cx, "slab");
    let linger = section.time(cx, "linger");
    let (memory_bytes, slab_bytes) = (memory?, slab?);
    // Fewer than this many slabs cannot fill even one flow's edges.
    const SLABS_MIN: u64 = 64;
    if slab_bytes * SLABS_MIN > memory_bytes {
        let message =
            format!("'slab' of [shards] is too large for 'memory': fewer than {SLABS_MIN} fit");
        let span = section.span_of(if section.has("slab") { "slab" } else { "memory" });
        cx.push(Diagnostic::error(span, message).help("raise 'memory' or lower 'slab'"));
        return None;
    }
    Some(ShardsPlan {
        cores: cores?,
        memory_bytes,
        slab_bytes: u32::try_from(slab_bytes).ok()?,
        linger_us: linger?,
    })
}

fn cores(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Spanned<CoresSpec>> {
    let text = section.text(cx, "cores")?;
    match parse_cores(&text) {
        Ok(spec) => Some(Spanned::new(spec, text.span)),
        Err(problem) => {
            let message = format!("'cores' of [shards]: {problem}");
            cx.push(
                Diagnostic::error(text.span, message)
                    .help("write \"auto\", or cores and ranges such as \"0-3,6\""),
            );
            None
        }
    }
}

const CORE_MAX: u16 = 4095;

fn parse_cores(text: &str) -> Result<CoresSpec, String> {
    if text.trim() == "auto" {
        return Ok(CoresSpec::Auto);
    }
    let number = |part: &str| {
        let number = part.trim().parse::<u16>().ok().filter(|n| *n <= CORE_MAX);
        number.ok_or_else(|| format!("'{}' is not the number of a core", part.trim()))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("the range '{}' runs backwards", part.trim()));
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    if let Some(pair) = cores.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("core {} is named twice", pair[0]));
    }
    if cores.len() > ringmain_base::limits::SHARDS_MAX {
        return Err(format!("more than {} cores", ringmain_base::limits::SHARDS_MAX));
    }
    Ok(CoresSpec::List(cores))
}

fn api(cx: &mut Context<'_>, section: &Section<'_>) -> Option<ApiPlan> {
    let listen = if section.has("listen") {
        net::listen(cx, section, "listen").map(Some)
    } else {
        Some(None)
    };
    let auth = section.text(cx, "auth");
    let tls = match section.table(cx, "tls") {
        Some((table, span)) => tls(cx, table, span).map(Some),
        None => (!section.has("tls")).then_some(None),
    };
    let audit = section.text(cx, "audit").map(|file| PathBuf::from(file.value));
    let (body, rate) = (section.size(cx, "body"), section.int(cx, "rate"));
    let (listen, tls) = (listen?, tls?);
    if let Some(listen) = &listen {
        guarded(cx, listen, auth.is_some(), tls.is_some());
    }
    Some(ApiPlan {
        listen,
        tls,
        auth,
        tokens: Vec::new(),
        audit,
        body_bytes: body?,
        rate: u32::try_from(rate?).ok()?,
    })
}

/// An address that others reach needs tokens, and should not carry them
/// readable.
fn guarded(cx: &mut Context<'_>, listen: &Listen, auth: bool, tls: bool) {
    if listen.addr.ip().is_loopback() {
        return;
    }
    let at = listen.text.span;
    if !auth {
        let message = format!(
            "'listen' of [api]: {} is reached from other machines, and there is no 'auth'",
            listen.addr
        );
        cx.push(Diagnostic::error(at, message).help(
            "name a file with tokens: auth = \"/etc/ringmain/tokens.toml\", or listen at \
             127.0.0.1",
        ));
    } else if !tls {
        let message = "tokens travel readable: 'listen' of [api] is no loopback address, and there is no 'tls'";
        cx.push(Diagnostic::warning(at, message).help("add tls = { cert = ..., key = ... }"));
    }
}

fn tls(cx: &mut Context<'_>, table: &Table, span: Span) -> Option<TlsPlan> {
    let section = Section::open(cx, table, &schema::TLS, "tls of [api]", span, None);
    let (cert, key) = (section.filled(cx, "cert"), section.filled(cx, "key"));
    Some(TlsPlan { cert: PathBuf::from(cert?.value), key: PathBuf::from(key?.value) })
}

fn metrics(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MetricsPlan> {
    let statsd = net::address(cx, section, "statsd");
    let graphite = net::address(cx, section, "graphite");
    let datadog = net::address(cx, section, "datadog");
    let prefix = section.filled(cx, "prefix").and_then(|prefix| prefix_name(cx, &prefix));
    let every = section.time(cx, "every");
    let tags =
        section.texts(cx, "tags").map(|tags| tags.iter().filter_map(|t| tag(cx, t)).collect());
    let prometheus = section.flag(cx, "prometheus");
    let jolokia = section.flag(cx, "jolokia");
    Some(MetricsPlan {
        statsd,
        graphite,
        datadog,
        prefix: prefix?,
        every_us: every?,
        tags: tags?,
        prometheus: prometheus?,
        jolokia: jolokia?,
    })
}

/// Names that every protocol can carry.
fn prefix_name(cx: &mut Context<'_>, prefix: &Spanned<String>) -> Option<String> {
    let first = prefix.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    if first && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Some(prefix.value.clone());
    }
    let message = format!("'prefix' of [metrics]: '{}' is not a name", prefix.value);
    cx.push(
        Diagnostic::error(prefix.span, message)
            .help("use letters, digits and '_', beginning with a letter"),
    );
    None
}

fn tag(cx: &mut Context<'_>, tag: &Spanned<String>) -> Option<(String, String)> {
    let plain = |text: &str| {
        !text.is_empty() && !text.contains(|c: char| c.is_control() || matches!(c, '|' | '#' | ','))
    };
    if let Some((key, value)) = tag.split_once(':')
        && plain(key)
        && plain(value)
    {
        return Some((key.to_owned(), value.to_owned()));
    }
    let message = format!("'tags' of [metrics]: '{}' is not key:value", tag.value);
    cx.push(Diagnostic::error(tag.span, message).help("for example \"site:north\""));
    None
}

fn log(cx: &mut Context<'_>, section: &Section<'_>) -> Option<LogPlan> {
    let level = section.one_of(
        cx,
        "level",
        &[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ],
    );
    let format =
        section.one_of(cx, "format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    Some(LogPlan { level: level?.value, format: format?.value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_auto_or_a_list() {
        assert_eq!(parse_cores("auto"), Ok(CoresSpec::Auto));
        assert_eq!(parse_cores("6, 0-2"), Ok(CoresSpec::List(vec![0, 1, 2, 6])));
        assert_eq!(parse_cores("0-1,1"), Err("core 1 is named twice".into()));
        assert_eq!(parse_cores("3-1"), Err("the range '3-1' runs backwards".into()));
        assert_eq!(parse_cores(""), Err("'' is not the number of a core".into()));
        assert_eq!(parse_cores("0-"), Err("'' is not the number of a core".into()));
        assert_eq!(parse_cores("99999"), Err("'99999' is not the number of a core".into()));
        assert_eq!(parse_cores("0-4095"), Err("more than 256 cores".into()));
    }
}
