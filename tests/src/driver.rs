//! Which I/O driver a run uses.

/// What `--io` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it is permitted.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// poll(2).
    Poll,
}

impl Driver {
    /// The value of `--io`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

/// Makes each function that takes a [`Driver`] two tests, `NAME::auto` and
/// `NAME::poll`: what is promised does not depend on the driver.
#[macro_export]
macro_rules! with_each_driver {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident: $kind:ty) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn run($driver: $kind) $body

            #[test]
            $(#[$meta])*
            fn auto() {
                run($crate::Driver::Auto);
            }

            #[test]
            $(#[$meta])*
            fn poll() {
                run($crate::Driver::Poll);
            }
        }
    )*};
}
