//! Where a connector stands among its twins on other shards.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Which of how many twins a connector is. Every shard of a flow builds its
/// own connector from the same plan; what must not be done twice is divided by
/// these numbers.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Number of the shard, below `shards`.
    pub shard: u16,
    /// Shards that build this connector; at least 1.
    pub shards: u16,
    /// Shared by every connector of a run.
    pub claims: Claims,
}

impl Placement {
    /// The only one of its kind.
    #[must_use]
    pub fn alone() -> Self {
        Self { shard: 0, shards: 1, claims: Claims::default() }
    }

    /// The twin on `shard` of `shards`.
    #[must_use]
    pub fn new(shard: u16, shards: u16, claims: &Claims) -> Self {
        assert!(shard < shards, "shard {shard} of {shards}");
        Self { shard, shards, claims: claims.clone() }
    }

    /// Whether item number `index` of a list that all twins see alike is
    /// this one's.
    #[must_use]
    pub fn owns(&self, index: u64) -> bool {
        index % u64::from(self.shards) == u64::from(self.shard)
    }
}

/// Files that sinks of this run have prepared, so that the first to open one
/// empties or repairs it and no other does. Taken only when a file is opened.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    paths: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Claims {
    /// Runs `prepare` if nobody has for this path, while others wait.
    ///
    /// # Errors
    /// What `prepare` returns; the path then counts as not prepared.
    pub fn first<E>(&self, path: &Path, prepare: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if !paths.contains(path) {
            prepare()?;
            paths.insert(path.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_prepared_once_and_again_after_a_failure() {
        let claims = Claims::default();
        let path = Path::new("a");
        assert_eq!(claims.first(path, || Err("no")), Err("no"));
        let mut times = 0;
        for _ in 0..2 {
            let done: Result<(), ()> = claims.first(path, || {
                times += 1;
                Ok(())
            });
            assert_eq!(done, Ok(()));
        }
        assert_eq!(times, 1);
    }

    #[test]
    fn every_index_has_one_owner() {
        let claims = Claims::default();
        let twins: Vec<_> = (0..3).map(|shard| Placement::new(shard, 3, &claims)).collect();
        for index in 0..100 {
            assert_eq!(twins.iter().filter(|place| place.owns(index)).count(), 1);
        }
    }
}
