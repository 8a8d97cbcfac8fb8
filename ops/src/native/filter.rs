//! Rows for which an expression is true stay.

use ringmain_base::Reason;
use ringmain_slab::{RowRef, Slab};

use super::eval::{Bound, Evaluator};
use super::parse::Compare;
use super::predicate::{Predicate, compare, number, text};
use crate::{Context, Operator, Refuse};

/// An expression as a condition: its fast form, if it has one, and the whole
/// of it for the rows that need it.
pub(crate) struct Condition {
    expr: Bound,
    fast: Option<Predicate>,
    evaluator: Evaluator,
}

impl Condition {
    pub(crate) fn new(expr: Bound) -> Self {
        Self { fast: Predicate::compile(&expr), expr, evaluator: Evaluator::default() }
    }

    /// Whether the row meets the condition; nothing if it was refused.
    #[inline]
    pub(crate) fn holds(&mut self, row: RowRef<'_>, refuse: &mut dyn Refuse) -> Option<bool> {
        let fast = self.fast.as_ref().and_then(|fast| fast.holds(row));
        fast.or_else(|| self.in_full(row, refuse))
    }

    #[cold]
    fn in_full(&mut self, row: RowRef<'_>, refuse: &mut dyn Refuse) -> Option<bool> {
        self.evaluator.reset();
        let holds = self.evaluator.value(&self.expr, row).map(|value| value.is_true());
        if holds.is_err() {
            refuse.refuse(row, Reason::Script, self.evaluator.detail());
        }
        holds.ok()
    }
}

pub(crate) struct Filter {
    condition: Condition,
}

impl Filter {
    pub(crate) fn new(expr: Bound) -> Self {
        Self { condition: Condition::new(expr) }
    }

    /// One loop for a question that is known when this is compiled.
    #[inline]
    fn retain(
        &mut self,
        slab: &mut Slab,
        refuse: &mut dyn Refuse,
        fast: impl Fn(RowRef<'_>) -> Option<bool>,
    ) {
        slab.retain(|row| match fast(row) {
            Some(keep) => keep,
            None => self.condition.in_full(row, refuse).unwrap_or(false),
        });
    }
}

impl Operator for Filter {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        // Taken out for the time of the loop, which needs the rest.
        let fast = self.condition.fast.take();
        let refuse = &mut *cx.refuse;
        match &fast {
            Some(Predicate::Number(op, slot, value)) => {
                let (slot, value) = (*slot, *value);
                // The operator as a constant of the loop.
                macro_rules! each {
                    ($($op:ident),*) => {
                        match op {
                            $(Compare::$op => self.retain(slab, refuse, |row| {
                                match row.number(slot) {
                                    Some(is) => Some(compare(Compare::$op, is, value)),
                                    None => number(row, slot, Compare::$op, value),
                                }
                            }),)*
                        }
                    };
                }
                each!(Eq, Ne, Lt, Le, Gt, Ge);
            }
            Some(Predicate::Text(equal, slot, value)) => {
                self.retain(slab, refuse, |row| Some(text(row, *slot, value) == *equal));
            }
            Some(fast) => self.retain(slab, refuse, |row| fast.holds(row)),
            None => self.retain(slab, refuse, |_| None),
        }
        self.condition.fast = fast;
    }
}
