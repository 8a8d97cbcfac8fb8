//! Fields set, renamed and removed, in the rows where they lie.
//!
//! All expressions see the message as it came in. A row for which one of them
//! raises an error is refused unchanged.

use ringmain_base::Reason;
use ringmain_slab::{Full, RowMut, Scalar, Shared, Slab, Source};

use super::column::{Program, RUN};
use super::eval::{Bound, Evaluator, Raised, Value};
use super::parse::Expr;
use super::predicate::Numeric;
use crate::{Context, Operator};

/// A field and what it becomes.
pub(crate) struct Set {
    slot: u16,
    expr: Bound,
    form: Form,
}

enum Form {
    /// The same for every row.
    Scalar(Scalar<'static>),
    /// A text for every row, in the slab once.
    Text { text: String, shared: Option<Shared> },
    /// Arithmetic.
    Column(Program),
    /// Whatever it may be.
    Any,
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
    renames: Vec<(u16, u16)>,
    removes: Vec<u16>,
    keep: Option<u64>,
    /// Slots that the rows must have.
    slots: u16,
    /// Whether some expression has no fast form.
    slow: bool,
    odd: [bool; RUN],
    dead: Vec<bool>,
    outcomes: Vec<Outcome>,
    evaluator: Evaluator,
}

/// The number as a field: whole ones that a double holds exactly are integers.
#[inline]
fn scalar(value: f64) -> Scalar<'static> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let whole = value as i64;
    if whole as f64 == value && value.abs() < EXACT {
        Scalar::Int(whole)
    } else {
        Scalar::Float(value)
    }
}

impl Set {
    /// Nothing when the value is one that a row cannot have.
    pub(crate) fn new(slot: u16, expr: Bound) -> Option<Self> {
        let form = match &expr {
            Expr::Nil => Form::Scalar(Scalar::Absent),
            Expr::Bool(value) => Form::Scalar(Scalar::Bool(*value)),
            Expr::Text(text) => {
                Form::Text { text: String::from_utf8(text.clone()).ok()?, shared: None }
            }
            // Any type may be in the field.
            Expr::Field(_) => Form::Any,
            expr => match Numeric::compile(expr) {
                Some(Numeric::Constant(value)) => Form::Scalar(scalar(value)),
                Some(numeric) => Form::Column(Program::new(&numeric)),
                None => Form::Any,
            },
        };
        Some(Self { slot, expr, form })
    }
}

impl Map {
    pub(crate) fn new(
        sets: Vec<Set>,
        renames: Vec<(u16, u16)>,
        removes: Vec<u16>,
        keep: Option<u64>,
    ) -> Self {
        let targets = sets.iter().map(|set| set.slot).chain(renames.iter().map(|pair| pair.1));
        Self {
            slots: targets.max().map_or(0, |slot| slot + 1),
            slow: sets.iter().any(|set| matches!(set.form, Form::Any)),
            sets,
            renames,
            removes,
            keep,
            odd: [false; RUN],
            dead: Vec::new(),
            outcomes: Vec::new(),
            evaluator: Evaluator::default(),
        }
    }

    /// Gives every row its slots, and the slab the texts: afterwards, setting
    /// a field to a constant or a number cannot fail.
    fn prepare(&mut self, slab: &mut Slab) -> Result<(), Full> {
        for at in 0..slab.len() {
            slab.edit(at).reserve_slots(self.slots)?;
        }
        for set in &mut self.sets {
            if let Form::Text { text, shared } = &mut set.form {
                *shared = Some(slab.intern(text)?);
            }
        }
        Ok(())
    }

    /// Works on the rows from `first` on, at most [`RUN`]. True if one died.
    fn run(&mut self, slab: &mut Slab, first: usize, cx: &mut Context<'_>) -> bool {
        let rows = (slab.len() - first).min(RUN);
        self.odd[..rows].fill(self.slow);
        for set in &mut self.sets {
            if let Form::Column(program) = &mut set.form {
                program.run(slab, first, &mut self.odd[..rows]);
            }
        }
        let mut died = false;
        for at in 0..rows {
            let set = if self.odd[at] {
                self.set_in_full(slab, first + at)
            } else {
                self.set_fast(&mut slab.edit(first + at), at).map_err(Some)
            };
            let Err(fault) = set.and_then(|()| self.shape(slab.edit(first + at)).map_err(Some))
            else {
                continue;
            };
            let row = slab.row(first + at);
            match fault {
                None => cx.refuse.refuse(row, Reason::Script, self.evaluator.detail()),
                Some(full) => cx.refuse.refuse(row, Reason::Memory, &full.to_string()),
            }
            self.dead.resize(first + at, false);
            self.dead.push(true);
            died = true;
        }
        died
    }

    #[inline]
    fn set_fast(&self, row: &mut RowMut<'_>, at: usize) -> Result<(), Full> {
        for set in &self.sets {
            match &set.form {
                Form::Scalar(value) => row.set(set.slot, *value)?,
                Form::Text { shared: Some(shared), .. } => row.set_shared(set.slot, *shared)?,
                Form::Text { text, shared: None } => row.set(set.slot, Scalar::Str(text))?,
                Form::Column(program) => row.set(set.slot, scalar(program.values()[at]))?,
                Form::Any => {}
            }
        }
        Ok(())
    }

    /// The error is `None` if an expression raised it.
    fn set_in_full(&mut self, slab: &mut Slab, at: usize) -> Result<(), Option<Full>> {
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

    #[inline]
    fn shape(&self, mut row: RowMut<'_>) -> Result<(), Full> {
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

fn outcome(
    evaluator: &mut Evaluator,
    expr: &Bound,
    slab: &Slab,
    at: usize,
) -> Result<Outcome, Raised> {
    Ok(match (evaluator.value(expr, slab.row(at))?, expr) {
        (Value::Nil, _) => Outcome::Scalar(Scalar::Absent),
        (Value::Bool(value), _) => Outcome::Scalar(Scalar::Bool(value)),
        (Value::Number(value), _) => Outcome::Scalar(scalar(value)),
        (Value::Text(_), Expr::Field(field)) => Outcome::Field(field.slot),
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
            let detail = full.to_string();
            slab.rows().for_each(|row| cx.refuse.refuse(row, Reason::Memory, &detail));
            return slab.truncate(0);
        }
        self.dead.clear();
        let mut died = false;
        for first in (0..slab.len()).step_by(RUN) {
            died |= self.run(slab, first, cx);
        }
        if died {
            let mut dead = self.dead.iter().copied().chain(std::iter::repeat(false));
            slab.retain(|_| !dead.next().unwrap_or(false));
        }
    }
}
