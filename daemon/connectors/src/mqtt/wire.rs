//! Packets as bytes: what a broker sends cut apart, and the packets that come
//! and go once per message.
//!
//! Publishing and acknowledging are read and written in place, without an
//! allocation. Everything else of the protocol is in [`super::control`].
//!
//! Invariant: whatever the bytes are, reading them ends in a packet, in "more
//! bytes are needed" or in [`Garbage`]; a packet that is none of a broker's is
//! known by its first byte.

use ringmain_config::plan::{MqttVersion, Qos};

/// The least that is said of bytes that are not MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Garbage(pub(super) &'static str);

/// Longest header: a byte, and a length of four.
pub(super) const HEADER_BYTES_MAX: usize = 5;

const PUBLISH: u8 = 0x30;
const UNSUBSCRIBE: u8 = 0xA2;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];
/// The flag of a publication that is sent again.
pub(super) const DUP: u8 = 0x08;

/// Packets that a broker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    SubAck,
    UnsubAck,
    PingResp,
    Disconnect,
}

/// What the first bytes of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) first: u8,
    /// Bytes of the header itself.
    pub(super) bytes: usize,
    /// Bytes behind it.
    pub(super) body_bytes: usize,
}

impl Header {
    pub(super) fn total(self) -> usize {
        self.bytes + self.body_bytes
    }
}

/// The header that `bytes` begin with; `None` when it is not complete.
pub(super) fn header(bytes: &[u8], version: MqttVersion) -> Result<Option<Header>, Garbage> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let kind = kind(*first, version)?;
    let Some((body_bytes, len)) = varint(&bytes[1..])? else { return Ok(None) };
    Ok(Some(Header { kind, first: *first, bytes: 1 + len, body_bytes }))
}

fn kind(first: u8, version: MqttVersion) -> Result<Kind, Garbage> {
    Ok(match first {
        0x20 => Kind::ConnAck,
        0x30..=0x3f if first & 0x06 == 0x06 => return Err(Garbage("a publication of QoS 3")),
        0x30..=0x3f => Kind::Publish,
        PUBACK => Kind::PubAck,
        PUBREC => Kind::PubRec,
        PUBREL => Kind::PubRel,
        PUBCOMP => Kind::PubComp,
        0x90 => Kind::SubAck,
        0xB0 => Kind::UnsubAck,
        0xD0 => Kind::PingResp,
        0xE0 if version == MqttVersion::V5 => Kind::Disconnect,
        _ => return Err(Garbage("the first byte is of no packet that a broker sends")),
    })
}

/// A length of up to four bytes, and how many they were.
fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Garbage> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Garbage("a length of more than four bytes")) }
}

/// Greatest length that a packet can tell.
pub(super) const BODY_BYTES_MAX: usize = 268_435_455;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value <= BODY_BYTES_MAX);
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = text.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// A publication, in the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: Qos,
    /// 0 for QoS 0.
    pub(super) id: u16,
    pub(super) payload: &'a [u8],
}

/// Reads the body of a publication.
pub(super) fn publish(
    first: u8,
    body: &[u8],
    version: MqttVersion,
) -> Result<Publish<'_>, Garbage> {
    let (topic, qos, id, rest) = publish_head(first, body)?;
    let payload = match version {
        MqttVersion::V311 => rest,
        MqttVersion::V5 => behind_properties(rest)?,
    };
    Ok(Publish { topic, qos, id, payload })
}

/// Topic, quality, id and what follows them, of a body that may lack its end.
pub(super) fn publish_head(first: u8, body: &[u8]) -> Result<(&str, Qos, u16, &[u8]), Garbage> {
    let (len, rest) = number(body)?;
    let topic = rest.get(..usize::from(len)).ok_or(Garbage("a topic beyond its packet"))?;
    let mut rest = &rest[usize::from(len)..];
    let topic = std::str::from_utf8(topic).map_err(|_| Garbage("a topic that is not UTF-8"))?;
    if topic.is_empty() {
        // An alias would be behind it; none was allowed.
        return Err(Garbage("a publication without a topic"));
    }
    let qos = match first & 0x06 {
        0 => Qos::AtMostOnce,
        2 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    };
    let mut id = 0;
    if qos != Qos::AtMostOnce {
        (id, rest) = number(rest)?;
        if id == 0 {
            return Err(Garbage("a packet id of 0"));
        }
    }
    Ok((topic, qos, id, rest))
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Garbage> {
    match bytes {
        [high, low, rest @ ..] => Ok((u16::from_be_bytes([*high, *low]), rest)),
        _ => Err(Garbage("a packet that is too short")),
    }
}

pub(super) fn behind_properties(bytes: &[u8]) -> Result<&[u8], Garbage> {
    let (len, at) = varint(bytes)?.ok_or(Garbage("properties that are too short"))?;
    bytes.get(at + len..).ok_or(Garbage("properties beyond their packet"))
}

/// Id and reason of an acknowledgement of any kind.
pub(super) fn ack(body: &[u8]) -> Result<(u16, u8), Garbage> {
    let (id, rest) = number(body)?;
    Ok((id, rest.first().copied().unwrap_or(0)))
}

/// Id and reasons of the acknowledgement of a subscription.
pub(super) fn suback(body: &[u8], version: MqttVersion) -> Result<(u16, &[u8]), Garbage> {
    let (id, rest) = number(body)?;
    let reasons = match version {
        MqttVersion::V311 => rest,
        MqttVersion::V5 => behind_properties(rest)?,
    };
    Ok((id, reasons))
}

fn put_ack(out: &mut Vec<u8>, first: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// A packet that takes subscriptions back.
pub(super) fn put_unsubscribe(
    out: &mut Vec<u8>,
    id: u16,
    filters: &[String],
    version: MqttVersion,
) {
    let properties = usize::from(version == MqttVersion::V5);
    let body: usize = filters.iter().map(|filter| 2 + filter.len()).sum();
    out.push(UNSUBSCRIBE);
    put_varint(out, 2 + properties + body);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0][..properties]);
    for filter in filters {
        put_string(out, filter);
    }
}

pub(super) fn put_puback(out: &mut Vec<u8>, id: u16) {
    put_ack(out, PUBACK, id);
}

pub(super) fn put_pubrec(out: &mut Vec<u8>, id: u16) {
    put_ack(out, PUBREC, id);
}

pub(super) fn put_pubrel(out: &mut Vec<u8>, id: u16) {
    put_ack(out, PUBREL, id);
}

pub(super) fn put_pubcomp(out: &mut Vec<u8>, id: u16) {
    put_ack(out, PUBCOMP, id);
}

/// Appends a whole publication. `properties` are those of MQTT 5, their length
/// not among them; `None` for 3.1.1. The caller has seen to the lengths.
pub(super) fn put_publish(
    out: &mut Vec<u8>,
    message: Publish<'_>,
    retain: bool,
    properties: Option<&[u8]>,
) {
    let Publish { topic, qos, id, payload } = message;
    let id_bytes = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let properties_bytes = properties.map_or(0, |p| varint_bytes(p.len()) + p.len());
    out.push(PUBLISH | (qos as u8) << 1 | u8::from(retain));
    put_varint(out, 2 + topic.len() + id_bytes + properties_bytes + payload.len());
    put_string(out, topic);
    if id_bytes > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if let Some(properties) = properties {
        put_varint(out, properties.len());
        out.extend_from_slice(properties);
    }
    out.extend_from_slice(payload);
}

fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// What a broker means by a reason of refusal.
pub(super) fn reason(code: u8) -> &'static str {
    match code {
        0x80 => "without a reason",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "for a reason of its own",
        0x87 => "not authorized",
        0x8F => "invalid topic filter",
        0x90 => "invalid topic",
        0x91 => "packet id in use",
        0x92 => "unknown packet id",
        0x97 => "quota exceeded",
        0x99 => "payload not of the announced format",
        0x9E => "no shared subscriptions there",
        0xA1 => "no subscription ids there",
        0xA2 => "no wildcards there",
        _ => "for an unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::mqttbytes::v4;
    use rumqttc::v5::mqttbytes::v5;

    use super::*;

    const BOTH: [MqttVersion; 2] = [MqttVersion::V311, MqttVersion::V5];

    /// Everything that is done with bytes from a broker.
    fn read(bytes: &[u8], version: MqttVersion) {
        let Ok(Some(header)) = header(bytes, version) else { return };
        let body = bytes.get(header.bytes..header.total()).unwrap_or(&bytes[header.bytes..]);
        let _ = publish(header.first, body, version);
        let _ = publish_head(header.first, body);
        let _ = ack(body);
        let _ = suback(body, version);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            BOTH.iter().for_each(|version| read(&bytes, *version));
        }

        #[test]
        fn a_publication_is_what_another_implementation_reads(
            topic in "[a-z/]{1,40}",
            qos in 0_u8..3,
            id in 1_u16..,
            retain: bool,
            payload in prop::collection::vec(any::<u8>(), 0..400),
            content_type in prop::option::of("[a-z/]{0,200}"),
        ) {
            let level = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(qos)];
            let id = if qos == 0 { 0 } else { id };
            let message = Publish { topic: &topic, qos: level, id, payload: &payload };
            let mut properties = Vec::new();
            if let Some(text) = &content_type {
                properties.push(3);
                put_string(&mut properties, text);
            }
            for version in BOTH {
                let mut bytes = Vec::new();
                let beside = (version == MqttVersion::V5).then_some(&properties[..]);
                put_publish(&mut bytes, message, retain, beside);
                let header = header(&bytes, version).unwrap().unwrap();
                prop_assert_eq!(header.total(), bytes.len());
                let mine = publish(header.first, &bytes[header.bytes..], version);
                prop_assert_eq!(mine, Ok(message));
                let mut stream = bytes::BytesMut::from(&bytes[..]);
                if version == MqttVersion::V5 {
                    let packet = v5::Packet::read(&mut stream, None).unwrap();
                    let v5::Packet::Publish(theirs) = packet else { panic!("{packet:?}") };
                    prop_assert_eq!(&theirs.topic[..], topic.as_bytes());
                    prop_assert_eq!(&theirs.payload[..], &payload[..]);
                    prop_assert_eq!((theirs.pkid, theirs.retain), (id, retain));
                    let found = theirs.properties.and_then(|p| p.content_type);
                    prop_assert_eq!(&found, &content_type);
                } else {
                    let packet = v4::Packet::read(&mut stream, usize::MAX).unwrap();
                    let v4::Packet::Publish(theirs) = packet else { panic!("{packet:?}") };
                    prop_assert_eq!(&theirs.topic, &topic);
                    prop_assert_eq!(&theirs.payload[..], &payload[..]);
                    prop_assert_eq!((theirs.pkid, theirs.retain), (id, retain));
                }
            }
        }
    }

    #[test]
    fn what_is_no_packet_of_a_broker_is_known_by_its_first_byte() {
        for text in ["HTTP/1.1 400", "SSH-2.0", "\x15\x03\x03", "\0", "\x10\x0c", "\u{7f}ELF"] {
            for version in BOTH {
                assert!(header(text.as_bytes(), version).is_err(), "{text:?}");
            }
        }
        assert!(header(&[0x36, 0], MqttVersion::V5).is_err(), "QoS 3");
        assert!(header(&[0x30, 0xff, 0xff, 0xff, 0xff], MqttVersion::V5).is_err());
        assert_eq!(header(&[0x30, 0xff, 0xff, 0xff], MqttVersion::V5), Ok(None));
        assert_eq!(header(&[], MqttVersion::V5), Ok(None));
    }

    #[test]
    fn a_publication_that_contradicts_itself_is_garbage() {
        for (first, body) in [
            (0x30, &b"\x00\x05ab"[..]),
            (0x30, b"\x00"),
            (0x30, b"\x00\x00payload"),
            (0x30, b"\x00\x01\xff"),
            (0x32, b"\x00\x01a\x00\x00x"),
            (0x32, b"\x00\x01a\x00"),
        ] {
            assert!(publish(first, body, MqttVersion::V311).is_err(), "{body:?}");
        }
        assert!(publish(0x30, b"\x00\x01a\x05ab", MqttVersion::V5).is_err(), "properties");
    }
}
