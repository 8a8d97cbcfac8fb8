//! Fields set, renamed and removed, in the rows where they lie.
//!
//! All expressions see the message as it came in. A row for which one of them
//! raises an error is refused unchanged.

use ringmain_base::Reason;
use ringmain_slab::{Full, RowMut, RowRef, Scalar, Shared, Slab, Source, ValueRef};

use super::column::{Program, RUN};
use super::eval::{self, Bound, Evaluator, Raised, Value};
use super::parse::Expr;
use super::predicate::{Numeric, Predicate};
use crate::{Context, Operator};

/// A field and what it becomes.
pub(crate) struct Set {
    slot: u16,
    expr: Bound,
    form: Form,
}

enum Form {
    /// The same for every row.
    Constant(Constant),
    /// Arithmetic.
    Column(Program),
    /// One of two, by a question to the row.
    Choice(Box<Choice>),
    /// What another field has, which no expression sets.
    Copy(u16),
    /// Whatever it may be: every row is evaluated in full.
    Any,
}

enum Constant {
    Scalar(Scalar<'static>),
    /// In the slab once, for all rows.
    Text {
        text: String,
        shared: Option<Shared>,
    },
}

/// `condition and yes or no`
struct Choice {
    condition: Predicate,
    yes: Constant,
    no: Constant,
    /// The answers of the run.
    answers: [bool; RUN],
}

/// What a row's expressions came to, while the row is still as it was.
#[derive(Clone, Copy)]
enum Outcome {
    Scalar(Scalar<'static>),
    Made(usize, usize),
    Field(u16),
}

pub(crate) struct Map {
    sets: Vec<Set>,
    shape: Shape,
    /// Slots that the rows must have.
    slots: u16,
    /// Whether some expression has no fast form.
    slow: bool,
    /// Rows of the run that are evaluated in full.
    odd: [bool; RUN],
    /// Rows of the slab that were refused.
    dead: Vec<bool>,
    outcomes: Vec<Outcome>,
    evaluator: Evaluator,
}

/// What follows the setting of fields, in this order.
pub(crate) struct Shape {
    pub renames: Vec<(u16, u16)>,
    pub removes: Vec<u16>,
    /// A bit for each slot that stays.
    pub keep: Option<u64>,
}

#[inline]
fn set_number(row: &mut RowMut<'_>, slot: u16, value: f64) -> Result<(), Full> {
    match scalar(value) {
        Scalar::Int(value) => row.set_int(slot, value),
        _ => row.set_float(slot, value),
    }
}

/// The number as a field: whole ones that a double holds exactly are integers.
#[inline]
pub(crate) fn scalar(value: f64) -> Scalar<'static> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let whole = value as i64;
    // By bits, because -0.0 is not the integer 0.
    if (whole as f64).to_bits() == value.to_bits() && value.abs() < EXACT {
        Scalar::Int(whole)
    } else {
        Scalar::Float(value)
    }
}

/// The constant that an expression is, or nothing if it is none, or one that a
/// row cannot have.
fn constant(expr: &Bound) -> Option<Constant> {
    Some(match expr {
        Expr::Nil => Constant::Scalar(Scalar::Absent),
        Expr::Bool(value) => Constant::Scalar(Scalar::Bool(*value)),
        Expr::Text(text) => {
            Constant::Text { text: String::from_utf8(text.clone()).ok()?, shared: None }
        }
        expr => match Numeric::compile(expr)? {
            Numeric::Constant(value) => Constant::Scalar(scalar(value)),
            _ => return None,
        },
    })
}

impl Constant {
    fn intern(&mut self, slab: &mut Slab) -> Result<(), Full> {
        if let Self::Text { text, shared } = self {
            *shared = Some(slab.intern(text)?);
        }
        Ok(())
    }

    #[inline]
    fn put(&self, row: &mut RowMut<'_>, slot: u16) -> Result<(), Full> {
        match self {
            Self::Scalar(value) => row.set(slot, *value),
            Self::Text { shared: Some(shared), .. } => row.set_shared(slot, *shared),
            Self::Text { text, shared: None } => row.set(slot, Scalar::Str(text)),
        }
    }
}

impl Choice {
    /// Lua has no other way to write it; it works because `yes` is true.
    fn compile(expr: &Bound) -> Option<Self> {
        let Expr::Or(left, no) = expr else { return None };
        let Expr::And(condition, yes) = &**left else { return None };
        let yes = constant(yes)?;
        if matches!(yes, Constant::Scalar(Scalar::Absent | Scalar::Bool(false))) {
            return None;
        }
        let condition = Predicate::compile(condition)?;
        Some(Self { condition, yes, no: constant(no)?, answers: [false; RUN] })
    }
}

impl Set {
    pub(crate) fn new(slot: u16, expr: Bound) -> Self {
        let form = if let Some(constant) = constant(&expr) {
            Form::Constant(constant)
        } else if let Expr::Field(field) = &expr {
            Form::Copy(field.slot)
        } else if let Some(numeric) = Numeric::compile(&expr) {
            Form::Column(Program::new(&numeric))
        } else {
            Choice::compile(&expr).map_or(Form::Any, |choice| Form::Choice(Box::new(choice)))
        };
        Self { slot, expr, form }
    }

    /// Finds out what the run's rows get, and which rows are odd.
    fn look(&mut self, slab: &Slab, first: usize, odd: &mut [bool]) {
        match &mut self.form {
            Form::Column(program) => program.run(slab, first, odd),
            Form::Choice(choice) => {
                for (at, (answer, odd)) in choice.answers.iter_mut().zip(odd).enumerate() {
                    match choice.condition.holds(slab.row(first + at)) {
                        Some(holds) => *answer = holds,
                        None => *odd = true,
                    }
                }
            }
            Form::Copy(from) => {
                for (at, odd) in odd.iter_mut().enumerate() {
                    *odd |= is_text_in_bytes(slab.row(first + at), *from);
                }
            }
            Form::Constant(_) | Form::Any => {}
        }
    }

    /// Gives it to them. The form is known outside of the loop.
    fn put(&self, slab: &mut Slab, first: usize, odd: &[bool]) -> Result<(), Full> {
        let slot = self.slot;
        match &self.form {
            Form::Constant(Constant::Text { shared: Some(shared), .. }) => {
                each(slab, first, odd, |row, _| row.set_shared(slot, *shared))
            }
            Form::Constant(constant) => each(slab, first, odd, |row, _| constant.put(row, slot)),
            Form::Column(program) => {
                let values = program.values();
                each(slab, first, odd, |row, at| set_number(row, slot, values[at]))
            }
            Form::Choice(choice) => each(slab, first, odd, |row, at| {
                let constant = if choice.answers[at] { &choice.yes } else { &choice.no };
                constant.put(row, slot)
            }),
            Form::Copy(from) => each(slab, first, odd, |row, _| copy(row, *from, slot)),
            Form::Any => Ok(()),
        }
    }
}

/// Does something with the rows of a run that are not odd.
#[inline]
fn each(
    slab: &mut Slab,
    first: usize,
    odd: &[bool],
    mut act: impl FnMut(&mut RowMut<'_>, usize) -> Result<(), Full>,
) -> Result<(), Full> {
    for (at, odd) in odd.iter().enumerate() {
        if !odd {
            act(&mut slab.edit(first + at), at)?;
        }
    }
    Ok(())
}

/// Bytes that are text become text on their way through Lua.
#[inline]
fn is_text_in_bytes(row: RowRef<'_>, slot: u16) -> bool {
    matches!(row.get(slot), ValueRef::Bytes(bytes) if str::from_utf8(bytes).is_ok())
}

/// A field as Lua sees it: null is nothing, and a number is a double.
#[inline]
fn copy(row: &mut RowMut<'_>, from: u16, to: u16) -> Result<(), Full> {
    match eval::field(row.as_ref(), from) {
        Value::Nil => row.set(to, Scalar::Absent),
        Value::Bool(value) => row.set(to, Scalar::Bool(value)),
        Value::Number(value) => set_number(row, to, value),
        Value::Text(_) | Value::Made(..) | Value::Table(_) => row.copy(from, to),
    }
}

impl Shape {
    fn is_none(&self) -> bool {
        self.renames.is_empty() && self.removes.is_empty() && self.keep.is_none()
    }

    fn apply(&self, row: &mut RowMut<'_>) -> Result<(), Full> {
        for (from, to) in &self.renames {
            row.rename(*from, *to)?;
        }
        for slot in &self.removes {
            row.set(*slot, Scalar::Absent)?;
        }
        if let Some(keep) = self.keep {
            row.keep(keep);
        }
        Ok(())
    }
}

impl Map {
    pub(crate) fn new(mut sets: Vec<Set>, shape: Shape) -> Self {
        let slots: Vec<u16> = sets.iter().map(|set| set.slot).collect();
        for set in &mut sets {
            if matches!(set.form, Form::Copy(from) if slots.contains(&from)) {
                set.form = Form::Any;
            }
        }
        let targets = slots.into_iter().chain(shape.renames.iter().map(|pair| pair.1));
        Self {
            slots: targets.max().map_or(0, |slot| slot + 1),
            slow: sets.iter().any(|set| matches!(set.form, Form::Any)),
            sets,
            shape,
            odd: [false; RUN],
            dead: Vec::new(),
            outcomes: Vec::new(),
            evaluator: Evaluator::default(),
        }
    }

    /// Gives every row its slots, and the slab the texts: afterwards, nothing
    /// but a text that is made for one row needs memory.
    fn prepare(&mut self, slab: &mut Slab) -> Result<(), Full> {
        for at in 0..slab.len() {
            slab.edit(at).reserve_slots(self.slots)?;
        }
        for set in self.sets.iter_mut().filter(|_| !self.slow) {
            match &mut set.form {
                Form::Constant(constant) => constant.intern(slab)?,
                Form::Choice(choice) => {
                    choice.yes.intern(slab)?;
                    choice.no.intern(slab)?;
                }
                Form::Column(_) | Form::Copy(_) | Form::Any => {}
            }
        }
        Ok(())
    }

    /// Works on the rows from `first` on, at most [`RUN`].
    fn run(&mut self, slab: &mut Slab, first: usize, cx: &mut Context<'_>) -> Result<(), Full> {
        let rows = (slab.len() - first).min(RUN);
        self.odd[..rows].fill(self.slow);
        for set in &mut self.sets {
            set.look(slab, first, &mut self.odd[..rows]);
        }
        if !self.slow {
            for set in &self.sets {
                set.put(slab, first, &self.odd[..rows])?;
            }
        }
        for at in first..first + rows {
            if self.odd[at - first] {
                self.set_in_full(slab, at, cx);
            }
        }
        if !self.shape.is_none() {
            for at in first..first + rows {
                if !self.is_dead(at) {
                    self.shape.apply(&mut slab.edit(at))?;
                }
            }
        }
        Ok(())
    }

    fn is_dead(&self, at: usize) -> bool {
        self.dead.get(at).copied().unwrap_or(false)
    }

    fn set_in_full(&mut self, slab: &mut Slab, at: usize, cx: &mut Context<'_>) {
        let done = self.try_in_full(slab, at);
        let Err(fault) = done else { return };
        let row = slab.row(at);
        match fault {
            None => cx.refuse.refuse(row, Reason::Script, self.evaluator.detail()),
            Some(full) => cx.refuse.refuse(row, Reason::Memory, &full.to_string()),
        }
        self.dead.resize(at, false);
        self.dead.push(true);
    }

    /// The error is `None` if an expression raised it.
    fn try_in_full(&mut self, slab: &mut Slab, at: usize) -> Result<(), Option<Full>> {
        self.outcomes.clear();
        self.evaluator.reset();
        for set in &self.sets {
            let outcome = outcome(&mut self.evaluator, &set.expr, slab, at).map_err(|_| None)?;
            self.outcomes.push(outcome);
        }
        let evaluator = &self.evaluator;
        let source = |outcome: &Outcome| match *outcome {
            Outcome::Scalar(value) => Source::Scalar(value),
            Outcome::Field(slot) => Source::Field(slot),
            Outcome::Made(from, to) => Source::Scalar({
                let bytes = evaluator.made(from, to);
                str::from_utf8(bytes).map_or(Scalar::Bytes(bytes), Scalar::Str)
            }),
        };
        let values = self.sets.iter().zip(&self.outcomes);
        slab.edit(at).assign(values.map(|(set, outcome)| (set.slot, source(outcome)))).map_err(Some)
    }

    fn refuse_all(slab: &mut Slab, full: Full, cx: &mut Context<'_>) {
        let detail = full.to_string();
        slab.rows().for_each(|row| cx.refuse.refuse(row, Reason::Memory, &detail));
        slab.truncate(0);
    }
}

fn outcome(
    evaluator: &mut Evaluator,
    expr: &Bound,
    slab: &Slab,
    at: usize,
) -> Result<Outcome, Raised> {
    let row = slab.row(at);
    Ok(match (evaluator.value(expr, row)?, expr) {
        (Value::Nil, _) => Outcome::Scalar(Scalar::Absent),
        (Value::Bool(value), _) => Outcome::Scalar(Scalar::Bool(value)),
        (Value::Number(value), _) => Outcome::Scalar(scalar(value)),
        (Value::Text(_), Expr::Field(field)) if !is_text_in_bytes(row, field.slot) => {
            Outcome::Field(field.slot)
        }
        (Value::Text(text), _) => {
            let (from, to) = evaluator.hold(text);
            Outcome::Made(from, to)
        }
        (Value::Made(from, to), _) => Outcome::Made(from, to),
        (Value::Table(slot), _) => Outcome::Field(slot),
    })
}

impl Operator for Map {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        if slab.is_empty() {
            return;
        }
        if let Err(full) = self.prepare(slab) {
            return Self::refuse_all(slab, full, cx);
        }
        self.dead.clear();
        for first in (0..slab.len()).step_by(RUN) {
            self.run(slab, first, cx).expect("rows have their slots, and texts are in the slab");
        }
        if !self.dead.is_empty() {
            let mut dead = self.dead.iter().copied().chain(std::iter::repeat(false));
            slab.retain(|_| !dead.next().unwrap_or(false));
        }
    }
}
