//! MQTT as far as a listener speaks it: packets of both versions, in rumqttc's
//! codec where a packet has more than a few bytes.
//!
//! Of a publication the topic and what tells a repeated one are kept, not the
//! payload: however long it is, [`KEPT_BYTES`] bound what a packet takes.

use bytes::BytesMut;
use ringmain_config::{MqttClient, MqttTopic, MqttVersion, Qos};
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};
use xxhash_rust::xxh3::Xxh3;

/// The first bytes of a packet: a topic, and some of what follows.
const KEPT_BYTES: usize = 72 << 10;
/// Why a packet can be made: the configuration was checked for lengths.
const FITS: &str = "what the configuration holds fits a packet";
const SECOND_US: u64 = 1_000_000;

/// What a broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Welcome {
        /// It knows the session.
        session: bool,
        /// Its own keep-alive, which replaces ours.
        keep_alive_us: Option<u64>,
    },
    /// It does not let us in.
    Refusal(String),
    /// The answer to a subscription: which filters it refuses.
    Subscribed(Vec<usize>),
    Publication(Publication),
    /// The second step of QoS 2.
    Released(u16),
    Pong,
    /// It ends the connection.
    Farewell(String),
    /// Nothing that matters.
    Other,
}

/// A message, without what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) qos: u8,
    /// Its number; 0 with QoS 0.
    pub(super) id: u16,
    /// It may have been sent before.
    pub(super) again: bool,
    /// The broker had it before somebody subscribed.
    pub(super) retained: bool,
    /// Of topic and payload.
    pub(super) hash: u64,
}

/// What came is not what a broker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage(pub(super) &'static str);

/// Cuts what comes into packets.
#[derive(Debug)]
pub(super) struct Reader {
    version: MqttVersion,
    head: Vec<u8>,
    /// How long the packet is behind its head, once that is known.
    length: Option<usize>,
    body: Vec<u8>,
    passed: usize,
}

impl Reader {
    pub(super) fn new(version: MqttVersion) -> Self {
        Self { version, head: Vec::new(), length: None, body: Vec::new(), passed: 0 }
    }

    /// Takes bytes until a packet is whole; `None` when there are no more.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Said>, Garbage> {
        while self.length.is_none() {
            let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
            *bytes = rest;
            self.head.push(*first);
            if self.head.len() > 1 && first & 0x80 == 0 {
                let (length, _) = varint(&self.head[1..])?;
                self.length = Some(length);
            } else if self.head.len() == 5 {
                return Err(Garbage("a packet without a length"));
            }
        }
        let length = self.length.unwrap_or(0);
        let (now, rest) = bytes.split_at(bytes.len().min(length - self.passed));
        *bytes = rest;
        let room = KEPT_BYTES - self.body.len();
        self.body.extend_from_slice(&now[..now.len().min(room)]);
        self.passed += now.len();
        if self.passed < length {
            return Ok(None);
        }
        let said = self.said(length);
        self.head.clear();
        self.body.clear();
        (self.length, self.passed) = (None, 0);
        said.map(Some)
    }

    fn said(&self, length: usize) -> Result<Said, Garbage> {
        let first = self.head[0];
        if first >> 4 == 3 {
            return self.publication(first, length).map(Said::Publication);
        }
        if length > self.body.len() {
            return Err(Garbage("a packet that is too long"));
        }
        match first >> 4 {
            2 => self.greeting(),
            6 => Ok(Said::Released(number(&self.body)?)),
            9 => self.subscribed(),
            11 => Ok(Said::Other),
            13 => Ok(Said::Pong),
            14 => self.farewell().map(Said::Farewell),
            _ => Err(Garbage("a packet that no broker sends")),
        }
    }

    fn whole(&self) -> BytesMut {
        [&self.head[..], &self.body[..]].concat().as_slice().into()
    }

    fn greeting(&self) -> Result<Said, Garbage> {
        const NONE: Garbage = Garbage("an answer to the connection that cannot be read");
        let [flags, code, ..] = self.body[..] else { return Err(NONE) };
        let refusal = |why: String| Said::Refusal(format!("the broker refuses: {why}"));
        if self.version == MqttVersion::V311 {
            let Ok(v4::Packet::ConnAck(ack)) = v4::Packet::read(&mut self.whole(), usize::MAX)
            else {
                return Err(NONE);
            };
            return Ok(match ack.code {
                v4::ConnectReturnCode::Success => {
                    Said::Welcome { session: flags & 1 == 1, keep_alive_us: None }
                }
                code => refusal(words(&code)),
            });
        }
        if self.body.len() == 2 {
            return Ok(match code {
                0 | 1 => refusal("it speaks MQTT 3.1.1: set version = \"3.1.1\"".to_owned()),
                code => refusal(format!("code {code} of MQTT 3.1.1")),
            });
        }
        let Ok(v5::Packet::ConnAck(ack)) = v5::Packet::read(&mut self.whole(), None) else {
            return Err(NONE);
        };
        let properties = ack.properties;
        if ack.code != v5::ConnectReturnCode::Success {
            let text = properties.and_then(|p| p.reason_string).map(|why| format!(" ({why})"));
            return Ok(refusal(words(&ack.code) + &text.unwrap_or_default()));
        }
        let keep_alive = properties.and_then(|p| p.server_keep_alive);
        let keep_alive_us = keep_alive.map(|seconds| u64::from(seconds) * SECOND_US);
        Ok(Said::Welcome { session: ack.session_present, keep_alive_us })
    }

    fn subscribed(&self) -> Result<Said, Garbage> {
        const NONE: Garbage = Garbage("an answer to a subscription that cannot be read");
        let mut codes = self.body.get(2..).ok_or(NONE)?;
        if self.version == MqttVersion::V5 {
            let (length, bytes) = varint(codes)?;
            codes = codes.get(bytes + length..).ok_or(NONE)?;
        }
        let refused = codes.iter().enumerate().filter(|(_, code)| **code >= 0x80);
        Ok(Said::Subscribed(refused.map(|(at, _)| at).collect()))
    }

    fn farewell(&self) -> Result<String, Garbage> {
        let (code, text) = match self.body[..] {
            // The codec does not know the short forms.
            [] => (0, None),
            [code] => (code, None),
            _ => match v5::Packet::read(&mut self.whole(), None) {
                Ok(v5::Packet::Disconnect(said)) => {
                    let text = said.properties.and_then(|p| p.reason_string);
                    (said.reason_code as u8, text.map(|why| format!(" ({why})")))
                }
                _ => return Err(Garbage("a farewell that cannot be read")),
            },
        };
        use v5::DisconnectReasonCode as Code;
        let code = Code::try_from(code);
        let code = code.map_err(|_| Garbage("a farewell for an unknown reason"))?;
        if code == Code::SessionTakenOver {
            return Ok("another client came with the same client_id; give each its own".to_owned());
        }
        let (said, text) = (words(&code), text.unwrap_or_default());
        Ok(format!("the broker ended the connection: {said}{text}"))
    }

    fn publication(&self, first: u8, length: usize) -> Result<Publication, Garbage> {
        const NONE: Garbage = Garbage("a publication that cannot be read");
        let qos = first >> 1 & 3;
        let (topic_bytes, body) = (usize::from(number(&self.body)?), &self.body[2..]);
        let topic = body.get(..topic_bytes).ok_or(NONE)?;
        let topic = str::from_utf8(topic).map_err(|_| NONE)?;
        if topic.is_empty() || qos == 3 {
            return Err(NONE);
        }
        let mut rest = &body[topic_bytes..];
        let mut id = 0;
        if qos > 0 {
            id = number(rest)?;
            rest = &rest[2..];
        }
        if self.version == MqttVersion::V5 {
            // A broker may change properties when it sends again.
            let (properties, bytes) = varint(rest)?;
            rest = rest.get(bytes + properties..).unwrap_or(&[]);
        }
        let mut hash = Xxh3::new();
        hash.update(topic.as_bytes());
        hash.update(rest);
        if length > self.body.len() {
            hash.update(&length.to_le_bytes());
        }
        Ok(Publication {
            topic: topic.to_owned(),
            qos,
            id,
            again: first & 8 != 0,
            retained: first & 1 == 1,
            hash: hash.digest(),
        })
    }
}

/// A number of two bytes.
fn number(bytes: &[u8]) -> Result<u16, Garbage> {
    match bytes {
        [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(Garbage("a packet that is too short")),
    }
}

/// A number of one to four bytes, and how many they are.
fn varint(bytes: &[u8]) -> Result<(usize, usize), Garbage> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, at + 1));
        }
    }
    Err(Garbage("a packet with a broken length"))
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

/// Asks to be let in.
pub(super) fn connect(plan: &MqttClient, clean: bool) -> Vec<u8> {
    let keep_alive = u16::try_from(plan.keep_alive_us.div_ceil(SECOND_US)).unwrap_or(u16::MAX);
    let username = plan.username.clone().unwrap_or_default();
    let password = plan.password.as_ref().map(|secret| secret.reveal().to_owned());
    let has_login = plan.username.is_some() || password.is_some();
    let password = password.unwrap_or_default();
    let mut out = BytesMut::new();
    if plan.version == MqttVersion::V311 {
        let mut packet = v4::Connect::new(plan.client_id.as_str());
        (packet.keep_alive, packet.clean_session) = (keep_alive, clean);
        packet.last_will = plan.last_will.as_ref().map(|will| {
            v4::LastWill::new(&will.topic, will.payload.as_bytes(), qos4(will.qos), will.retain)
        });
        packet.login = has_login.then_some(v4::Login { username, password });
        packet.write(&mut out).expect(FITS);
        return out.to_vec();
    }
    let mut properties = v5::ConnectProperties::new();
    let expiry = plan.session_expiry_us.div_ceil(SECOND_US);
    properties.session_expiry_interval = Some(u32::try_from(expiry).unwrap_or(u32::MAX));
    properties.receive_maximum = Some(plan.max_inflight);
    let packet = v5::Connect {
        keep_alive,
        client_id: plan.client_id.value.clone(),
        clean_start: clean,
        properties: Some(properties),
    };
    let will = plan.last_will.as_ref().map(|will| {
        let payload = will.payload.as_bytes().to_vec();
        v5::LastWill::new(will.topic.as_str(), payload, qos5(will.qos), will.retain, None)
    });
    let login = has_login.then_some(v5::Login { username, password });
    packet.write(&will, &login, &mut out).expect(FITS);
    out.to_vec()
}

/// Subscribes, without the messages that the broker has retained where it can
/// be told so.
pub(super) fn subscribe(topics: &[MqttTopic], version: MqttVersion) -> Vec<u8> {
    let mut out = BytesMut::new();
    if version == MqttVersion::V311 {
        let filter = |t: &MqttTopic| v4::SubscribeFilter::new(t.filter.value.clone(), qos4(t.qos));
        let mut packet = v4::Subscribe::new_many(topics.iter().map(filter));
        packet.pkid = 1;
        packet.write(&mut out).expect(FITS);
    } else {
        let filter = |t: &MqttTopic| {
            let mut filter = v5::Filter::new(t.filter.value.clone(), qos5(t.qos));
            filter.retain_forward_rule = v5::RetainForwardRule::Never;
            filter
        };
        let mut packet = v5::Subscribe::new_many(topics.iter().map(filter), None);
        packet.pkid = 1;
        packet.write(&mut out).expect(FITS);
    }
    out.to_vec()
}

/// Takes subscriptions back.
pub(super) fn unsubscribe(filters: Vec<String>, version: MqttVersion) -> Vec<u8> {
    let mut out = BytesMut::new();
    if version == MqttVersion::V311 {
        v4::Unsubscribe { pkid: 2, topics: filters }.write(&mut out).expect(FITS);
    } else {
        v5::Unsubscribe { pkid: 2, filters, properties: None }.write(&mut out).expect(FITS);
    }
    out.to_vec()
}

/// PUBACK, or PUBREC.
pub(super) fn acknowledge(qos: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [if qos == 2 { 0x50 } else { 0x40 }, 2, high, low]
}

/// PUBCOMP.
pub(super) fn complete(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x70, 2, high, low]
}

pub(super) const PING: [u8; 2] = [0xC0, 0];

/// The last packet. `for_good`: the session is not needed any more.
pub(super) fn disconnect(version: MqttVersion, for_good: bool) -> &'static [u8] {
    match version {
        MqttVersion::V5 if for_good => &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0],
        _ => &[0xE0, 0],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(version: MqttVersion, bytes: &[u8]) -> Result<Vec<Said>, Garbage> {
        let (mut reader, mut said) = (Reader::new(version), Vec::new());
        // In pieces of one byte, as the worst network would.
        for byte in bytes {
            said.extend(reader.take(&mut &[*byte][..])?);
        }
        Ok(said)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_alike_in_any_pieces(
            packets in prop::collection::vec(
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 1..5),
            cut in 1_usize..40,
        ) {
            let bytes: Vec<u8> = packets.iter().flat_map(|(first, body)| {
                [&[*first, body.len() as u8][..], body].concat()
            }).collect();
            for version in [MqttVersion::V311, MqttVersion::V5] {
                let (mut reader, mut said) = (Reader::new(version), Vec::new());
                let mut result = Ok(());
                'all: for mut piece in bytes.chunks(cut) {
                    loop {
                        match reader.take(&mut piece) {
                            Ok(Some(more)) => said.push(more),
                            Ok(None) => break,
                            Err(garbage) => { result = Err(garbage); break 'all; }
                        }
                    }
                }
                prop_assert_eq!(result.map(|()| said), read(version, &bytes));
            }
        }
    }

    #[test]
    fn a_publication_is_known_again_whatever_its_flags_and_properties() {
        let message = |first: u8, properties: &[u8], payload: &str| {
            let body = [&[0, 1, b't', 0, 7][..], properties, payload.as_bytes()].concat();
            let packet = [&[first, body.len() as u8][..], &body].concat();
            match read(MqttVersion::V5, &packet).unwrap().remove(0) {
                Said::Publication(publication) => publication,
                other => panic!("{other:?}"),
            }
        };
        let first = message(0x32, &[5, 2, 0, 0, 0, 9], "go");
        assert_eq!((first.topic.as_str(), first.qos, first.id), ("t", 1, 7));
        assert!(!first.again && !first.retained);
        let again = message(0x3B, &[5, 2, 0, 0, 0, 3], "go");
        assert!(again.again && again.retained);
        assert_eq!(first.hash, again.hash);
        assert_ne!(first.hash, message(0x32, &[0], "no").hash);
    }

    #[test]
    fn a_payload_without_end_is_read_and_not_kept() {
        let mut reader = Reader::new(MqttVersion::V311);
        // 256 MiB less one byte, the longest that there is.
        let mut bytes: &[u8] = &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't'];
        assert_eq!(reader.take(&mut bytes), Ok(None));
        let (piece, mut left) = (vec![b'x'; 1 << 20], 268_435_455 - 3);
        let said = loop {
            let mut bytes = &piece[..piece.len().min(left)];
            left -= bytes.len();
            if let Some(said) = reader.take(&mut bytes).unwrap() {
                break said;
            }
            assert!(reader.body.capacity() <= 2 * KEPT_BYTES && left > 0);
        };
        assert!(matches!(said, Said::Publication(p) if p.topic == "t"));
        assert_eq!(left, 0);
    }

    #[test]
    fn answers_are_told_in_words() {
        let five = |bytes: &[u8]| read(MqttVersion::V5, bytes).unwrap().remove(0);
        let welcome = Said::Welcome { session: true, keep_alive_us: Some(5_000_000) };
        assert_eq!(five(&[0x20, 6, 1, 0, 3, 0x13, 0, 5]), welcome);
        let refused = |text: &str| Said::Refusal(format!("the broker refuses: {text}"));
        assert_eq!(five(&[0x20, 3, 0, 0x87, 0]), refused("not authorized"));
        assert_eq!(
            five(&[0x20, 2, 0, 1]),
            refused("it speaks MQTT 3.1.1: set version = \"3.1.1\"")
        );
        assert_eq!(five(&[0x90, 5, 0, 1, 0, 1, 0x87]), Said::Subscribed(vec![1]));
        assert_eq!(
            five(&[0xE0, 1, 0x8B]),
            Said::Farewell("the broker ended the connection: server shutting down".into())
        );
        assert!(matches!(five(&[0xE0, 2, 0x8E, 0]), Said::Farewell(why) if why.contains("same")));
        let old = read(MqttVersion::V311, &[0x20, 2, 0, 5, 0x90, 3, 0, 1, 0x80]).unwrap();
        assert_eq!(old, [refused("not authorized"), Said::Subscribed(vec![0])]);
    }
}
