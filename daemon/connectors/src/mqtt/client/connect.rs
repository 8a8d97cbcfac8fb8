//! Making a connection: dialling, and the broker's greeting.

use ringmain_config::plan::MqttVersion;
use ringmain_runtime::io::{EventKind, Handle, OpId};

use super::{Client, DIAL_TAG, Notice, READ_TAG, State, WIDE_WINDOW};
use crate::Cx;
use crate::mqtt::control::{self, Greeting};
use crate::mqtt::wire::{Garbage, Kind};
use crate::tls;

impl Client {
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>) {
        match self.resolver.next() {
            Some(address) => {
                let until_us = cx.now.mono_us.saturating_add(self.plan.connect_timeout_us);
                self.state = State::Dialing { until_us, late: false };
                cx.io.connect(address, OpId { owner: cx.owner, tag: DIAL_TAG });
            }
            None => self.down("no address is known", cx),
        }
    }

    pub(super) fn dialed(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match (event, self.state) {
            (EventKind::Connected { handle }, State::Dialing { until_us, .. }) => {
                self.greet(handle, until_us, cx);
            }
            (EventKind::Connected { handle }, _) => cx.io.close(handle),
            (EventKind::Failed { error }, State::Dialing { late, .. }) => {
                let why = if late { "no answer in time".to_owned() } else { error.to_string() };
                self.down(&why, cx);
            }
            _ => {}
        }
    }

    pub(super) fn greet(&mut self, handle: Handle, until_us: u64, cx: &mut Cx<'_>) {
        let Some(group) = self.group else { return cx.io.close(handle) };
        self.resolver.works();
        if self.plan.max_inflight >= WIDE_WINDOW {
            cx.io.patient(handle);
        }
        self.state = State::Greeting { handle, until_us };
        self.receiving = true;
        cx.io.receive(handle, group, OpId { owner: cx.owner, tag: READ_TAG });
        self.out.clear();
        self.out.extend(control::connect(&self.plan, &self.id, self.clean));
        match self.tls.as_ref().map(tls::Client::session).transpose() {
            Ok(session) => {
                self.session = session;
                self.flush(0, cx);
            }
            Err(error) => self.lose(&error.to_string(), cx),
        }
    }

    /// A broker that goes without a word most likely expected another protocol.
    pub(super) fn unanswered(&self, why: String) -> String {
        let other = if self.plan.tls.is_some() { "no TLS (mqtt://)" } else { "TLS (mqtts://)" };
        match self.state {
            State::Greeting { .. } => format!("{why} and said nothing; perhaps it speaks {other}"),
            _ => why,
        }
    }

    /// The broker's answer to the greeting, when it is complete.
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>) {
        let State::Greeting { handle, .. } = self.state else { return };
        let answer = match self.input.next(cx.io) {
            Ok(None) if self.unseal(cx) => return self.answered(cx),
            Ok(None) => return,
            Ok(Some(found)) if found.header.kind == Kind::ConnAck => {
                let bytes = self.input.bytes(found, cx.io);
                let answer = control::greeting(bytes, self.plan.version);
                self.input.pass(found, cx.io);
                answer
            }
            Ok(Some(_)) => Err(Garbage("a packet before the answer to the connection")),
            Err(garbage) => Err(garbage),
        };
        match answer {
            Ok(Ok(greeting)) => self.up(handle, greeting, cx),
            Ok(Err(refusal)) => self.lose(&refusal, cx),
            Err(garbage) => self.garbage(&garbage, cx),
        }
    }

    pub(super) fn up(&mut self, handle: Handle, greeting: Greeting, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        self.state = State::Up { handle, since_us: now_us };
        self.trouble = None;
        self.clean = self.plan.clean_start && self.plan.version == MqttVersion::V311;
        self.keep_alive_us = greeting.keep_alive_us.unwrap_or(self.plan.keep_alive_us);
        (self.sent_us, self.received_us, self.ping_us) = (now_us, now_us, None);
        self.notices.push_back(Notice::Connected(greeting));
        self.set_timer(cx);
    }
}
