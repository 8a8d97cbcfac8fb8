//! Logging, on standard error: standard output is a sink.

use std::io::IsTerminal;

use ringmain_config::{LogFormat, LogLevel, LogPlan};
use tracing_subscriber::EnvFilter;

/// Starts logging. `RINGMAIN_LOG` overrides the configured level, in the
/// syntax of tracing's filters.
pub(crate) fn init(plan: &LogPlan) {
    let level = match plan.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::try_from_env("RINGMAIN_LOG").unwrap_or_else(|_| {
        // It tells of watches that end with the files that they were for.
        EnvFilter::new(format!("{level},notify=warn"))
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(ringmain_control::LogStream::new);
    match plan.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
