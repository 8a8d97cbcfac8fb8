//! A condition on every row of a slab, native or not.

use ringmain_base::Reason;
use ringmain_slab::{RowRef, SharedSchema, Slab};

use crate::native::{bind, filter};
use crate::{Context, Operator, Refuse};

/// The answer of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    No,
    Yes,
    /// The expression raised an error on it: it is a dead letter now.
    Refused,
}

/// An expression that is asked once per slab.
pub struct Condition(Form);

enum Form {
    Native(Box<filter::Condition>),
    Filter { filter: Box<dyn Operator>, kept: Vec<bool>, offsets: Vec<u32> },
}

impl Condition {
    /// The native form of an expression, if it has one.
    #[must_use]
    pub fn native(expr: &str, schema: &SharedSchema) -> Option<Self> {
        let condition = filter::Condition::new(bind(expr, schema)?);
        Some(Self(Form::Native(Box::new(condition))))
    }

    /// What an operator without ports keeps, which changes no message.
    #[must_use]
    pub fn filter(filter: Box<dyn Operator>) -> Self {
        Self(Form::Filter { filter, kept: Vec::new(), offsets: Vec::new() })
    }

    /// Asks every row.
    pub(crate) fn ask(&mut self, slab: &mut Slab, cx: &mut Context<'_>, to: &mut Vec<Answer>) {
        to.clear();
        match &mut self.0 {
            Form::Native(condition) => {
                to.extend(slab.rows().map(|row| match condition.holds(row, cx.refuse) {
                    Some(true) => Answer::Yes,
                    Some(false) => Answer::No,
                    None => Answer::Refused,
                }));
            }
            Form::Filter { filter, kept, offsets } => {
                let mut noted = Noted { refuse: &mut *cx.refuse, rows: Vec::new() };
                let now = cx.now;
                slab.sift(kept, offsets, |slab| {
                    let mut cx = Context { now, refuse: &mut noted, ports: &mut [] };
                    filter.process(slab, &mut cx);
                });
                let mut refused = noted.rows.into_iter().peekable();
                for (row, kept) in slab.rows().zip(kept) {
                    let answer = if *kept { Answer::Yes } else { Answer::No };
                    let dead = refused.next_if_eq(&place(row)).is_some();
                    to.push(if dead { Answer::Refused } else { answer });
                }
            }
        }
    }
}

/// Where a row lies: rows are refused in their order, and none moves.
fn place(row: RowRef<'_>) -> usize {
    row.image().as_ptr().addr()
}

struct Noted<'a> {
    refuse: &'a mut dyn Refuse,
    rows: Vec<usize>,
}

impl Refuse for Noted<'_> {
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.rows.push(place(row));
        self.refuse.refuse(row, reason, detail);
    }
}
