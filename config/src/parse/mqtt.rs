//! `type = "mqtt"`, as a source and as a sink.

use super::retry::retry;
use super::{template, tls};
use crate::diagnostics::Diagnostic;
use crate::plan::{
    ClientTls, FlowPlan, MqttClient, MqttSink, MqttSource, MqttTopic, MqttTrigger, MqttVersion,
    MqttWill, Qos, Segment, SinkKind, SourceKind, Template, Trigger,
};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Value;
use crate::words::wrong_type;

const VERSIONS: &[(&str, MqttVersion)] = &[("3.1.1", MqttVersion::V311), ("5", MqttVersion::V5)];
/// Longest topic, and longest of every other string of the protocol.
const STRING_BYTES_MAX: usize = 65_535;

pub(super) fn source(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MqttSource> {
    let subscriber = subscriber(cx, section);
    let topic_field = match section.has("topic_field") {
        true => Some(section.filled(cx, "topic_field")?),
        false => None,
    };
    let (client, topics) = subscriber?;
    Some(MqttSource { client, topics, topic_field })
}

/// What begins runs.
pub(super) fn trigger(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MqttTrigger> {
    let (client, topics) = subscriber(cx, section)?;
    Some(MqttTrigger { client, topics })
}

fn subscriber(cx: &mut Context<'_>, section: &Section<'_>) -> Option<(MqttClient, Vec<MqttTopic>)> {
    let client = client(cx, section);
    let qos = qos(cx, section);
    let topics = qos.and_then(|qos| topics(cx, section, qos));
    let (client, topics) = (client?, topics?);
    for topic in topics.iter().filter(|t| t.filter.starts_with("$share/")) {
        if client.version == MqttVersion::V311 {
            let message =
                format!("'{}' of {} is a shared subscription", topic.filter, section.what);
            cx.push(
                Diagnostic::warning(topic.filter.span, message)
                    .help("they are part of MQTT 5; some brokers know them in 3.1.1, too"),
            );
        }
    }
    Some((client, topics))
}

pub(super) fn sink(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MqttSink> {
    let client = client(cx, section);
    let topic = template::template(cx, section, "topic");
    let topic = topic.filter(|topic| publishable(cx, section, topic));
    let qos = qos(cx, section);
    let retain = section.flag(cx, "retain");
    let content_type = match section.has("content_type") {
        true => Some(section.filled(cx, "content_type")?.value),
        false => None,
    };
    let message_expiry_us = match section.has("message_expiry") {
        true => Some(section.time(cx, "message_expiry")?),
        false => None,
    };
    let user_properties = user_properties(cx, section);
    let client = client?;
    if client.version == MqttVersion::V311 {
        for key in ["content_type", "message_expiry", "user_properties"] {
            only_for_5(cx, section, key);
        }
    }
    Some(MqttSink {
        client,
        topic: topic?,
        qos: qos?,
        retain: retain?,
        content_type,
        message_expiry_us,
        user_properties: user_properties?,
    })
}

fn client(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MqttClient> {
    let url = url(cx, section);
    let tls = tls::client(cx, section);
    let version = section.one_of(cx, "version", VERSIONS);
    let client_id = match section.has("client_id") {
        true => section.filled(cx, "client_id"),
        false => Some(Spanned::new(String::new(), section.span)),
    };
    let clean_start = section.flag(cx, "clean_start");
    let session_expiry_us = section.time(cx, "session_expiry");
    let keep_alive_us = section.time(cx, "keep_alive");
    let username = section.has("username").then(|| section.text(cx, "username"));
    let password = tls::secret(cx, section, "password");
    let last_will = section.has("last_will").then(|| last_will(cx, section));
    let max_inflight = section.int(cx, "max_inflight");
    let connect_timeout_us = section.time(cx, "connect_timeout");
    let retry = retry(cx, section);
    let version = version?.value;
    if version == MqttVersion::V311 {
        only_for_5(cx, section, "session_expiry");
    }
    if password != Some(None) && username.is_none() && version == MqttVersion::V311 {
        let message = format!("'password' of {} needs 'username' in MQTT 3.1.1", section.what);
        cx.push(Diagnostic::error(section.span_of("password"), message).help("add username"));
        return None;
    }
    let (url, address) = url?;
    let tls = match (tls?, url.starts_with("mqtts://")) {
        (None, true) => Some(ClientTls::default()),
        (Some(_), false) => {
            let message = format!("'tls' of {} needs the scheme mqtts", section.what);
            cx.push(
                Diagnostic::error(section.span_of("tls"), message)
                    .help("write url = \"mqtts://...\", or remove 'tls'"),
            );
            return None;
        }
        (tls, _) => tls,
    };
    Some(MqttClient {
        url,
        address,
        tls,
        version,
        client_id: client_id?,
        clean_start: clean_start?,
        session_expiry_us: session_expiry_us?,
        keep_alive_us: keep_alive_us?,
        username: transpose(username)?.map(|text| text.value),
        password: password?,
        last_will: transpose(last_will)?,
        max_inflight: u16::try_from(max_inflight?).ok()?,
        connect_timeout_us: connect_timeout_us?,
        retry: retry?,
    })
}

/// `None` when it is written and wrong.
fn transpose<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        Some(found) => Some(found),
        None => Some(None),
    }
}

/// The URL, and `host:port` of it.
fn url(cx: &mut Context<'_>, section: &Section<'_>) -> Option<(Spanned<String>, String)> {
    const HELP: &str = "for example \"mqtt://127.0.0.1:1883\" or \"mqtts://broker.example:8883\"";
    let url = section.filled(cx, "url")?;
    let mut refuse = |problem: &str, help: &'static str| {
        let message = format!("'url' of {}: '{}' {problem}", section.what, url.value);
        cx.push(Diagnostic::error(url.span, message).help(help));
        None
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse("has no scheme", HELP);
    };
    let port = match scheme {
        "mqtt" => 1883,
        "mqtts" => 8883,
        _ => return refuse("is not an MQTT address", HELP),
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('@') {
        return refuse("holds a user", "write username = \"...\" and password = \"${NAME}\"");
    }
    let has_port =
        host.rsplit_once(':').is_some_and(|(head, _)| !head.contains(':') || head.ends_with(']'));
    let address = if has_port { host.to_owned() } else { format!("{host}:{port}") };
    if !super::net::is_address(&address) {
        return refuse("is not a host and port", HELP);
    }
    Some((url.clone(), address))
}

fn only_for_5(cx: &mut Context<'_>, section: &Section<'_>, key: &str) {
    if let Some((key, _)) = section.table.entry(key) {
        let message = format!("'{key}' of {} has no effect", section.what);
        cx.push(
            Diagnostic::warning(key.span, message)
                .help("it is for version = \"5\"; change that, or remove the key"),
        );
    }
}

fn qos(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Qos> {
    section.int(cx, "qos").map(level)
}

const fn level(number: i64) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

fn last_will(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MqttWill> {
    let (table, span) = section.table(cx, "last_will")?;
    let what = format!("last_will of {}", section.what);
    let will = Section::open(cx, table, &schema::LAST_WILL, &what, span, None);
    let topic = will.filled(cx, "topic");
    let payload = will.text(cx, "payload");
    let qos = qos(cx, &will);
    let retain = will.flag(cx, "retain");
    let topic = topic?;
    if let Some(problem) = topic_problem(&topic) {
        let message = format!("'topic' of {what}: '{topic}' {problem}");
        cx.push(Diagnostic::error(topic.span, message).help("name one topic without wildcards"));
        return None;
    }
    Some(MqttWill { topic: topic.value, payload: payload?.value, qos: qos?, retain: retain? })
}

/// Why nothing can be published there.
fn topic_problem(topic: &str) -> Option<&'static str> {
    if topic.contains(['+', '#']) {
        Some("has a wildcard")
    } else if topic.contains('\0') {
        Some("has a NUL character")
    } else if topic.len() > STRING_BYTES_MAX {
        Some("is longer than 65535 bytes")
    } else {
        None
    }
}

/// Whether the fixed parts of a topic are such that messages can go there.
fn publishable(cx: &mut Context<'_>, section: &Section<'_>, topic: &Template) -> bool {
    let literals = topic.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(text) => Some(text.as_str()),
        _ => None,
    });
    let Some(problem) = literals.filter_map(topic_problem).next() else { return true };
    let message = format!("'topic' of {}: '{}' {problem}", section.what, topic.text.value);
    cx.push(Diagnostic::error(topic.text.span, message).help("wildcards are for subscribing"));
    false
}

/// Why a topic filter is none.
fn filter_problem(filter: &str) -> Option<&'static str> {
    let plain = match filter.strip_prefix("$share/") {
        Some(shared) => match shared.split_once('/') {
            Some((group, plain)) if !group.is_empty() && !group.contains(['+', '#']) => plain,
            _ => return Some("is not $share/GROUP/TOPIC"),
        },
        None => filter,
    };
    if plain.is_empty() {
        return Some("is empty");
    }
    if plain.contains('\0') || filter.len() > STRING_BYTES_MAX {
        return Some("has a NUL character or is too long");
    }
    let levels: Vec<&str> = plain.split('/').collect();
    let last = levels.len() - 1;
    for (at, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || at != last) {
            return Some("has '#' elsewhere than as its last level");
        }
        if level.contains('+') && *level != "+" {
            return Some("has '+' beside other characters of a level");
        }
    }
    None
}

fn topics(cx: &mut Context<'_>, section: &Section<'_>, qos: Qos) -> Option<Vec<MqttTopic>> {
    let value = section.raw(cx, "topics")?;
    let items = match &value.value {
        Value::Array(items) => items.as_slice(),
        Value::String(_) | Value::Table(_) => std::slice::from_ref(value),
        _ => {
            section.wrong(cx, "topics", value);
            return None;
        }
    };
    if items.is_empty() {
        let message = format!("'topics' of {} is an empty list", section.what);
        cx.push(Diagnostic::error(value.span, message).help("name at least one topic"));
        return None;
    }
    let mut topics: Vec<MqttTopic> = Vec::with_capacity(items.len());
    let mut good = true;
    for item in items {
        match topic(cx, section, item, qos) {
            Some(topic) => match topics.iter().find(|t| t.filter == topic.filter) {
                Some(first) => {
                    let message = format!("{} names '{}' twice", section.what, topic.filter);
                    let at = first.filter.span;
                    cx.push(Diagnostic::error(topic.filter.span, message).note(at, "first here"));
                    good = false;
                }
                None => topics.push(topic),
            },
            None => good = false,
        }
    }
    good.then_some(topics)
}

fn topic(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    item: &Spanned<Value>,
    qos_default: Qos,
) -> Option<MqttTopic> {
    let what = format!("an entry of 'topics' of {}", section.what);
    let topic = match &item.value {
        Value::String(text) => {
            let filter = cx.expand(&Spanned::new(text.clone(), item.span))?;
            MqttTopic { filter, qos: qos_default }
        }
        Value::Table(table) => {
            let entry = Section::open(cx, table, &schema::MQTT_TOPIC, &what, item.span, None);
            let filter = entry.filled(cx, "topic");
            let qos = match entry.has("qos") {
                true => level(entry.int(cx, "qos")?),
                false => qos_default,
            };
            MqttTopic { filter: filter?, qos }
        }
        _ => {
            cx.push(wrong_type(&what, "a topic or { topic = \"...\", qos = 1 }", item));
            return None;
        }
    };
    if let Some(problem) = filter_problem(&topic.filter) {
        let message = format!("{what}: '{}' {problem}", topic.filter);
        cx.push(
            Diagnostic::error(topic.filter.span, message)
                .help("'+' stands for one whole level, '#' for all that follow"),
        );
        return None;
    }
    Some(topic)
}

fn user_properties(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Vec<(String, Template)>> {
    if !section.has("user_properties") {
        return Some(Vec::new());
    }
    let (table, _) = section.table(cx, "user_properties")?;
    let mut properties = Vec::new();
    let mut good = true;
    for (name, value) in &table.entries {
        match property(cx, section, name, value) {
            Some(template) => properties.push((name.value.clone(), template)),
            None => good = false,
        }
    }
    good.then_some(properties)
}

fn property(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    name: &Spanned<String>,
    value: &Spanned<Value>,
) -> Option<Template> {
    let what = format!("'{name}' in 'user_properties' of {}", section.what);
    let Value::String(text) = &value.value else {
        cx.push(wrong_type(&what, "a string", value));
        return None;
    };
    let text = cx.expand(&Spanned::new(text.clone(), value.span))?;
    template::parse(cx, text, &what)
}

/// Gives the clients of a flow that have no id of their own one that no other
/// has.
pub(crate) fn name_clients(flow: &mut FlowPlan, daemon: &str) {
    let name = |client: &mut MqttClient, component: &str| {
        if client.client_id.is_empty() {
            client.client_id.value = format!("{daemon}-{}-{component}", flow.name);
        }
    };
    // No component's name has a dot in it.
    if let Some(Trigger::Mqtt(mqtt)) = flow.schedule.as_mut().map(|s| &mut s.trigger)
        && mqtt.client.client_id.is_empty()
    {
        mqtt.client.client_id.value = format!("{daemon}-{}.schedule", flow.name);
    }
    for source in &mut flow.sources {
        if let SourceKind::Mqtt(mqtt) = &mut source.kind {
            name(&mut mqtt.client, &source.name);
        }
    }
    for sink in flow.sinks.iter_mut().chain(&mut flow.dead_letters) {
        if let SinkKind::Mqtt(mqtt) = &mut sink.kind {
            name(&mut mqtt.client, &sink.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_standard() {
        for good in ["#", "+", "a", "/", "a/+/b", "+/+", "a/#", "$SYS/#", "$share/g/a/+", "a//b"] {
            assert_eq!(filter_problem(good), None, "{good}");
        }
        for bad in
            ["", "a#", "#/a", "a/#/b", "a+", "a/b+", "$share/g", "$share//a", "$share/g/", "a\0"]
        {
            assert!(filter_problem(bad).is_some(), "{bad:?}");
        }
    }
}
