//! The packets of a connection's life, in rumqttc's codec: connecting,
//! subscribing, and what a broker says when it goes.

use bytes::BytesMut;
use ringmain_config::plan::{MqttClient, MqttTopic, MqttVersion, MqttWill, Qos};
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};

use super::wire::Garbage;

/// Some brokers take no more filters in one packet.
pub(super) const FILTERS_PER_PACKET: usize = 8;
const SECOND_US: u64 = 1_000_000;

/// What a broker that lets us in says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// It knows the session.
    pub(super) session: bool,
    /// Publications that it takes without an acknowledgement.
    pub(super) receive_max: u16,
    /// Longest packet that it takes.
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) qos_max: Qos,
    pub(super) retains: bool,
    /// Its own keep-alive, which replaces ours.
    pub(super) keep_alive_us: Option<u64>,
}

const fn qos4(qos: Qos) -> mqttbytes::QoS {
    match qos {
        Qos::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        Qos::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

const fn qos5(qos: Qos) -> QoS5 {
    match qos {
        Qos::AtMostOnce => QoS5::AtMostOnce,
        Qos::AtLeastOnce => QoS5::AtLeastOnce,
        Qos::ExactlyOnce => QoS5::ExactlyOnce,
    }
}

/// Why a packet could not be made: one of its texts is too long, and the
/// configuration was checked for that.
const FITS: &str = "what the configuration holds fits a packet";

/// The packet that asks to be let in.
pub(super) fn connect(plan: &MqttClient, id: &str, clean: bool) -> Vec<u8> {
    let keep_alive = u16::try_from(plan.keep_alive_us.div_ceil(SECOND_US)).unwrap_or(u16::MAX);
    let username = plan.username.clone().unwrap_or_default();
    let password =
        plan.password.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default();
    let has_login = plan.username.is_some() || plan.password.is_some();
    let mut out = BytesMut::new();
    match plan.version {
        MqttVersion::V311 => {
            let mut packet = v4::Connect::new(id);
            packet.keep_alive = keep_alive;
            packet.clean_session = clean;
            packet.last_will =
                plan.last_will.as_ref().map(|MqttWill { topic, payload, qos, retain }| {
                    v4::LastWill::new(topic, payload.as_bytes(), qos4(*qos), *retain)
                });
            packet.login = has_login.then_some(v4::Login { username, password });
            packet.write(&mut out).expect(FITS);
        }
        MqttVersion::V5 => {
            let mut properties = v5::ConnectProperties::new();
            let expiry = plan.session_expiry_us.div_ceil(SECOND_US);
            properties.session_expiry_interval = Some(u32::try_from(expiry).unwrap_or(u32::MAX));
            properties.receive_maximum = Some(plan.max_inflight);
            let packet = v5::Connect {
                keep_alive,
                client_id: id.to_owned(),
                clean_start: clean,
                properties: Some(properties),
            };
            let will = plan.last_will.as_ref().map(|MqttWill { topic, payload, qos, retain }| {
                v5::LastWill::new(
                    topic.as_str(),
                    payload.as_bytes().to_vec(),
                    qos5(*qos),
                    *retain,
                    None,
                )
            });
            let login = has_login.then_some(v5::Login { username, password });
            packet.write(&will, &login, &mut out).expect(FITS);
        }
    }
    out.to_vec()
}

/// Appends the packet that subscribes to `topics`.
pub(super) fn subscribe(topics: &[&MqttTopic], id: u16, version: MqttVersion, out: &mut Vec<u8>) {
    let mut bytes = BytesMut::new();
    match version {
        MqttVersion::V311 => {
            let filter =
                |t: &&MqttTopic| v4::SubscribeFilter::new(t.filter.value.clone(), qos4(t.qos));
            let mut packet = v4::Subscribe::new_many(topics.iter().map(filter));
            packet.pkid = id;
            packet.write(&mut bytes).expect(FITS);
        }
        MqttVersion::V5 => {
            let filter = |t: &&MqttTopic| {
                let mut filter = v5::Filter::new(t.filter.value.clone(), qos5(t.qos));
                // Subscribing again after a reconnect brings no retained
                // message a second time.
                filter.retain_forward_rule = v5::RetainForwardRule::OnNewSubscribe;
                filter
            };
            let mut packet = v5::Subscribe::new_many(topics.iter().map(filter), None);
            packet.pkid = id;
            packet.write(&mut bytes).expect(FITS);
        }
    }
    out.extend_from_slice(&bytes);
}

/// Reads a whole packet that answers ours; `Err` holds the refusal.
pub(super) fn greeting(
    packet: &[u8],
    version: MqttVersion,
) -> Result<Result<Greeting, String>, Garbage> {
    let [_, len, body @ ..] = packet else { return Err(Garbage("a packet that is too short")) };
    if version == MqttVersion::V5 && *len == 2 {
        return Ok(Err(old_refusal(body)));
    }
    let mut bytes = BytesMut::from(packet);
    if version == MqttVersion::V311 {
        let read = v4::Packet::read(&mut bytes, usize::MAX);
        let Ok(v4::Packet::ConnAck(ack)) = read else { return Err(NO_GREETING) };
        let session = ack.session_present;
        return Ok(match ack.code {
            v4::ConnectReturnCode::Success => Ok(Greeting::old(session)),
            code => Err(format!("the broker refuses the connection: {}", words(&code))),
        });
    }
    let read = v5::Packet::read(&mut bytes, None);
    let Ok(v5::Packet::ConnAck(ack)) = read else { return Err(NO_GREETING) };
    if ack.code != v5::ConnectReturnCode::Success {
        let text = ack.properties.and_then(|p| p.reason_string).map(|why| format!(" ({why})"));
        let code = words(&ack.code);
        return Ok(Err(format!(
            "the broker refuses the connection: {code}{}",
            text.unwrap_or_default()
        )));
    }
    let mut greeting = Greeting::old(ack.session_present);
    if let Some(p) = ack.properties {
        greeting.receive_max = p.receive_max.unwrap_or(u16::MAX).max(1);
        greeting.packet_bytes_max = p.max_packet_size;
        greeting.qos_max = match p.max_qos {
            Some(0) => Qos::AtMostOnce,
            Some(1) => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        };
        greeting.retains = p.retain_available != Some(0);
        greeting.keep_alive_us = p.server_keep_alive.map(|s| u64::from(s) * SECOND_US);
    }
    Ok(Ok(greeting))
}

const NO_GREETING: Garbage = Garbage("an answer to the connection that cannot be read");

impl Greeting {
    /// Of a broker that says nothing of itself.
    pub(super) fn old(session: bool) -> Self {
        Self {
            session,
            receive_max: u16::MAX,
            packet_bytes_max: None,
            qos_max: Qos::ExactlyOnce,
            retains: true,
            keep_alive_us: None,
        }
    }
}

/// The answer of a broker that speaks an older version than we do.
fn old_refusal(body: &[u8]) -> String {
    match body {
        [_, 1] => "the broker does not speak MQTT 5: set version = \"3.1.1\"".to_owned(),
        [_, code] if *code > 1 => {
            format!("the broker refuses the connection (code {code} of MQTT 3.1.1)")
        }
        _ => "the broker answers in MQTT 3.1.1: set version = \"3.1.1\"".to_owned(),
    }
}

/// Why the broker goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Another client came with the same id.
    pub(super) taken_over: bool,
    /// It does not like what it was sent.
    pub(super) is_rebuke: bool,
    pub(super) why: String,
}

/// Reads a whole packet with which the broker goes.
pub(super) fn farewell(packet: &[u8]) -> Result<Farewell, Garbage> {
    let (code, text) = match packet {
        // The codec does not know the short forms.
        [_, 0] => (0, None),
        [_, 1, code] => (*code, None),
        _ => {
            let read = v5::Packet::read(&mut BytesMut::from(packet), None);
            let Ok(v5::Packet::Disconnect(packet)) = read else {
                return Err(Garbage("a farewell that cannot be read"));
            };
            let text = packet.properties.and_then(|p| p.reason_string);
            (packet.reason_code as u8, text.map(|why| format!(" ({why})")))
        }
    };
    let code = v5::DisconnectReasonCode::try_from(code)
        .map_err(|_| Garbage("a farewell for an unknown reason"))?;
    let (said, text) = (words(&code), text.unwrap_or_default());
    let why = format!("the broker ended the connection: {said}{text}");
    use v5::DisconnectReasonCode as Code;
    let is_rebuke = matches!(
        code,
        Code::UnspecifiedError
            | Code::MalformedPacket
            | Code::ProtocolError
            | Code::ImplementationSpecificError
            | Code::NotAuthorized
            | Code::TopicNameInvalid
            | Code::PacketTooLarge
            | Code::PayloadFormatInvalid
            | Code::RetainNotSupported
    );
    Ok(Farewell { taken_over: code == Code::SessionTakenOver, is_rebuke, why })
}

/// `NotAuthorized` as "not authorized".
fn words(code: &impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_behind_a_header_are_read_without_a_panic(
            body in prop::collection::vec(any::<u8>(), 0..100),
            first in prop::sample::select(vec![0x20_u8, 0xE0]),
        ) {
            let mut packet = vec![first, body.len() as u8];
            packet.extend_from_slice(&body);
            for version in [MqttVersion::V311, MqttVersion::V5] {
                let _ = greeting(&packet, version);
            }
            let _ = farewell(&packet);
        }
    }

    #[test]
    fn refusals_are_told_in_words_and_with_what_to_do() {
        let refused = |packet: &[u8], version| greeting(packet, version).unwrap().unwrap_err();
        let v5 = MqttVersion::V5;
        assert!(refused(&[0x20, 2, 0, 1], v5).ends_with("set version = \"3.1.1\""));
        let expected = "the broker refuses the connection: not authorized";
        assert_eq!(refused(&[0x20, 2, 0, 5], MqttVersion::V311), expected);
        assert_eq!(refused(&[0x20, 3, 0, 0x87, 0], v5), expected);
        assert_eq!(
            refused(&[0x20, 10, 0, 0x87, 7, 0x1f, 0, 4, b'n', b'o', b'p', b'e'], v5),
            "the broker refuses the connection: not authorized (nope)"
        );
    }

    #[test]
    fn a_broker_says_what_it_takes() {
        let packet = [0x20, 17, 1, 0, 14, 0x21, 0, 20, 0x27, 0, 0, 4, 0, 0x24, 1, 0x25, 0, 0x13, 0];
        // The last property lacks a byte: garbage, not a guess.
        assert!(greeting(&packet, MqttVersion::V5).is_err());
        let mut packet = packet.to_vec();
        packet.push(60);
        packet[1] += 1;
        packet[4] += 1;
        let found = greeting(&packet, MqttVersion::V5).unwrap().unwrap();
        assert_eq!(
            found,
            Greeting {
                session: true,
                receive_max: 20,
                packet_bytes_max: Some(1024),
                qos_max: Qos::AtLeastOnce,
                retains: false,
                keep_alive_us: Some(60_000_000),
            }
        );
    }

    #[test]
    fn a_taken_session_is_told_apart() {
        assert!(farewell(&[0xE0, 2, 0x8E, 0]).unwrap().taken_over);
        assert!(farewell(&[0xE0, 1, 0x8E]).unwrap().taken_over);
        assert!(farewell(&[0xE0, 1, 0x82]).unwrap().is_rebuke);
        assert!(farewell(&[0xE0, 0]).unwrap().why.ends_with("normal disconnection"));
        let shutdown = farewell(&[0xE0, 2, 0x8B, 0]).unwrap();
        assert_eq!(shutdown.why, "the broker ended the connection: server shutting down");
        assert!(!shutdown.taken_over && !shutdown.is_rebuke);
    }
}
