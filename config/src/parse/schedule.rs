//! When a flow runs.

use super::timer::{cron, zone};
use crate::diagnostics::Diagnostic;
use crate::plan::{FlowPlan, Misfire, Overlap, SchedulePlan, Trigger};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::Spanned;

pub(super) fn schedule(cx: &mut Context<'_>, flow: &Section<'_>) -> Option<SchedulePlan> {
    let (table, span) = flow.table(cx, "schedule")?;
    let section = Section::open(cx, table, &schema::SCHEDULE, "[schedule]", span, None);
    let timezone = section.filled(cx, "timezone");
    let zone = timezone.as_ref().and_then(|name| zone(cx, &section, name));
    let trigger = trigger(cx, &section);
    let duration_us = section.has("duration").then(|| section.time(cx, "duration"));
    let overlaps =
        [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("restart", Overlap::Restart)];
    let overlap = section.one_of(cx, "overlap", &overlaps);
    let misfires = [("skip", Misfire::Skip), ("once", Misfire::Once)];
    let misfire = section.one_of(cx, "misfire", &misfires);
    let history = section.int(cx, "history").and_then(|n| usize::try_from(n).ok());
    zone?;
    Some(SchedulePlan {
        trigger: trigger?,
        timezone: timezone?,
        duration_us: match duration_us {
            Some(given) => Some(given?),
            None => None,
        },
        overlap: overlap?.value,
        misfire: misfire?.value,
        history: history?,
    })
}

fn trigger(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Trigger> {
    let settle_us = section.time(cx, "settle");
    let keys = ["cron", "files", "mqtt"].map(|name| section.table.entry(name));
    let mut keys = keys.into_iter().flatten();
    let Some((key, _)) = keys.next() else {
        let help = "name times, as cron = \"0 0 6 * * *\", files = \"incoming/*.csv\", or \
                    mqtt = { url = \"mqtt://127.0.0.1:1883\", topics = \"plant/+/start\" }";
        let message = "[schedule] needs 'cron', 'files' or 'mqtt'";
        cx.push(Diagnostic::error(section.span, message).help(help));
        return None;
    };
    if let Some((second, _)) = keys.next() {
        let message = format!("[schedule] has both '{key}' and '{second}'");
        let help = "keep one of them; a second flow can have the other";
        cx.push(
            Diagnostic::error(second.span, message)
                .note(key.span, format!("'{key}' is here"))
                .help(help),
        );
        return None;
    }
    match key.value.as_str() {
        "cron" => {
            let text = section.filled(cx, "cron")?;
            cron(cx, section, &text).then_some(Trigger::Cron(text))
        }
        "files" => {
            let globs = globs(cx, section)?;
            Some(Trigger::Files { globs, settle_us: settle_us? })
        }
        _ => {
            let (table, span) = section.table(cx, "mqtt")?;
            let what = "'mqtt' of [schedule]";
            let mqtt = Section::open(cx, table, &schema::MQTT_TRIGGER, what, span, None);
            super::mqtt::trigger(cx, &mqtt).map(|mqtt| Trigger::Mqtt(Box::new(mqtt)))
        }
    }
}

fn globs(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Vec<Spanned<String>>> {
    let globs = section.texts(cx, "files")?;
    let mut good = !globs.is_empty();
    if globs.is_empty() {
        let message = "'files' of [schedule] names no file";
        cx.push(Diagnostic::error(section.span_of("files"), message));
    }
    for text in &globs {
        let wrong = match glob::Pattern::new(text) {
            Ok(_) if !text.trim().is_empty() => continue,
            Ok(_) => "is empty".to_owned(),
            Err(error) => format!("is no glob: {}", error.msg),
        };
        let message = format!("'files' of [schedule]: '{text}' {wrong}");
        cx.push(Diagnostic::error(text.span, message));
        good = false;
    }
    good.then_some(globs)
}

/// A run that never ends keeps all later ones from beginning.
pub(super) fn warn(cx: &mut Context<'_>, flow: &FlowPlan) {
    let Some(schedule) = &flow.schedule else { return };
    let endless = flow.sources.iter().find(|source| !source.kind.is_finite());
    if let (Some(source), None) = (endless, schedule.duration_us)
        && schedule.overlap != Overlap::Restart
    {
        let span = schedule.trigger.span();
        let message =
            format!("the first run never ends: source '{}' does not end by itself", source.name);
        cx.push(
            Diagnostic::warning(span, message)
                .note(source.name.span, "this one")
                .help("give [schedule] a 'duration', or let runs overlap = \"restart\""),
        );
    }
}
