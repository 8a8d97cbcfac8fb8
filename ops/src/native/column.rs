//! Arithmetic over a run of rows at a time: each step of the expression is one
//! loop over numbers, so what it costs to find out which step it is is spread
//! over the run, and the compiler vectorises it.

use ringmain_slab::Slab;

use super::eval::math;
use super::parse::Math;
use super::predicate::Numeric;

/// Rows of a run. The columns of an expression of usual depth stay in the
/// first-level cache.
pub(crate) const RUN: usize = 256;

type Column = [f64; RUN];

#[derive(Clone, Debug)]
enum Step {
    Load(u16),
    Constant(f64),
    Minus,
    Math(Math),
    /// The top of the stack is the left operand.
    MathConstant(Math, f64),
}

/// Arithmetic in the order of its execution, with the memory for it.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    stack: Vec<Column>,
}

impl Program {
    pub(crate) fn new(expr: &Numeric) -> Self {
        let mut steps = Vec::new();
        let depth = emit(expr, &mut steps);
        Self { steps, stack: vec![[0.0; RUN]; depth] }
    }

    /// The values for the rows from `first` on, as many as `odd` is long.
    /// `odd` is set for rows in which a field is not a number.
    pub(crate) fn run(&mut self, slab: &Slab, first: usize, odd: &mut [bool]) {
        let mut top = 0;
        for step in &self.steps {
            match step {
                Step::Load(slot) => {
                    load(slab, first, *slot, &mut self.stack[top], odd);
                    top += 1;
                }
                Step::Constant(value) => {
                    self.stack[top].fill(*value);
                    top += 1;
                }
                Step::Minus => self.stack[top - 1].iter_mut().for_each(|value| *value = -*value),
                Step::Math(op) => {
                    let (left, right) = self.stack.split_at_mut(top - 1);
                    apply(*op, &mut left[top - 2], &right[0]);
                    top -= 1;
                }
                Step::MathConstant(op, value) => {
                    apply_constant(*op, &mut self.stack[top - 1], *value)
                }
            }
        }
    }

    /// The values of the last run.
    #[inline]
    pub(crate) fn values(&self) -> &Column {
        &self.stack[0]
    }
}

/// Appends the steps of `expr` and returns how deep their stack gets.
fn emit(expr: &Numeric, steps: &mut Vec<Step>) -> usize {
    match expr {
        Numeric::Field(slot) => {
            steps.push(Step::Load(*slot));
            1
        }
        Numeric::Constant(value) => {
            steps.push(Step::Constant(*value));
            1
        }
        Numeric::Minus(inner) => {
            let depth = emit(inner, steps);
            steps.push(Step::Minus);
            depth
        }
        Numeric::Math(op, left, right) => {
            let depth = emit(left, steps);
            if let Numeric::Constant(value) = **right {
                steps.push(Step::MathConstant(*op, value));
                return depth;
            }
            let depth = depth.max(1 + emit(right, steps));
            steps.push(Step::Math(*op));
            depth
        }
    }
}

#[inline]
fn load(slab: &Slab, first: usize, slot: u16, to: &mut Column, odd: &mut [bool]) {
    for (at, (to, odd)) in to.iter_mut().zip(odd).enumerate() {
        let number = slab.row(first + at).number(slot);
        *odd |= number.is_none();
        *to = number.unwrap_or(0.0);
    }
}

/// One loop per operator, not one decision per row.
fn apply(op: Math, left: &mut Column, right: &Column) {
    fn each(left: &mut Column, right: &Column, op: impl Fn(f64, f64) -> f64) {
        left.iter_mut().zip(right).for_each(|(left, right)| *left = op(*left, *right));
    }
    match op {
        Math::Add => each(left, right, |a, b| math(Math::Add, a, b)),
        Math::Sub => each(left, right, |a, b| math(Math::Sub, a, b)),
        Math::Mul => each(left, right, |a, b| math(Math::Mul, a, b)),
        Math::Div => each(left, right, |a, b| math(Math::Div, a, b)),
        Math::Mod => each(left, right, |a, b| math(Math::Mod, a, b)),
        Math::Pow => each(left, right, |a, b| math(Math::Pow, a, b)),
    }
}

fn apply_constant(op: Math, left: &mut Column, right: f64) {
    fn each(left: &mut Column, op: impl Fn(f64) -> f64) {
        left.iter_mut().for_each(|left| *left = op(*left));
    }
    match op {
        Math::Add => each(left, |a| math(Math::Add, a, right)),
        Math::Sub => each(left, |a| math(Math::Sub, a, right)),
        Math::Mul => each(left, |a| math(Math::Mul, a, right)),
        Math::Div => each(left, |a| math(Math::Div, a, right)),
        Math::Mod => each(left, |a| math(Math::Mod, a, right)),
        Math::Pow => each(left, |a| math(Math::Pow, a, right)),
    }
}
