//! What the MQTT source and sink are asked to do.

use super::sink::{RetryPlan, Template};
use super::tls::{ClientTls, Secret};
use crate::span::Spanned;

/// `version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// `qos`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// Sent once, not acknowledged.
    AtMostOnce,
    /// Sent until acknowledged.
    AtLeastOnce,
    /// Handed over in two steps.
    ExactlyOnce,
}

/// How a client meets its broker: the keys that source and sink share.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttClient {
    /// As it was written.
    pub url: Spanned<String>,
    /// `host:port` of it.
    pub address: String,
    /// Set for `mqtts://`.
    pub tls: Option<ClientTls>,
    /// The protocol.
    pub version: MqttVersion,
    /// How the broker knows the session. Empty until the daemon's name is
    /// known, then `DAEMON-FLOW-COMPONENT`.
    pub client_id: Spanned<String>,
    /// Begin without what the broker keeps of the session.
    pub clean_start: bool,
    /// How long the broker keeps the session (MQTT 5).
    pub session_expiry_us: u64,
    /// Longest silence on the connection.
    pub keep_alive_us: u64,
    /// For the broker.
    pub username: Option<String>,
    /// For the broker.
    pub password: Option<Secret>,
    /// What the broker publishes when the connection breaks.
    pub last_will: Option<MqttWill>,
    /// Messages that may be under way without an acknowledgement.
    pub max_inflight: u16,
    /// How long connecting may take, the broker's answer included.
    pub connect_timeout_us: u64,
    /// Waits between attempts.
    pub retry: RetryPlan,
}

/// `last_will = { topic = ..., payload = ..., qos = ..., retain = ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttWill {
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: String,
    /// How.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}

/// `type = "mqtt"`, a source.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSource {
    /// The connection.
    pub client: MqttClient,
    /// What it subscribes to; at least one.
    pub topics: Vec<MqttTopic>,
    /// The field that gets the topic of a message.
    pub topic_field: Option<Spanned<String>>,
}

impl MqttSource {
    /// Whether every topic is a shared subscription, so that several clients
    /// divide the messages among themselves.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.topics.iter().all(|topic| topic.filter.starts_with("$share/"))
    }
}

/// One of `topics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttTopic {
    /// The topic filter.
    pub filter: Spanned<String>,
    /// The best quality of service that is asked for.
    pub qos: Qos,
}

impl MqttTopic {
    /// Whether the filter means a topic. A shared one means what its members
    /// divide among themselves.
    #[must_use]
    pub fn means(&self, topic: &str) -> bool {
        let filter = match self.filter.strip_prefix("$share/") {
            Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
            None => &self.filter,
        };
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in filter.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// `mqtt = { url = ..., topics = ... }` of a schedule: messages that begin runs.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttTrigger {
    /// The connection.
    pub client: MqttClient,
    /// What it subscribes to; at least one.
    pub topics: Vec<MqttTopic>,
}

/// `type = "mqtt"`, a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSink {
    /// The connection.
    pub client: MqttClient,
    /// Topic of each message.
    pub topic: Template,
    /// How messages are sent.
    pub qos: Qos,
    /// Whether the broker keeps the last one of each topic.
    pub retain: bool,
    /// MQTT 5: what the payload is.
    pub content_type: Option<String>,
    /// MQTT 5: after this time the broker forgets a message that nobody took.
    pub message_expiry_us: Option<u64>,
    /// MQTT 5: names and values that go beside the payload.
    pub user_properties: Vec<(String, Template)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{FileId, Span};

    #[test]
    fn a_filter_means_the_topics_that_the_standard_says() {
        let means = |filter: &str, topic: &str| {
            let filter = Spanned::new(filter.to_owned(), Span::new(FileId(0), 0, 0));
            MqttTopic { filter, qos: Qos::AtMostOnce }.means(topic)
        };
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("a/+", "a/"),
            ("+/+", "/a"),
            ("a/#", "a"),
            ("#", "a/b/c"),
            ("$SYS/#", "$SYS/x"),
            ("$share/g/a/+", "a/b"),
        ] {
            assert!(means(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("a/b", "a/b/c"),
            ("a/b", "a"),
            ("a/+", "a"),
            ("a/#", "ab"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("$share/g/a/+", "b/a"),
        ] {
            assert!(!means(filter, topic), "{filter} {topic}");
        }
    }
}
