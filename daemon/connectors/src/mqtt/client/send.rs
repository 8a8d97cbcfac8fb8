//! What is sent: packets of the owner, and signs of life.

use std::io;

use ringmain_runtime::io::{Handle, OpId};

use super::{Client, Notice, OUT_BYTES, State, TIMER_TAG, WRITE_TAG, WRITES_MAX};
use crate::Cx;
use crate::mqtt::wire;

impl Client {
    /// Hands what is to be sent to the driver; `mark` comes back when it has
    /// left.
    pub(in crate::mqtt) fn flush(&mut self, mark: u64, cx: &mut Cx<'_>) {
        self.mark = mark;
        if let State::Up { handle, .. } | State::Greeting { handle, .. } = self.state {
            self.write(handle, cx);
        }
    }

    pub(super) fn write(&mut self, handle: Handle, cx: &mut Cx<'_>) {
        if self.writes.len() >= WRITES_MAX {
            return;
        }
        let mut buf = self.spare.pop().unwrap_or_default();
        match &mut self.session {
            None => std::mem::swap(&mut self.out, &mut buf),
            Some(session) if session.is_ready() && !self.out.is_empty() => {
                session.send(&self.out, &mut buf);
                self.out.clear();
                if matches!(self.state, State::Leaving(_)) {
                    session.close(&mut buf);
                }
            }
            Some(session) => session.output(&mut buf),
        }
        if buf.is_empty() {
            return self.spare.push(buf);
        }
        let tag = WRITE_TAG + self.write_sequence % WRITES_MAX as u32;
        self.write_sequence = self.write_sequence.wrapping_add(1);
        self.writes.push_back(self.mark);
        self.sent_us = cx.now.mono_us;
        cx.io.write(handle, buf, None, OpId { owner: cx.owner, tag });
    }

    /// More may be put into `out`.
    pub(in crate::mqtt) fn takes_more(&self) -> bool {
        self.is_up() && self.out.len() < OUT_BYTES && self.writes.len() < WRITES_MAX
    }

    pub(super) fn written(&mut self, mut buf: Vec<u8>, result: io::Result<()>, cx: &mut Cx<'_>) {
        let mark = self.writes.pop_front().unwrap_or(0);
        let bytes = buf.len();
        if buf.capacity() <= 4 * OUT_BYTES && self.spare.len() < WRITES_MAX {
            buf.clear();
            self.spare.push(buf);
        }
        if let Err(error) = result {
            match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    self.lose_to_broker(&error.to_string(), cx);
                }
                _ => self.lose(&error.to_string(), cx),
            }
            return self.settle(cx);
        }
        *cx.bytes += bytes as u64;
        self.notices.push_back(Notice::Written(mark));
        match self.state {
            State::Leaving(handle) if self.out.is_empty() && self.writes.is_empty() => {
                cx.io.close(handle);
                self.done(cx);
            }
            State::Leaving(handle) => self.write(handle, cx),
            _ => self.settle(cx),
        }
    }

    pub(super) fn set_timer(&mut self, cx: &mut Cx<'_>) {
        if self.keep_alive_us > 0 && !self.timer {
            self.timer = true;
            cx.io.timer(self.keep_alive_us / 2, OpId { owner: cx.owner, tag: TIMER_TAG });
        }
    }

    /// Asks a silent broker for a sign of life, and leaves one that gives none.
    pub(super) fn keep_alive(&mut self, cx: &mut Cx<'_>) {
        if !self.is_up() || self.keep_alive_us == 0 {
            return;
        }
        let now_us = cx.now.mono_us;
        let ago = |then_us: u64| now_us.saturating_sub(then_us);
        if self.has_input() {
            // What lies here may be followed by a sign of life that was not
            // received for want of buffers: the sinks are slow, not the broker.
            self.ping_us = None;
        }
        if self.ping_us.is_some_and(|at| ago(at) >= self.keep_alive_us) {
            let seconds = self.keep_alive_us / 1_000_000;
            let why = format!("the broker did not answer a ping within {seconds} s (keep_alive)");
            return self.lose(&why, cx);
        }
        if ago(self.sent_us.min(self.received_us)) >= self.keep_alive_us / 2 {
            self.ping_us.get_or_insert(now_us);
            self.out.extend_from_slice(&wire::PINGREQ);
            self.flush(self.mark, cx);
        }
        self.set_timer(cx);
    }
}
