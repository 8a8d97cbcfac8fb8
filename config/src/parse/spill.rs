//! `when_full` of sinks and `spill`.

use crate::diagnostics::Diagnostic;
use crate::plan::{SpillPlan, WhenFull};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Table;

const WHEN_FULL: &[(&str, WhenFull)] = &[
    ("block", WhenFull::Block),
    ("drop_newest", WhenFull::DropNewest),
    ("drop_oldest", WhenFull::DropOldest),
    ("spill", WhenFull::Spill),
];

const NO_ROOM_ON_DISK: &[(&str, WhenFull)] =
    &[("block", WhenFull::Block), ("drop_newest", WhenFull::DropNewest)];

/// The key `when_full` of a sink, or of the dead letters.
pub(super) fn when_full(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    letters: bool,
) -> Option<Spanned<WhenFull>> {
    let when_full = section.one_of(cx, "when_full", WHEN_FULL)?;
    if letters && when_full.value == WhenFull::Spill {
        let message = format!("'when_full' of {} cannot be 'spill'", section.what);
        let help = "a refused message counts as handled only when it is stored; use block";
        cx.push(Diagnostic::error(when_full.span, message).help(help));
        return None;
    }
    Some(when_full)
}

/// The key `spill`. `None` when it is wrong.
pub(super) fn spill(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    when_full: Option<&Spanned<WhenFull>>,
) -> Option<Option<SpillPlan>> {
    let empty = Table::default();
    let (table, span) = match section.table(cx, "spill") {
        Some(found) => found,
        None if section.has("spill") => return None,
        None => (&empty, section.span),
    };
    if when_full?.value != WhenFull::Spill {
        if section.has("spill") {
            let message = format!("'spill' of {} has no effect", section.what);
            let help = "write when_full = \"spill\", or remove it";
            cx.push(Diagnostic::error(section.span_of("spill"), message).help(help));
            return None;
        }
        return Some(None);
    }
    let what = format!("spill of {}", section.what);
    let spill = Section::open(cx, table, &schema::SPILL, &what, span, None);
    let (max, segment) = (spill.size(cx, "max_size"), spill.size(cx, "segment"));
    let sync_every_us = fsync(cx, &spill);
    let rate = if spill.has("resend_rate") {
        spill.int(cx, "resend_rate").and_then(|n| u64::try_from(n).ok()).map(Some)
    } else {
        Some(None)
    };
    let live_first = spill.flag(cx, "live_first");
    let no_room = spill.one_of(cx, "when_full", NO_ROOM_ON_DISK);
    let (max_bytes, segment_bytes) = (max?, segment?);
    if max_bytes / 2 < segment_bytes {
        let message = format!("{what}: max_size holds less than two files of the size 'segment'");
        let key = if spill.has("max_size") { "max_size" } else { "segment" };
        let help = "a file goes when all of it is accepted, so there must be room for the next";
        cx.push(Diagnostic::error(spill.span_of(key), message).help(help));
        return None;
    }
    Some(Some(SpillPlan {
        max_bytes,
        segment_bytes,
        sync_every_us: sync_every_us?,
        resend_rate: rate?,
        live_first: live_first?,
        when_full: no_room?,
    }))
}

const FSYNC_US: std::ops::RangeInclusive<u64> = 1_000..=60_000_000;

fn fsync(cx: &mut Context<'_>, section: &Section<'_>) -> Option<u64> {
    let text = section.text(cx, "fsync")?;
    if text.value == "always" {
        return Some(0);
    }
    let time = ringmain_base::units::parse_duration(&text).ok();
    let us = time.and_then(|t| u64::try_from(t.as_micros()).ok());
    if let Some(us) = us.filter(|us| FSYNC_US.contains(us)) {
        return Some(us);
    }
    let message = format!("'fsync' of {} cannot be '{}'", section.what, text.value);
    let help = "use always or a duration from 1ms to 1m such as \"200ms\"";
    cx.push(Diagnostic::error(text.span, message).help(help));
    None
}
