//! What a source takes besides slabs: receive buffers and partial frames. One
//! term per kind, for the daemon's sum.

use ringmain_config::plan::{ReadMode, SourceKind, SourcePlan, UnixMode};
use ringmain_runtime::group_bytes;

use crate::file_source::{ONCE_BUFFERS, TAIL_BUFFERS};
use crate::tls::SESSION_BYTES;
use crate::{http_source, mqtt, packets, stdin, streams};

/// Bytes that one instance of a source may take.
#[must_use]
pub fn source_bytes(plan: &SourcePlan) -> u64 {
    let frame_bytes = u64::from(plan.frame_bytes);
    let group = |(count, bytes): (u16, u32)| group_bytes(count, bytes);
    let stream = || {
        let carry = streams::carry_limit_bytes(plan.frame_bytes as usize) as u64;
        group((streams::BUFFERS, streams::BUFFER_BYTES)) + carry
    };
    let datagrams = || group((packets::BUFFERS, packets::BUFFER_BYTES));
    match &plan.kind {
        // Prepared names, at most a few per field.
        SourceKind::Generator { .. } => 1 << 20,
        // One message.
        SourceKind::Timer(_) => 4 << 10,
        // Read ahead, and the frame that spans two reads.
        SourceKind::File(file) => match file.mode {
            ReadMode::Read => group(ONCE_BUFFERS) + frame_bytes,
            ReadMode::Tail => group(TAIL_BUFFERS) + frame_bytes,
        },
        // Shared by all connections, like what they keep beside it.
        SourceKind::Http(http) => {
            let carry = http_source::carry_limit_bytes(plan.frame_bytes as usize) as u64;
            let sessions = match http.tls {
                Some(_) => u64::from(http.connections_max) * SESSION_BYTES,
                None => 0,
            };
            group((http_source::BUFFERS, http_source::BUFFER_BYTES)) + carry + sessions
        }
        // One packet, the plaintext of one buffer, and who has what.
        SourceKind::Mqtt(_) => {
            let plain = 2 * u64::from(mqtt::GROUP.1) + SESSION_BYTES;
            group(mqtt::GROUP) + plain + mqtt::bytes(plan.frame_bytes as usize)
        }
        SourceKind::Stdin => group((stdin::BUFFERS, stdin::BUFFER_BYTES)) + frame_bytes,
        // Plaintext of one buffer, and the state of each connection.
        SourceKind::Tcp { connections_max, tls: Some(_), .. } => {
            let plain = 2 * u64::from(streams::BUFFER_BYTES);
            stream() + plain + u64::from(*connections_max) * SESSION_BYTES
        }
        // Shared by all connections, like the partial frames.
        SourceKind::Tcp { .. } | SourceKind::Unix { mode: UnixMode::Stream, .. } => stream(),
        SourceKind::Udp { .. } | SourceKind::Unix { mode: UnixMode::Datagram, .. } => datagrams(),
    }
}
