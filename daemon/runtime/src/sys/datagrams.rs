//! Sending and receiving datagrams, coalesced where the kernel can.
//!
//! Sending is one sendmmsg for up to [`BATCH`] runs of equal length
//! (UDP_SEGMENT); it never blocks, and both drivers share it: handing a
//! datagram to the kernel is a copy, nothing that a ring would make cheaper.
//! Receiving here is for the poll driver; the io_uring driver receives in
//! multishot and shares only the parsing of control data.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;
use crate::io::Peer;

/// Messages per system call.
const BATCH: usize = 32;
/// Segments that every kernel with UDP_SEGMENT takes.
const SEGMENTS_MAX: usize = 64;
/// Payload of one message: what IPv4 allows, rounded down.
const RUN_BYTES_MAX: usize = 65_000;

/// Room for the control data that is asked for: one `int`.
pub(crate) const CONTROL_BYTES: usize = 24;
/// Room for the sender's address: an internet address. A unix socket's name
/// is cut, and not looked at.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// What is still to be sent.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) buf: Vec<u8>,
    ends: Vec<u32>,
    next: usize,
}

/// A run of datagrams that leaves as one message.
#[derive(Clone, Copy, Default)]
struct Run {
    start: usize,
    end: usize,
    segment: u16,
    count: usize,
}

impl Cursor {
    /// Refuses ends that do not ascend to the buffer's length.
    pub(crate) fn new(buf: Vec<u8>, ends: Vec<u32>) -> Result<Self, Vec<u8>> {
        let ascending = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let complete = ends.last().map_or(buf.is_empty(), |last| *last as usize == buf.len());
        if ascending && complete { Ok(Self { buf, ends, next: 0 }) } else { Err(buf) }
    }

    /// Bytes of the datagrams that the kernel has.
    pub(crate) fn sent_bytes(&self) -> usize {
        if self.next == 0 { 0 } else { self.ends[self.next - 1] as usize }
    }

    /// The longest run from datagram `at` on: equal lengths, the last may be
    /// shorter.
    fn run(&self, at: usize, gso: bool) -> Run {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        let mut end = self.ends[at] as usize;
        let segment = end - start;
        let mut count = 1;
        let usable = gso && segment > 0 && segment <= usize::from(u16::MAX);
        while usable && count < SEGMENTS_MAX && at + count < self.ends.len() {
            let next = self.ends[at + count] as usize;
            let len = next - end;
            if len == 0 || len > segment || next - start > RUN_BYTES_MAX {
                break;
            }
            count += 1;
            end = next;
            if len < segment {
                break;
            }
        }
        Run { start, end, segment: segment.min(usize::from(u16::MAX)) as u16, count }
    }
}

/// How far sending came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// The socket is full; go on when it is writable.
    Blocked,
}

/// Sends what the socket takes now. Where the kernel or the route refuses
/// UDP_SEGMENT, `gso` is switched off and the datagrams go one by one.
pub(crate) fn send(fd: BorrowedFd<'_>, cursor: &mut Cursor, gso: &mut bool) -> io::Result<Sent> {
    while cursor.next < cursor.ends.len() {
        let mut runs = [Run::default(); BATCH];
        let mut used = 0;
        let mut at = cursor.next;
        while used < BATCH && at < cursor.ends.len() {
            runs[used] = cursor.run(at, *gso);
            at += runs[used].count;
            used += 1;
        }
        match send_runs(fd, &cursor.buf, &runs[..used]) {
            Ok(taken) => cursor.next += runs[..taken].iter().map(|run| run.count).sum::<usize>(),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(Sent::Blocked),
                Some(libc::EINTR) => {}
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE) if runs[0].count > 1 => {
                    *gso = false
                }
                _ => return Err(error),
            },
        }
    }
    Ok(Sent::All)
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

fn send_runs(fd: BorrowedFd<'_>, buf: &[u8], runs: &[Run]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid mmsghdr and a valid iovec.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut slices: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    let mut controls = [Control([0; CONTROL_BYTES]); BATCH];
    for (at, run) in runs.iter().enumerate() {
        let payload = &buf[run.start..run.end];
        slices[at] = libc::iovec { iov_base: payload.as_ptr() as *mut _, iov_len: payload.len() };
        let header = &mut messages[at].msg_hdr;
        header.msg_iov = &raw mut slices[at];
        header.msg_iovlen = 1;
        if run.count > 1 {
            controls[at] = segment_control(run.segment);
            header.msg_control = controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `runs.len()` headers are filled; slices, controls and buf
    // outlive the call, and sending only reads through them.
    let sent =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), runs.len() as u32, flags) };
    check(sent as libc::ssize_t)
}

fn segment_control(segment: u16) -> Control {
    let mut control = Control([0; CONTROL_BYTES]);
    // cmsg_len counts the header and the two bytes of data.
    control.0[0..8].copy_from_slice(&18_usize.to_ne_bytes());
    control.0[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control.0[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control.0[16..18].copy_from_slice(&segment.to_ne_bytes());
    control
}

/// The segment length that the kernel coalesced to, if it did.
pub(crate) fn segment_bytes(control: &[u8]) -> Option<u32> {
    let word = |bytes: &[u8], at| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut rest = control;
    while let Some(len) = rest.get(..8) {
        let len = usize::from_ne_bytes(len.try_into().ok()?);
        if len < 16 {
            return None;
        }
        if word(rest, 8)? == libc::SOL_UDP && word(rest, 12)? == libc::UDP_GRO {
            return u32::try_from(word(rest, 16)?).ok().filter(|bytes| *bytes > 0);
        }
        rest = rest.get(len.checked_next_multiple_of(8)?..)?;
    }
    None
}

/// One reception.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) segment_bytes: u32,
    pub(crate) peer: Peer,
    pub(crate) truncated: bool,
}

/// Receives into `len` bytes at `to`, without blocking.
///
/// # Safety
/// `to` is writable for `len` bytes, and nobody borrows them.
pub(crate) unsafe fn receive(fd: BorrowedFd<'_>, to: *mut u8, len: usize) -> io::Result<Received> {
    let mut name = [0_u8; NAME_BYTES];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut slice = libc::iovec { iov_base: to.cast(), iov_len: len };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: every pointer of the header is to a local or to what the caller
    // vouches for.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = check(got)?;
    let control_len = (header.msg_controllen as usize).min(CONTROL_BYTES);
    let name_len = (header.msg_namelen as usize).min(NAME_BYTES);
    Ok(Received {
        len,
        segment_bytes: segment_bytes(&control.0[..control_len]).unwrap_or(len as u32),
        peer: super::sockets::parse_address(&name[..name_len]),
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(lengths: &[u32]) -> Cursor {
        let mut end = 0;
        let ends: Vec<u32> = lengths
            .iter()
            .map(|len| {
                end += len;
                end
            })
            .collect();
        Cursor::new(vec![0; end as usize], ends).unwrap()
    }

    #[test]
    fn equal_lengths_make_a_run_and_a_shorter_one_ends_it() {
        let cursor = cursor(&[100, 100, 40, 100, 200]);
        let run = cursor.run(0, true);
        assert_eq!((run.start, run.end, run.segment, run.count), (0, 240, 100, 3));
        let run = cursor.run(3, true);
        assert_eq!((run.start, run.end, run.count), (240, 340, 1));
        assert_eq!(cursor.run(0, false).count, 1);
    }

    #[test]
    fn runs_are_bounded_in_segments_and_bytes() {
        assert_eq!(cursor(&[10; 200]).run(0, true).count, SEGMENTS_MAX);
        let run = cursor(&[9_000; 20]).run(0, true);
        assert!(run.end - run.start <= RUN_BYTES_MAX);
        assert_eq!(cursor(&[0, 0]).run(0, true).count, 1);
    }

    #[test]
    fn ends_that_do_not_fit_are_refused() {
        assert!(Cursor::new(vec![0; 3], vec![1, 2]).is_err());
        assert!(Cursor::new(vec![0; 3], vec![2, 1, 3]).is_err());
        assert!(Cursor::new(Vec::new(), Vec::new()).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_control_data_is_survived(
            head in proptest::collection::vec(0_u8..40, 0..80),
            len in proptest::prelude::any::<u64>(),
        ) {
            segment_bytes(&head);
            let mut control = len.to_ne_bytes().to_vec();
            control.extend(head);
            segment_bytes(&control);
        }

        #[test]
        fn runs_cover_every_byte_once(
            lengths in proptest::collection::vec(0_u32..3_000, 1..300),
            gso in proptest::prelude::any::<bool>(),
        ) {
            let cursor = cursor(&lengths);
            let (mut at, mut end) = (0, 0);
            while at < lengths.len() {
                let run = cursor.run(at, gso);
                proptest::prop_assert_eq!(run.start, end);
                proptest::prop_assert!(run.count == 1 || run.end - run.start <= RUN_BYTES_MAX);
                let (last, full) = lengths[at..at + run.count].split_last().unwrap();
                proptest::prop_assert!(full.iter().all(|len| *len == u32::from(run.segment)));
                proptest::prop_assert!(run.count == 1 || *last <= u32::from(run.segment));
                at += run.count;
                end = run.end;
            }
            proptest::prop_assert_eq!(end, cursor.buf.len());
        }
    }

    #[test]
    fn control_data_is_parsed_as_it_is_built() {
        let mut control = segment_control(1200).0;
        assert_eq!(segment_bytes(&control), None);
        control[12..16].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        assert_eq!(segment_bytes(&control), Some(1200));
        assert_eq!(segment_bytes(&[]), None);
        assert_eq!(segment_bytes(&[0; 24]), None);
    }
}
