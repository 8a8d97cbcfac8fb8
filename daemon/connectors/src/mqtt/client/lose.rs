//! The end of a connection, and what that says of the next one.

use super::{Client, Notice, SHORT_LIFE_US, SHORT_LIVES, State};
use crate::Cx;
use crate::mqtt::wire::Garbage;
use crate::retry::Next;

impl Client {
    /// The broker ended the connection without a reason.
    pub(super) fn lose_to_broker(&mut self, why: &str, cx: &mut Cx<'_>) {
        let was_up = self.is_up();
        self.lose(why, cx);
        if was_up {
            self.blame = Some(why.to_owned());
        }
    }

    /// What came is not MQTT.
    pub(in crate::mqtt) fn garbage(&mut self, garbage: &Garbage, cx: &mut Cx<'_>) {
        self.input.clear(cx.io);
        self.unsealed(cx);
        let why = format!("what came is not MQTT: {}", garbage.0);
        self.lose(&why, cx);
    }

    /// The connection is of no use any more.
    pub(in crate::mqtt) fn lose(&mut self, why: &str, cx: &mut Cx<'_>) {
        let mut why = why.to_owned();
        let handle = match self.state {
            State::Up { handle, since_us } => {
                self.blame = None;
                self.judge(since_us, &mut why, cx.now.mono_us);
                handle
            }
            State::Greeting { handle, .. } => handle,
            State::Leaving(handle) => {
                cx.io.close(handle);
                return self.done(cx);
            }
            State::Breaking => return self.settle(cx),
            State::Down | State::Dialing { .. } | State::Done => return,
        };
        cx.io.close(handle);
        self.trouble = Some(why);
        self.out.clear();
        self.state = State::Breaking;
        self.settle(cx);
    }

    /// A short life may be the work of another client with the same id.
    pub(super) fn judge(&mut self, since_us: u64, why: &mut String, now_us: u64) {
        if now_us.saturating_sub(since_us) >= SHORT_LIFE_US {
            self.short_lives = 0;
            self.clash.reset();
            self.flap.reset();
            return;
        }
        self.short_lives += 1;
        if self.short_lives >= SHORT_LIVES && now_us >= self.clash_until_us {
            let (times, id) = (self.short_lives, &self.id);
            why.push_str(&format!(
                ", {times} times in a row soon after it was made; perhaps another client has the \
                 same client_id '{id}'"
            ));
            self.clash_until_us = now_us.saturating_add(self.flap.wait_us());
        }
    }

    /// When nothing of the old connection is left, another may be made.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        let over = !self.receiving && self.writes.is_empty();
        if self.state != State::Breaking || !over || self.has_input() {
            return;
        }
        self.input.clear(cx.io);
        self.session = None;
        if self.deaf {
            return self.done(cx);
        }
        let why = self.trouble.take().unwrap_or_default();
        self.down(&why, cx);
    }

    pub(super) fn down(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.state = State::Down;
        if self.retry.failed(self.at_hand, cx.now.mono_us) == Next::GiveUp {
            self.notices.push_back(Notice::GiveUp);
        }
        let held = self.clash_until_us.saturating_sub(cx.now.mono_us) / 1_000;
        let next = match held {
            0 => self.retry.describe(),
            held => format!("the next attempt is in {held} ms"),
        };
        self.trouble = Some(format!("{}: {why}; {next}", self.plan.url));
    }
}
