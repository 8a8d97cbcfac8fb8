//! Encryption and authentication of connections, and what must not be shown.

use std::fmt;
use std::path::PathBuf;

use crate::span::Spanned;

/// A value that is not shown: not in logs, not in dumps of a plan.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever sends or compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `cert` and `key`: who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificate chain.
    pub cert: Spanned<PathBuf>,
    /// PEM file with the private key.
    pub key: Spanned<PathBuf>,
}

/// `tls = { ... }` of a component that connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file with the authorities that are trusted; those of the system
    /// without it.
    pub ca: Option<Spanned<PathBuf>>,
    /// What the other side is shown, if it asks.
    pub identity: Option<Identity>,
    /// The name that the other side's certificate must have; the host of the
    /// address without it.
    pub server_name: Option<Spanned<String>>,
    /// Whoever answers is believed.
    pub insecure_skip_verify: bool,
}

/// `tls = { ... }` of a component that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// What peers are shown.
    pub identity: Identity,
    /// PEM file with the authorities whose certificates peers must show;
    /// without it they need none.
    pub client_ca: Option<Spanned<PathBuf>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.reveal(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
