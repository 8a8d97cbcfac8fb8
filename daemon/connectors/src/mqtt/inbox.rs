//! Publications that came and are not acknowledged yet.
//!
//! QoS 1: acknowledged when accepted, on the connection it came on; on another
//! one the broker sends it again anyway, perhaps under an id that means
//! something else there. QoS 2: an id that is known is the same message for as
//! long as the session lives, whatever connection it comes on; it is given out
//! once.
//!
//! Bounds: what waits is at most `max_inflight` of the caller; a table with a
//! byte for each packet id.

use std::collections::VecDeque;

use ringmain_config::plan::Qos;

use super::wire::{put_puback, put_pubcomp, put_pubrec};

/// This id of QoS 2 has been given out.
const GIVEN: u8 = 1;
/// And accepted.
const ACCEPTED: u8 = 2;

struct Waiting {
    id: u16,
    qos: Qos,
    /// The connection that it came on.
    connection: u64,
    batch: u64,
}

pub(super) struct Inbox {
    waiting: VecDeque<Waiting>,
    ids: Vec<u8>,
    connection: u64,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), ids: vec![0; 1 << 16], connection: 0 }
    }

    /// Publications that wait for the sinks.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an acknowledgement is owed on the connection at hand.
    pub(super) fn owes(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.connection == self.connection)
    }

    /// A connection was made; `session` says whether the broker goes on with
    /// the session.
    pub(super) fn connected(&mut self, session: bool) {
        self.connection += 1;
        self.waiting.retain(|waiting| session && waiting.qos == Qos::ExactlyOnce);
        if !session {
            self.ids.fill(0);
        }
    }

    /// Whether a publication that came must not be given out, since it was.
    pub(super) fn knows(&self, id: u16, qos: Qos) -> bool {
        qos == Qos::ExactlyOnce && self.ids[usize::from(id)] & GIVEN != 0
    }

    /// A publication that is known came again.
    pub(super) fn again(&mut self, id: u16, out: &mut Vec<u8>) {
        if self.ids[usize::from(id)] & ACCEPTED != 0 {
            return put_pubrec(out, id);
        }
        let same = |w: &&mut Waiting| w.id == id && w.qos == Qos::ExactlyOnce;
        if let Some(waiting) = self.waiting.iter_mut().find(same) {
            waiting.connection = self.connection;
        }
    }

    /// A publication was given out, or refused, in this batch.
    pub(super) fn given(&mut self, id: u16, qos: Qos, batch: u64) {
        if qos == Qos::AtMostOnce {
            return;
        }
        if qos == Qos::ExactlyOnce {
            self.ids[usize::from(id)] = GIVEN;
        }
        self.waiting.push_back(Waiting { id, qos, connection: self.connection, batch });
    }

    /// There was no batch of this number: what was given in it belongs to the
    /// one before.
    pub(super) fn no_batch(&mut self, batch: u64) {
        for waiting in self.waiting.iter_mut().rev().take_while(|w| w.batch == batch) {
            waiting.batch -= 1;
        }
    }

    /// Everything up to `batch` has been accepted.
    pub(super) fn accepted(&mut self, batch: u64, out: &mut Vec<u8>) {
        while self.waiting.front().is_some_and(|waiting| waiting.batch <= batch)
            && let Some(waiting) = self.waiting.pop_front()
        {
            let here = waiting.connection == self.connection;
            if waiting.qos == Qos::ExactlyOnce {
                self.ids[usize::from(waiting.id)] |= ACCEPTED;
                if here {
                    put_pubrec(out, waiting.id);
                }
            } else if here {
                put_puback(out, waiting.id);
            }
        }
    }

    /// The broker will not send this id again.
    pub(super) fn released(&mut self, id: u16, out: &mut Vec<u8>) {
        // One that waits belongs to a broker that does not wait for its
        // answer; the message is given out, which is what counts.
        self.ids[usize::from(id)] = 0;
        self.waiting.retain(|w| w.id != id || w.qos != Qos::ExactlyOnce);
        put_pubcomp(out, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Qos = Qos::AtLeastOnce;
    const TWO: Qos = Qos::ExactlyOnce;

    fn inbox(given: &[(u16, Qos, u64)]) -> Inbox {
        let mut inbox = Inbox::new();
        inbox.connected(false);
        for (id, qos, batch) in given {
            inbox.given(*id, *qos, *batch);
        }
        inbox
    }

    fn told(inbox: &mut Inbox, batch: u64) -> Vec<u8> {
        let mut out = Vec::new();
        inbox.accepted(batch, &mut out);
        out
    }

    #[test]
    fn acknowledgements_follow_the_batches_in_the_order_of_the_messages() {
        let mut inbox = inbox(&[(5, ONE, 1), (9, TWO, 1), (6, ONE, 2), (0, Qos::AtMostOnce, 2)]);
        assert_eq!(told(&mut inbox, 0), [] as [u8; 0]);
        assert_eq!(told(&mut inbox, 1), [0x40, 2, 0, 5, 0x50, 2, 0, 9]);
        assert!(inbox.owes());
        assert_eq!(told(&mut inbox, 7), [0x40, 2, 0, 6]);
        assert!(!inbox.owes());
    }

    #[test]
    fn an_id_of_an_old_connection_is_never_acknowledged_on_a_new_one() {
        let mut inbox = inbox(&[(5, ONE, 1)]);
        inbox.connected(true);
        inbox.given(5, ONE, 2);
        assert_eq!(told(&mut inbox, 1), [] as [u8; 0]);
        assert_eq!(told(&mut inbox, 2), [0x40, 2, 0, 5]);
    }

    #[test]
    fn a_message_of_qos_2_is_given_out_once_through_reconnects() {
        let mut inbox = inbox(&[(5, TWO, 1)]);
        let mut out = Vec::new();
        inbox.connected(true);
        assert!(inbox.knows(5, TWO) && !inbox.knows(5, ONE) && !inbox.knows(6, TWO));
        inbox.again(5, &mut out);
        assert_eq!(out, [] as [u8; 0], "not accepted yet");
        assert_eq!(told(&mut inbox, 1), [0x50, 2, 0, 5]);
        inbox.connected(true);
        inbox.again(5, &mut out);
        assert_eq!(out, [0x50, 2, 0, 5], "the answer was lost with the connection");
        inbox.released(5, &mut out);
        assert_eq!(out[4..], [0x70, 2, 0, 5]);
        assert!(!inbox.knows(5, TWO), "the id is free for another message");
    }

    #[test]
    fn what_was_accepted_between_two_connections_is_answered_when_it_comes_again() {
        let mut inbox = inbox(&[(5, TWO, 1)]);
        inbox.connected(true);
        assert_eq!(told(&mut inbox, 1), [] as [u8; 0], "the broker has not asked here");
        let mut out = Vec::new();
        inbox.again(5, &mut out);
        assert_eq!(out, [0x50, 2, 0, 5]);
    }

    #[test]
    fn a_new_session_knows_nothing() {
        let mut inbox = inbox(&[(5, TWO, 1), (6, ONE, 1)]);
        inbox.connected(false);
        assert!(!inbox.knows(5, TWO));
        assert_eq!((inbox.len(), told(&mut inbox, 9)), (0, vec![]));
    }

    #[test]
    fn what_left_no_batch_is_acknowledged_with_the_one_before() {
        let mut inbox = inbox(&[(1, ONE, 1), (2, ONE, 2), (3, ONE, 2)]);
        inbox.no_batch(2);
        assert_eq!(told(&mut inbox, 1), [0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3]);
    }

    #[test]
    fn an_unknown_release_is_answered_or_the_broker_would_ask_for_ever() {
        let mut out = Vec::new();
        inbox(&[]).released(77, &mut out);
        assert_eq!(out, [0x70, 2, 0, 77]);
    }
}
