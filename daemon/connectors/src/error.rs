//! What a connector reports when it cannot do its work.

use std::fmt;
use std::io;

/// Whose fault it is, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The configuration or the machine must be changed: the flow does not
    /// start.
    Setup,
    /// It may pass by itself: the connector tries again.
    Passing,
}

/// Says which key of the component is concerned, what went wrong and what to
/// do about it. The component's name is added above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorError {
    /// Whose fault.
    pub fault: Fault,
    /// The key in the component's table.
    pub key: &'static str,
    /// What went wrong, and what to do.
    pub message: String,
}

impl ConnectorError {
    /// A mistake in the set-up.
    #[must_use]
    pub fn setup(key: &'static str, message: impl Into<String>) -> Self {
        Self { fault: Fault::Setup, key, message: message.into() }
    }

    /// An error of the operating system about `what`.
    #[must_use]
    pub fn io(key: &'static str, what: &str, error: &io::Error) -> Self {
        Self::setup(key, format!("{what}: {error}"))
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConnectorError {}
