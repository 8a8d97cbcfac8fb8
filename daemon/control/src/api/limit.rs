//! How often a peer may ask: a bucket of tokens each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Peers that are remembered. When there are more, those that have not asked
/// for longest are forgotten, and begin with a full bucket.
const PEERS_MAX: usize = 1024;

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Buckets by address.
pub(crate) struct Limiter {
    rate: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Limiter {
    /// `rate` requests per second, and as many at once.
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), buckets: Mutex::default() }
    }

    /// Takes a token; otherwise says after how many seconds there is one.
    pub(crate) fn admit(&self, peer: IpAddr, now: Instant) -> Result<(), u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= PEERS_MAX && !buckets.contains_key(&peer) {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(peer, _)| *peer);
            oldest.map(|peer| buckets.remove(&peer));
        }
        let bucket = buckets.entry(peer).or_insert(Bucket { tokens: self.rate, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * self.rate).min(self.rate);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(((1.0 - bucket.tokens) / self.rate).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_gets_its_rate_and_others_are_not_touched_by_it() {
        let limiter = Limiter::new(2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let asked: Vec<_> = (0..3).map(|_| limiter.admit(a, start).is_ok()).collect();
        assert_eq!(asked, [true, true, false]);
        assert_eq!(limiter.admit(a, start), Err(1));
        assert!(limiter.admit(b, start).is_ok());
        assert!(limiter.admit(a, start + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let limiter = Limiter::new(1);
        let start = Instant::now();
        for n in 0..5_000_u32 {
            let peer = IpAddr::from(n.to_be_bytes());
            let _ = limiter.admit(peer, start + Duration::from_millis(u64::from(n)));
        }
        assert_eq!(limiter.buckets.lock().unwrap().len(), PEERS_MAX);
    }
}
