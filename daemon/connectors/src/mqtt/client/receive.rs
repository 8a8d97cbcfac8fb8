//! What the broker sends: decrypted, cut into packets, given out one by one.

use std::io;

use ringmain_runtime::io::EventKind;

use super::{Client, State};
use crate::Cx;
use crate::mqtt::control::{self, Farewell};
use crate::mqtt::input::{Found, Piece};
use crate::mqtt::wire::Kind;

impl Client {
    pub(super) fn received(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match event {
            EventKind::Received { lease } => {
                *cx.bytes += lease.len() as u64;
                self.received_us = cx.now.mono_us;
                self.ping_us = None;
                if self.state == State::Done {
                    return cx.io.release(lease);
                }
                match self.session {
                    None => self.input.add(Piece::Lease(lease)),
                    Some(_) => self.sealed.push_back(lease),
                }
                if matches!(self.state, State::Greeting { .. }) {
                    self.answered(cx);
                }
            }
            EventKind::Eof => {
                self.receiving = false;
                let why = self.unanswered("the broker closed the connection".to_owned());
                self.lose_to_broker(&why, cx);
            }
            EventKind::Failed { error } => {
                self.receiving = false;
                if self.deaf && self.is_up() {
                    return;
                }
                let why = self.unanswered(error.to_string());
                match error.kind() {
                    io::ErrorKind::ConnectionReset => self.lose_to_broker(&why, cx),
                    _ => self.lose(&why, cx),
                }
            }
            _ => {}
        }
    }

    /// Decrypts one more buffer. False when there is none, or the connection
    /// ended over it.
    pub(super) fn unseal(&mut self, cx: &mut Cx<'_>) -> bool {
        let (Some(session), Some(lease)) = (&mut self.session, self.sealed.pop_front()) else {
            return false;
        };
        let mut plain = Vec::new();
        let result = session.receive(cx.io.bytes(&lease), &mut plain);
        cx.io.release(lease);
        self.input.add(Piece::Plain(plain));
        if let Some(handle) = self.handle() {
            // What the protocol has to answer.
            self.write(handle, cx);
        }
        match result {
            Ok(()) => true,
            Err(error) => {
                self.unsealed(cx);
                self.lose(&error.to_string(), cx);
                false
            }
        }
    }

    /// What is still encrypted is of no use any more.
    pub(super) fn unsealed(&mut self, cx: &mut Cx<'_>) {
        for lease in self.sealed.drain(..) {
            cx.io.release(lease);
        }
    }

    /// The next packet that the owner must look at.
    pub(in crate::mqtt) fn packet(&mut self, cx: &mut Cx<'_>) -> Option<Found> {
        if matches!(self.state, State::Greeting { .. }) {
            return None;
        }
        loop {
            let found = match self.input.next(cx.io) {
                Ok(Some(found)) => found,
                Ok(None) if self.unseal(cx) => continue,
                Ok(None) => {
                    self.settle(cx);
                    return None;
                }
                Err(garbage) => {
                    self.garbage(&garbage, cx);
                    return None;
                }
            };
            match found.header.kind {
                Kind::PingResp => self.input.pass(found, cx.io),
                Kind::Disconnect => {
                    let farewell = control::farewell(self.input.bytes(found, cx.io));
                    self.input.pass(found, cx.io);
                    match farewell {
                        Ok(farewell) => self.left(farewell, cx),
                        Err(garbage) => self.garbage(&garbage, cx),
                    }
                }
                _ => return Some(found),
            }
        }
    }

    pub(super) fn left(&mut self, farewell: Farewell, cx: &mut Cx<'_>) {
        let mut why = farewell.why;
        if farewell.taken_over {
            let id = &self.id;
            why = format!("another client came with the same client_id '{id}'; give each its own");
            let wait_us = self.clash.wait_us();
            self.clash_until_us = cx.now.mono_us.saturating_add(wait_us);
        }
        if self.state == State::Breaking {
            // What the broker said before it closed explains more than that it
            // closed.
            self.trouble = Some(why.clone());
            self.settle(cx);
        } else {
            self.lose(&why, cx);
        }
        self.blame = farewell.is_rebuke.then_some(why);
    }
}
