//! A listener's session with its broker, over as many connections as it takes:
//! bytes in, messages and bytes out. No I/O, no clock.
//!
//! Invariants:
//! - A message of QoS 1 or 2 is acknowledged after [`Session::acknowledge`],
//!   never before.
//! - One that comes again in the same session is told to nobody a second time,
//!   as long as the broker may not have had its acknowledgement: that is known
//!   from the answer to a ping which was sent behind it. What the broker sends
//!   with an id that it was free to use again is a new message.
//! - What is remembered is bounded by what the broker may have under way.

use std::sync::Arc;

use ringmain_config::{MqttTrigger, MqttVersion};

use super::wire::{self, Publication, Reader, Said};

/// What comes of what was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The broker has let us in; with how it keeps the connection alive.
    Up { keep_alive_us: u64 },
    /// It listens for us.
    Subscribed,
    /// A message to tell; with QoS 1 or 2 its number for the acknowledgement.
    Message { serial: Option<u64>, topic: String },
    /// A message that begins nothing: retained, come again, or of a topic that
    /// nobody asked for.
    PassedOver,
}

/// A message of QoS 1 or 2 that the broker may still have.
struct Known {
    serial: u64,
    id: u16,
    qos: u8,
    hash: u64,
    /// It has come on the connection of now.
    here: bool,
    /// How many acknowledgements had been sent with its own; 0 before.
    answered: u64,
    /// It may be acknowledged.
    done: bool,
}

pub(super) struct Session {
    plan: Arc<MqttTrigger>,
    /// Filters of an earlier configuration, to be taken back.
    former: Vec<String>,
    reader: Reader,
    known: Vec<Known>,
    serial: u64,
    /// Acknowledgements that were sent.
    answers: u64,
    /// How many had been sent when the ping was that is under way.
    ping: Option<u64>,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
}

impl Session {
    pub(super) fn new(plan: Arc<MqttTrigger>, former: Vec<String>) -> Self {
        let reader = Reader::new(plan.client.version);
        let (known, out) = (Vec::new(), Vec::new());
        Self { plan, former, reader, known, serial: 0, answers: 0, ping: None, out }
    }

    fn version(&self) -> MqttVersion {
        self.plan.client.version
    }

    /// A new connection: asks to be let in.
    pub(super) fn begin(&mut self, clean: bool) {
        self.reader = Reader::new(self.version());
        self.ping = None;
        self.known.iter_mut().for_each(|known| known.here = false);
        self.out = wire::connect(&self.plan.client, clean);
    }

    /// Takes up what has come.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        loop {
            let said = self.reader.take(&mut bytes);
            let said = said.map_err(|garbage| format!("what came is not MQTT: {}", garbage.0))?;
            let Some(said) = said else { return Ok(()) };
            match said {
                Said::Welcome { session, keep_alive_us } => {
                    self.welcome(session);
                    let own_us = self.plan.client.keep_alive_us;
                    events.push(Event::Up { keep_alive_us: keep_alive_us.unwrap_or(own_us) });
                }
                Said::Subscribed(refused) => match refused.first() {
                    None => events.push(Event::Subscribed),
                    Some(at) => {
                        let filter = self.plan.topics.get(*at).map_or("?", |t| &t.filter);
                        return Err(format!("the broker refuses a subscription to '{filter}'"));
                    }
                },
                Said::Publication(publication) => {
                    let event = self.publication(publication);
                    events.push(event);
                }
                Said::Released(id) => {
                    self.known.retain(|known| known.qos != 2 || known.id != id);
                    self.out.extend_from_slice(&wire::complete(id));
                }
                Said::Pong => self.pong(),
                Said::Refusal(why) | Said::Farewell(why) => return Err(why),
                Said::Other => {}
            }
        }
    }

    fn welcome(&mut self, session: bool) {
        if session {
            if !self.former.is_empty() {
                let former = std::mem::take(&mut self.former);
                self.out.extend_from_slice(&wire::unsubscribe(former, self.version()));
            }
        } else {
            // Its numbers begin anew, and nothing of before comes again.
            self.known.clear();
        }
        self.out.extend_from_slice(&wire::subscribe(&self.plan.topics, self.version()));
    }

    fn publication(&mut self, found: Publication) -> Event {
        let Publication { topic, qos, id, again, retained, hash } = found;
        if qos > 0 && self.is_known(id, qos, again, hash) {
            return Event::PassedOver;
        }
        let wanted = !retained && self.plan.topics.iter().any(|filter| filter.means(&topic));
        if qos == 0 {
            return if wanted { Event::Message { serial: None, topic } } else { Event::PassedOver };
        }
        self.serial += 1;
        let serial = self.serial;
        self.known.push(Known { serial, id, qos, hash, here: true, answered: 0, done: false });
        if wanted {
            return Event::Message { serial: Some(serial), topic };
        }
        self.acknowledge(serial);
        Event::PassedOver
    }

    /// Whether it has come before; then its acknowledgement is sent again as
    /// soon as it is due.
    fn is_known(&mut self, id: u16, qos: u8, again: bool, hash: u64) -> bool {
        let Some(at) = self.known.iter().position(|known| known.id == id) else { return false };
        let known = &mut self.known[at];
        if (again || known.qos == 2) && known.hash == hash && known.qos == qos {
            known.here = true;
            if known.done {
                self.answer(at);
            }
            return true;
        }
        // The broker has used the number again, so it has had the answer.
        self.known.remove(at);
        false
    }

    /// What a message was to begin is on record.
    pub(super) fn acknowledge(&mut self, serial: u64) {
        let at = self.known.iter().position(|known| known.serial == serial);
        // The broker may have forgotten the session since.
        let Some(at) = at else { return };
        self.known[at].done = true;
        if self.known[at].here {
            self.answer(at);
        }
    }

    fn answer(&mut self, at: usize) {
        let known = &mut self.known[at];
        self.answers += 1;
        known.answered = self.answers;
        self.out.extend_from_slice(&wire::acknowledge(known.qos, known.id));
        self.check();
    }

    /// Asks whether the broker has had the acknowledgements.
    fn check(&mut self) {
        let open = self.known.iter().any(|known| known.here && known.answered > 0 && known.qos < 2);
        if open && self.ping.is_none() {
            self.ping();
        }
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) {
        self.ping = Some(self.answers);
        self.out.extend_from_slice(&wire::PING);
    }

    /// A ping was not answered yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.ping.is_some()
    }

    fn pong(&mut self) {
        let Some(had) = self.ping.take() else { return };
        // What is done and did not come again on this connection will not.
        let has_had = |known: &Known| match known.here {
            true => (1..=had).contains(&known.answered),
            false => known.done,
        };
        self.known.retain(|known| known.qos == 2 || !has_had(known));
        self.check();
    }

    /// Takes leave. `for_good`: nobody listens for this any more.
    pub(super) fn leave(&mut self, for_good: bool) {
        if for_good {
            let filters = self.plan.topics.iter().map(|topic| topic.filter.value.clone());
            let packet = wire::unsubscribe(filters.collect(), self.version());
            self.out.extend_from_slice(&packet);
        }
        self.out.extend_from_slice(wire::disconnect(self.version(), for_good));
    }
}

#[cfg(test)]
mod tests {
    use ringmain_config::{Trigger, load_str};

    use super::*;

    fn session(keys: &str) -> Session {
        let text = format!(
            "[schedule.mqtt]\nurl = \"mqtt://broker\"\ntopics = [\"go/+\"]\nversion = \"3.1.1\"\n\
             client_id = \"me\"\n{keys}\n[sources.a]\ntype = \"stdin\"\n[sinks.b]\ntype = \
             \"stdout\"\ninputs = [\"a\"]\n"
        );
        let schedule = load_str("f.toml", &text).unwrap().flows.remove(0).schedule.unwrap();
        let Trigger::Mqtt(plan) = schedule.trigger else { panic!("it has messages") };
        Session::new(Arc::new(*plan), vec!["old".to_owned()])
    }

    fn up(session: &mut Session, known: bool) {
        session.begin(false);
        receive(session, &[0x20, 2, known.into(), 0]);
        session.out.clear();
    }

    fn receive(session: &mut Session, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        session.receive(bytes, &mut events).unwrap();
        events
    }

    /// A message of the topic `go/x`.
    fn message(first: u8, id: u8, payload: u8) -> Vec<u8> {
        if first & 6 == 0 {
            return vec![first, 7, 0, 4, b'g', b'o', b'/', b'x', payload];
        }
        vec![first, 9, 0, 4, b'g', b'o', b'/', b'x', 0, id, payload]
    }

    const ONE: u8 = 0x32;
    const ONE_AGAIN: u8 = 0x3A;
    const TWO: u8 = 0x34;
    const TWO_AGAIN: u8 = 0x3C;
    const PONG: [u8; 2] = [0xD0, 0];

    fn told(serial: u64) -> Vec<Event> {
        vec![Event::Message { serial: Some(serial), topic: "go/x".to_owned() }]
    }

    #[test]
    fn a_message_is_acknowledged_when_it_is_on_record_and_not_before() {
        let mut session = session("");
        up(&mut session, false);
        assert_eq!(receive(&mut session, &message(ONE, 7, b'!')), told(1));
        assert!(session.out.is_empty());
        session.acknowledge(1);
        assert_eq!(session.out, [0x40, 2, 0, 7, 0xC0, 0]);
        session.acknowledge(1);
        let none = Event::Message { serial: None, topic: "go/x".to_owned() };
        assert_eq!(receive(&mut session, &message(0x30, 0, b'!')), [none]);
    }

    #[test]
    fn a_message_that_comes_again_begins_nothing_and_is_acknowledged_again() {
        let mut session = session("");
        up(&mut session, false);
        receive(&mut session, &message(ONE, 7, b'!'));
        // The connection breaks before it is on record...
        up(&mut session, true);
        session.acknowledge(1);
        assert!(session.out.is_empty(), "it has not come on this connection");
        assert_eq!(receive(&mut session, &message(ONE_AGAIN, 7, b'!')), [Event::PassedOver]);
        assert_eq!(session.out, [0x40, 2, 0, 7, 0xC0, 0]);
        // ... and after it, before the broker has the answer.
        up(&mut session, true);
        assert_eq!(receive(&mut session, &message(ONE_AGAIN, 7, b'!')), [Event::PassedOver]);
        assert_eq!(session.out, [0x40, 2, 0, 7, 0xC0, 0]);
        // It has it: what has this number now is another message.
        receive(&mut session, &PONG);
        assert!(session.known.is_empty());
        up(&mut session, true);
        assert_eq!(receive(&mut session, &message(ONE_AGAIN, 7, b'!')), told(2));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_message() {
        let mut session = session("");
        up(&mut session, false);
        receive(&mut session, &message(ONE, 7, b'!'));
        session.acknowledge(1);
        assert_eq!(receive(&mut session, &message(ONE, 7, b'!')), told(2));
        session.acknowledge(2);
        assert_eq!(receive(&mut session, &message(ONE_AGAIN, 7, b'?')), told(3));
        // A broker that has forgotten the session begins with its numbers anew.
        up(&mut session, false);
        assert_eq!(receive(&mut session, &message(ONE_AGAIN, 7, b'?')), told(4));
        session.acknowledge(3);
        assert!(session.out.is_empty(), "nobody waits for that any more");
    }

    #[test]
    fn a_message_of_the_best_quality_is_told_once_until_it_is_released() {
        let mut session = session("");
        up(&mut session, false);
        assert_eq!(receive(&mut session, &message(TWO, 9, b'!')), told(1));
        session.acknowledge(1);
        assert_eq!(session.out, [0x50, 2, 0, 9]);
        up(&mut session, true);
        assert_eq!(receive(&mut session, &message(TWO_AGAIN, 9, b'!')), [Event::PassedOver]);
        assert_eq!(session.out, [0x50, 2, 0, 9]);
        session.out.clear();
        assert_eq!(receive(&mut session, &[0x62, 2, 0, 9]), []);
        assert_eq!(session.out, [0x70, 2, 0, 9]);
        assert_eq!(receive(&mut session, &message(TWO, 9, b'!')), told(2));
    }

    #[test]
    fn retained_messages_and_those_of_other_topics_are_passed_over_and_acknowledged() {
        let mut session = session("");
        up(&mut session, true);
        assert_eq!(receive(&mut session, &message(ONE | 1, 3, b'!')), [Event::PassedOver]);
        let stray = [ONE, 7, 0, 3, b'o', b'l', b'd', 0, 4];
        assert_eq!(receive(&mut session, &stray), [Event::PassedOver]);
        assert_eq!(session.out, [0x40, 2, 0, 3, 0xC0, 0, 0x40, 2, 0, 4]);
        assert_eq!(receive(&mut session, &message(0x31, 0, b'!')), [Event::PassedOver]);
    }

    #[test]
    fn it_subscribes_with_each_connection_and_takes_back_what_was_before() {
        let mut session = session("");
        session.begin(false);
        session.out.clear();
        receive(&mut session, &[0x20, 2, 1, 0]);
        assert_eq!(&session.out[..4], [0xA2, 7, 0, 2]);
        assert_eq!(&session.out[9..13], [0x82, 9, 0, 1]);
        session.begin(false);
        session.out.clear();
        receive(&mut session, &[0x20, 2, 1, 0]);
        assert_eq!(session.out[0], 0x82);
        let refused = session.receive(&[0x90, 3, 0, 1, 0x80], &mut Vec::new()).unwrap_err();
        assert_eq!(refused, "the broker refuses a subscription to 'go/+'");
    }
}
