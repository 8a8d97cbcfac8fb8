//! Streams that are encrypted: handshakes, and plaintext for the decoder.

use ringmain_base::Reason;
use ringmain_runtime::io::Lease;
use ringmain_slab::Slab;

use super::{End, Stream, Streams, name};
use crate::Cx;
use crate::decode::Origin;
use crate::tls::TlsError;

impl Streams {
    /// Bytes of a handshake, and what came with them.
    pub(super) fn shake(&mut self, at: usize, lease: Lease, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams[at].as_mut() else { return cx.io.release(lease) };
        let Some(tls) = &mut stream.tls else { return cx.io.release(lease) };
        match tls.shake(cx.io.bytes(&lease)) {
            Ok(taken) if taken < lease.len() => {
                stream.from = taken;
                stream.chunks.push_back(lease);
            }
            Ok(_) => cx.io.release(lease),
            Err(error) => {
                cx.io.release(lease);
                stream.insecure(&error, cx);
            }
        }
        self.answer(at, cx);
    }

    /// Writes what the protocol of a stream has to say, and closes it when
    /// there is nothing more to say.
    pub(super) fn answer(&mut self, at: usize, cx: &mut Cx<'_>) {
        let op = self.write_op(at, cx.owner);
        let Some(stream) = self.streams[at].as_mut() else { return };
        let Some(tls) = &mut stream.tls else { return };
        if tls.answer(stream.handle, op, cx.io) && stream.receiving {
            stream.end.get_or_insert(End::Closed);
            cx.io.close(stream.handle);
        }
    }

    /// Ends handshakes that take too long.
    pub(super) fn expire(&mut self, cx: &mut Cx<'_>) {
        while let Some((until_us, at, number)) = self.shaking.front().copied() {
            let stream = self.streams[at].as_mut().filter(|stream| stream.number == number);
            let shakes = |stream: &&mut Stream| stream.tls.as_ref().is_some_and(|t| !t.is_ready());
            if let Some(stream) = stream.filter(|s| s.end.is_none()).filter(shakes) {
                if cx.now.mono_us < until_us {
                    return;
                }
                stream.end = Some(End::Gone);
                cx.io.close(stream.handle);
            }
            self.shaking.pop_front();
        }
    }

    /// When [`Streams::poll`] is to be called though nothing comes.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        self.shaking.front().map(|(until_us, ..)| *until_us)
    }

    /// One buffer of an encrypted stream. True when the slab is full.
    pub(super) fn decode_secure(
        &mut self,
        stream: &mut Stream,
        slab: &mut Slab,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(tls) = &mut stream.tls else { return false };
        if tls.rest().is_empty()
            && let Some(lease) = stream.chunks.pop_front()
        {
            let received = tls.receive(&cx.io.bytes(&lease)[stream.from..], &mut self.spare);
            stream.from = 0;
            cx.io.release(lease);
            if let Err(error) = received {
                stream.insecure(&error, cx);
            }
        }
        let Some(tls) = &mut stream.tls else { return false };
        let peer = &stream.peer;
        let origin = Origin { name: &|| name(peer), refusals: cx.refusals };
        let ts = cx.now.wall_us;
        let fed = self.decoding.feed(&mut stream.framer, tls.rest(), slab, ts, origin);
        if self.acks.is_some() {
            stream.told.count(&tls.rest()[..fed.consumed]);
        }
        tls.consume(fed.consumed, &mut self.spare);
        if tls.is_peer_closed() && tls.rest().is_empty() {
            stream.end.get_or_insert(End::Closed);
        }
        fed.full
    }
}

impl Stream {
    /// The connection ended and nobody who can be believed has said so.
    pub(super) fn is_cut(&self) -> bool {
        let told = self.tls.as_ref().is_none_or(|tls| tls.is_peer_closed());
        matches!(self.end, Some(End::Closed)) && !told
    }

    /// Nothing that this peer sends can be believed.
    pub(super) fn insecure(&mut self, error: &TlsError, cx: &mut Cx<'_>) {
        let offset = self.framer.offset();
        let detail = error.to_string();
        cx.refusals.bytes(Reason::Rejected, &detail, &name(&self.peer), offset, &[]);
        self.end.get_or_insert(End::Gone);
        for lease in self.chunks.drain(..) {
            cx.io.release(lease);
        }
        self.from = 0;
    }
}
