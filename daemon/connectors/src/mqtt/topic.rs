//! Topics and properties of what is published, filled in per message.

use ringmain_base::Reason;
use ringmain_config::plan::{MqttSink, MqttVersion, Template};
use ringmain_slab::{RowRef, SharedSchema};

use super::wire::put_string;
use crate::Refusals;
use crate::template::Path;

const TOPIC_BYTES_MAX: usize = 65_535;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const USER_PROPERTY: u8 = 0x26;

pub(super) struct Topic {
    path: Path,
    text: String,
}

impl Topic {
    pub(super) fn new(template: &Template, schema: &SharedSchema, shard: u16) -> Self {
        Self { path: Path::verbatim(template, schema, shard), text: String::new() }
    }

    /// The topic of a row; a row that has none is refused.
    pub(super) fn fill(&mut self, row: RowRef<'_>, refusals: &mut dyn Refusals) -> Option<&str> {
        if let Err(missing) = self.path.fill(row, &mut self.text) {
            let detail = format!("topic: the message has no usable field '{}'", missing.field);
            refusals.row(Reason::Field, &detail, row);
            return None;
        }
        if let Some(problem) = problem(&self.text) {
            let shown: String = self.text.chars().take(100).collect();
            let detail = format!("nothing can be published to the topic '{shown}': it {problem}");
            refusals.row(Reason::Encode, &detail, row);
            return None;
        }
        Some(&self.text)
    }
}

fn problem(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        Some("is empty")
    } else if topic.len() > TOPIC_BYTES_MAX {
        Some("is longer than 65535 bytes")
    } else if topic.contains(['+', '#']) {
        Some("has a wildcard")
    } else if topic.contains('\0') {
        Some("has a NUL character")
    } else {
        None
    }
}

/// What goes beside the payload in MQTT 5.
pub(super) struct Properties {
    /// `None` in 3.1.1.
    fixed: Option<Vec<u8>>,
    user: Vec<(String, Path)>,
    bytes: Vec<u8>,
    text: String,
}

impl Properties {
    pub(super) fn new(plan: &MqttSink, schema: &SharedSchema, shard: u16) -> Self {
        let path = |template| Path::verbatim(template, schema, shard);
        let user = plan.user_properties.iter();
        let user = user.map(|(name, template)| (name.clone(), path(template))).collect();
        let fixed = (plan.client.version == MqttVersion::V5).then(|| fixed(plan));
        Self { fixed, user, bytes: Vec::new(), text: String::new() }
    }

    /// The properties of a row; a value that the row lacks is left out.
    pub(super) fn fill(&mut self, row: RowRef<'_>) -> Option<&[u8]> {
        let fixed = self.fixed.as_ref()?;
        if self.user.is_empty() {
            return Some(fixed);
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(fixed);
        for (name, path) in &mut self.user {
            if path.fill(row, &mut self.text).is_ok() {
                self.bytes.push(USER_PROPERTY);
                put_string(&mut self.bytes, name);
                put_string(&mut self.bytes, cut(&self.text));
            }
        }
        Some(&self.bytes)
    }
}

fn fixed(plan: &MqttSink) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(expiry_us) = plan.message_expiry_us {
        let seconds = u32::try_from(expiry_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        out.push(MESSAGE_EXPIRY);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    if let Some(text) = &plan.content_type {
        out.push(CONTENT_TYPE);
        put_string(&mut out, cut(text));
    }
    out
}

/// As much of a text as a string of the protocol holds.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TOPIC_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
