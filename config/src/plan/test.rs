//! `[[tests]]`: what a flow is shown to do. Messages stay text or tables:
//! whoever runs the tests makes rows of them.

use super::Input;
use crate::span::{Span, Spanned};
use crate::value::Table;

/// `[[tests]]`
#[derive(Clone, Debug, PartialEq)]
pub struct TestPlan {
    /// What it shows.
    pub name: Spanned<String>,
    /// Where the virtual clock begins, in microseconds since the Unix epoch.
    pub start_us: i64,
    /// What happens, in order.
    pub steps: Vec<TestStep>,
}

/// One thing that happens in a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestStep {
    /// Moves the clock on by microseconds.
    Advance(u64),
    /// Puts a batch in.
    Insert(TestInsert),
    /// Looks at what came out. All of these see the same messages.
    Expect(Vec<TestExpect>),
}

/// `insert = [{ ... }]`
#[derive(Clone, Debug, PartialEq)]
pub struct TestInsert {
    /// The component.
    pub at: Spanned<String>,
    /// What is put in.
    pub payload: TestPayload,
}

/// What is inserted.
#[derive(Clone, Debug, PartialEq)]
pub enum TestPayload {
    /// `json`: a message, or the frame of one.
    Json(Spanned<String>),
    /// `text`: a frame.
    Text(String),
    /// `lines`: a frame, or a message as JSON, per line.
    Lines(Vec<Spanned<String>>),
    /// `message`: a message.
    Message(Table),
}

/// `expect = [{ ... }]`
#[derive(Clone, Debug)]
pub struct TestExpect {
    /// Component and port, or `dead_letters`.
    pub at: Input,
    /// What must hold.
    pub checks: Vec<TestCheck>,
    /// The whole expectation.
    pub span: Span,
}

/// Compares values, not places.
impl PartialEq for TestExpect {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.checks == other.checks
    }
}

/// One condition of an expectation.
#[derive(Clone, Debug, PartialEq)]
pub enum TestCheck {
    /// `none = true`
    None,
    /// `count`
    Count(u64),
    /// `messages`: all, in order.
    Messages(Vec<TestMessage>),
    /// `contains`: at least the fields of each in a message of its own.
    Contains(Vec<TestMessage>),
    /// `where`: a Lua expression that is true for each.
    Where(Spanned<String>),
}

/// A message that is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum TestMessage {
    /// `'{...}'`
    Json(Spanned<String>),
    /// `{ field = value }`
    Table(Spanned<Table>),
}
