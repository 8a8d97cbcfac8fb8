//! A live look at messages, as server-sent events.
//!
//! The shards put messages into words; here they are passed on. The look
//! follows a flow over reloads and restarts until it is deleted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use ringmain_shard::{Tap, TapCounts, TapRequest, Tapped};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::Shared;
use super::edit::Who;
use super::problem::Problem;
use crate::view::FlowView;

/// Looks at once, of all readers. Each may cost a shard a few percent.
const TAPS_MAX: usize = 16;

/// Messages shown per second, unless asked otherwise, and at most.
const PER_SECOND_DEFAULT: u32 = 100;
const PER_SECOND_MAX: u32 = 10_000;

/// How often the shards' queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How often the reader is told what was skipped.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A flow that rests for so long is not just being replaced.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// Longest expression.
const CONDITION_BYTES_MAX: usize = 4096;

/// What to show.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only this component; otherwise all of the flow. Of a source or an
    /// operator what leaves it is shown, of a sink what comes to it.
    component: Option<String>,
    /// Every how manieth message of a component is looked at.
    #[serde(default = "one")]
    #[param(minimum = 1)]
    sample: u64,
    /// Messages per second, at most; 10,000 is the most that is possible.
    #[serde(default = "per_second")]
    #[param(minimum = 1, maximum = 10_000)]
    limit: u32,
    /// Only messages for which this Lua expression over their fields is true.
    #[serde(rename = "where")]
    condition: Option<String>,
    /// Ends after so many messages.
    count: Option<u64>,
}

fn one() -> u64 {
    1
}

fn per_second() -> u32 {
    PER_SECOND_DEFAULT
}

/// Messages as they pass, as server-sent events. An event without a name has a
/// message: `{"component": NAME, "message": {...}}`. `skipped` tells what came
/// by and was not shown, `state` that the flow was reloaded, stopped or
/// started, `end` why nothing more comes.
#[utoipa::path(get, path = "/api/v1/flows/{name}/tap", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow"), Wanted),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem, description = "The expression is wrong"),
        (status = 503, body = Problem, description = "Too many look already")))]
pub(super) async fn tap(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<impl IntoResponse, Problem> {
    wanted.check()?;
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&api, &name))?;
    let request = wanted.request(&flow).map_err(Problem::not_found_because)?;
    request.check().map_err(|error| {
        let (line, column, message) = (error.line, error.column, error.message);
        let detail = format!("where:{line}:{column}: {message}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let place = Place::take(&api)?;
    let what = wanted.component.as_ref().map(|c| format!("{name}.{c}"));
    let look = Look::new(flow, wanted, request, place);
    api.note(&who, "tap", what.as_deref().unwrap_or(&name), "begun");
    let events = unfold(look, async |mut look| {
        let event = look.next().await?;
        Some((Ok::<_, Infallible>(event), look))
    });
    let events = Sse::new(Box::pin(events)).keep_alive(KeepAlive::default());
    Ok(([(header::CACHE_CONTROL, "no-store")], events))
}

impl Wanted {
    fn check(&self) -> Result<(), Problem> {
        let detail = if self.sample == 0 {
            "'sample' is every how manieth message is looked at: 1 or more".to_owned()
        } else if !(1..=PER_SECOND_MAX).contains(&self.limit) {
            format!("'limit' is messages per second: 1 to {PER_SECOND_MAX}")
        } else if self.condition.as_ref().is_some_and(|text| text.len() > CONDITION_BYTES_MAX) {
            format!("'where' is longer than {CONDITION_BYTES_MAX} bytes")
        } else {
            return Ok(());
        };
        Err(Problem::new(StatusCode::BAD_REQUEST, detail))
    }

    /// In the numbers of one version of the flow; otherwise what is wrong.
    fn request(&self, flow: &FlowView) -> Result<TapRequest, String> {
        let names = &flow.control.components;
        let number = |name: &String| {
            names.iter().position(|known| known == name).ok_or_else(|| {
                let (flow, names) = (flow.name(), names.join(", "));
                format!("there is no component '{name}' in flow '{flow}'; it has: {names}")
            })
        };
        Ok(TapRequest {
            component: self.component.as_ref().map(number).transpose()?,
            every: self.sample,
            per_second: self.limit,
            condition: self.condition.clone(),
        })
    }
}

fn no_flow(api: &Shared, name: &str) -> Problem {
    let names: Vec<_> = api.view.flows().iter().map(|flow| flow.name().to_owned()).collect();
    let detail = format!("there is no flow '{name}'; there are: {}", names.join(", "));
    Problem::not_found_because(detail)
}

/// One of the looks that there may be.
struct Place(Shared);

impl Place {
    fn take(api: &Shared) -> Result<Self, Problem> {
        let more = |taps: usize| (taps < TAPS_MAX).then_some(taps + 1);
        match api.taps.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Self(api.clone())),
            Err(_) => {
                let detail = format!("{TAPS_MAX} taps are open already; end one of them");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taps.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many looks there are.
pub(super) type Taps = AtomicUsize;

/// A look at a flow.
struct Look {
    place: Place,
    wanted: Wanted,
    /// What is looked at now.
    flow: Arc<FlowView>,
    tap: Tap,
    /// Of taps on earlier lives of the flow.
    before: TapCounts,
    told: TapCounts,
    tell_at: Instant,
    /// When the flow was first seen at rest; while it is replaced it rests for
    /// a moment, too.
    rests_since: Option<Instant>,
    /// The reader was told that it rests.
    rests: bool,
    shown: u64,
    ended: bool,
}

impl Look {
    fn new(flow: Arc<FlowView>, wanted: Wanted, request: TapRequest, place: Place) -> Self {
        Self {
            tap: Tap::open(&flow.control, request),
            place,
            wanted,
            flow,
            before: TapCounts::default(),
            told: TapCounts::default(),
            tell_at: Instant::now() + TELL_EVERY,
            rests_since: None,
            rests: false,
            shown: 0,
            ended: false,
        }
    }

    /// What the reader is told next; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.ended {
                return None;
            }
            if self.wanted.count.is_some_and(|count| self.shown >= count) {
                return Some(self.end("all messages that were asked for have been shown"));
            }
            if let Some(event) = self.tell() {
                return Some(event);
            }
            if let Some(tapped) = self.tap.next() {
                self.shown += 1;
                return Some(self.message(&tapped));
            }
            if let Some(event) = self.follow() {
                return Some(event);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn message(&self, tapped: &Tapped) -> Event {
        let name = json!(self.flow.control.components[tapped.component]);
        Event::default().data(format!("{{\"component\":{name},\"message\":{}}}", tapped.json))
    }

    /// The end, with what was counted until then.
    fn end(&mut self, why: &str) -> Event {
        self.ended = true;
        let TapCounts { seen, skipped, failed } = self.counts();
        let end = json!({ "detail": why, "seen": seen, "skipped": skipped, "failed": failed });
        Event::default().event("end").data(end.to_string())
    }

    fn counts(&self) -> TapCounts {
        let (before, now) = (self.before, self.tap.counts());
        TapCounts {
            seen: before.seen + now.seen,
            skipped: before.skipped + now.skipped,
            failed: before.failed + now.failed,
        }
    }

    /// What was not shown, if that is news and it is time.
    fn tell(&mut self) -> Option<Event> {
        if self.tap.is_stopped() {
            return Some(self.end("the expression takes too long"));
        }
        if Instant::now() < self.tell_at {
            return None;
        }
        self.tell_at = Instant::now() + TELL_EVERY;
        let counts = self.counts();
        let news = (counts.skipped, counts.failed) != (self.told.skipped, self.told.failed);
        self.told = counts;
        let TapCounts { seen, skipped, failed } = counts;
        let told = json!({ "seen": seen, "skipped": skipped, "failed": failed });
        news.then(|| Event::default().event("skipped").data(told.to_string()))
    }

    /// Goes on with the flow's next life.
    fn follow(&mut self) -> Option<Event> {
        let Some(flow) = self.place.0.view.flow(self.flow.name()) else {
            return Some(self.end("the flow has been deleted"));
        };
        if self.tap.is_on(&flow.control) {
            let now = Instant::now();
            if flow.at_work() > 0 {
                self.rests_since = None;
            } else if now >= *self.rests_since.get_or_insert(now) + RESTS_AFTER && !self.rests {
                self.rests = true;
                return Some(state("stopped"));
            }
            return None;
        }
        let request = match self.wanted.request(&flow) {
            Ok(request) => request,
            Err(why) => return Some(self.end(&format!("the flow has changed: {why}"))),
        };
        let tap = Tap::open(&flow.control, request);
        // What its last messages were counted as.
        self.before = self.counts();
        (self.tap, self.flow, self.rests_since) = (tap, flow, None);
        let was = if std::mem::take(&mut self.rests) { "started" } else { "reloaded" };
        Some(state(was))
    }
}

fn state(state: &str) -> Event {
    Event::default().event("state").data(json!({ "state": state }).to_string())
}
