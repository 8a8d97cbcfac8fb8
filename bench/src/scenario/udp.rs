//! The whole daemon, one core: UDP datagrams of 100 B as text, to a blackhole.
//! This program sends, with GSO, on another core where there is one.
//!
//! UDP drops what is not read in time, so the sender does not wait and the
//! figure is what was received per second of sending; what is left in the
//! socket's buffer at the end adds a few percent to a short run. Verified: that the
//! daemon counted no more than was sent, lost none of what it counted, and
//! refused nothing.

use std::net::UdpSocket;
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use super::Round;
use crate::daemon::{Daemon, free_udp_port, udp_is_bound, udp_is_read};
use crate::measure::{Amount, Env, Wrong, mix, on_core, verify};
use crate::report::Figure;

const TARGET_M_PER_S: f64 = 5.0;
const DATAGRAM_BYTES: usize = 100;
/// What every kernel with UDP_SEGMENT takes at once.
const SEGMENTS: usize = 64;
/// It takes longer than the time given, so that the buffer's content matters
/// less.
const SHARE: f64 = 2.0;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let port = free_udp_port()?;
        let flow = format!(
            "name = \"udp\"
[sources.in]
type = \"udp\"
listen = \"127.0.0.1:{port}\"
receive_buffer = \"8MiB\"
decode = \"text\"
[sinks.out]
type = \"blackhole\"
inputs = [\"in\"]
"
        );
        let daemon = Daemon::start(env, "udp", &flow, "0")?;
        udp_is_bound(port)?;
        let core = env.cores.last().copied();
        let (sent, seconds) = on_core(core, || send(port, env.amount)).map_err(Wrong::fail)?;
        udp_is_read(port)?;
        daemon.stop()?;
        let ended = daemon.end()?;
        let (source, sink) = (ended.summary.of("in")?, ended.summary.of("out")?);
        verify("messages delivered", sink.rows_out, source.rows_out)?;
        verify("messages refused", source.dead + sink.dead, 0)?;
        let received = sink.rows_out;
        if !(1..=sent).contains(&received) {
            return Err(Wrong::Failed(format!("{received} messages received, {sent} sent")));
        }
        Ok(vec![
            Figure::rate("received", received as f64 / seconds / 1e6)
                .at_least(TARGET_M_PER_S)
                .proof(received, mix(received, sent)),
            Figure::rate("sent", sent as f64 / seconds / 1e6),
            Figure::new("received of sent", 100.0 * received as f64 / sent as f64, "%"),
            Figure::rate("per second of CPU time", received as f64 / ended.cpu_s / 1e6)
                .at_least(TARGET_M_PER_S),
            Figure::new("CPU time", 1e9 * ended.cpu_s / received as f64, "ns/msg"),
        ])
    }))
}

/// Sends for so long or so many; how many, and the seconds.
fn send(port: u16, amount: Amount) -> std::io::Result<(u64, f64)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    setsockopt(&socket, UdpGsoSegment, &(DATAGRAM_BYTES as i32))?;
    let burst = vec![b'x'; DATAGRAM_BYTES * SEGMENTS];
    let start = Instant::now();
    let mut sent = 0;
    while match amount {
        Amount::Seconds(seconds) => start.elapsed().as_secs_f64() < SHARE * seconds,
        Amount::Messages(count) => sent < count,
    } {
        socket.send(&burst)?;
        sent += SEGMENTS as u64;
    }
    Ok((sent, start.elapsed().as_secs_f64()))
}
