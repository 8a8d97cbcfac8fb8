//! When a flow runs, where it does not run all the time.

use super::mqtt::MqttTrigger;
use super::timer::Misfire;
use crate::span::{Span, Spanned};

/// `[schedule]`
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulePlan {
    /// What begins a run.
    pub trigger: Trigger,
    /// Zone of the cron expression.
    pub timezone: Spanned<String>,
    /// A run is drained after so long.
    pub duration_us: Option<u64>,
    /// What a time does that comes while the flow runs.
    pub overlap: Overlap,
    /// What happens to times that were missed.
    pub misfire: Misfire,
    /// Runs that are remembered.
    pub history: usize,
}

/// What begins a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The times of a cron expression of six fields, which has been checked.
    Cron(Spanned<String>),
    /// Files that appear.
    Files {
        /// Globs, which have been checked.
        globs: Vec<Spanned<String>>,
        /// How long a file must not have changed.
        settle_us: u64,
    },
    /// Messages on topics of MQTT.
    Mqtt(Box<MqttTrigger>),
}

/// `overlap`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing.
    Skip,
    /// One run follows the one that is on.
    Queue,
    /// The run that is on is drained, and another begins.
    Restart,
}

impl Trigger {
    /// The key that names it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Cron(_) => "cron",
            Self::Files { .. } => "files",
            Self::Mqtt(_) => "mqtt",
        }
    }

    /// Where it is written.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Cron(text) => text.span,
            Self::Files { globs, .. } => globs[0].span,
            Self::Mqtt(mqtt) => mqtt.topics[0].filter.span,
        }
    }
}

impl std::fmt::Display for SchedulePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.trigger {
            Trigger::Cron(cron) => write!(f, "{cron} {}", self.timezone)?,
            Trigger::Files { globs, .. } => {
                let globs: Vec<_> = globs.iter().map(|glob| glob.as_str()).collect();
                write!(f, "files {}", globs.join(" "))?;
            }
            Trigger::Mqtt(mqtt) => {
                let topics: Vec<_> = mqtt.topics.iter().map(|t| t.filter.as_str()).collect();
                write!(f, "messages {} at {}", topics.join(" "), mqtt.client.url)?;
            }
        }
        match self.duration_us {
            Some(us) => write!(f, " for {}", crate::words::format_us(us)),
            None => Ok(()),
        }
    }
}
