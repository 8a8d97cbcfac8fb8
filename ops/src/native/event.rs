//! Messages become events: fields that a map has made are checked, against a
//! type where there is one, and take the place of the message.
//!
//! The map writes into fields of their own ([`made`]), so that a message that
//! makes no event is refused as it came. Types that nobody described are made
//! of their first event, for as long as the operator lives, at most
//! [`TYPES_MAX`] of them. Repeats are for the operator behind it ([`sample`]),
//! whose state is this one's.
//!
//! [`sample`]: super::keyed::sample

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use ringmain_base::Reason;
use ringmain_slab::{Full, RowRef, Scalar, SharedSchema, Slab, ValueRef};

use super::keyed::TimeUnit;
use super::keyed::{shown, time_of};
use crate::{Context, Operator, Tally};

/// Types that are made of events, at most.
pub const TYPES_MAX: usize = 1_000;

/// What a field of an event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A time as a number or a text.
    Time,
    /// A text that is not empty, or a whole number.
    Name,
    /// Anything.
    Any,
}

/// A field that a type knows.
#[derive(Clone, Debug)]
pub struct TypeField {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub holds: Holds,
    /// Whether every event has it.
    pub required: bool,
}

/// What events of a type must have.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// Severities; any, when empty.
    pub severities: Vec<i64>,
    /// Its own fields.
    pub fields: Vec<TypeField>,
}

/// How messages become events.
#[derive(Debug)]
pub struct EventOptions<'a> {
    /// Names of the event's fields.
    pub fields: &'a [String],
    /// An event without a timestamp has the time of its message.
    pub arrival_time: bool,
    /// Types by name.
    pub types: HashMap<String, Type>,
    /// Events of other types are refused.
    pub known_types_only: bool,
    /// Fields that make an event the same as another.
    pub key: &'a [String],
}

/// The field that the map writes a field of the event to.
#[must_use]
pub fn made(field: &str) -> String {
    format!("event:{field}")
}

/// A field of the event.
struct Place {
    name: String,
    /// Where the map wrote it, and where it goes.
    from: u16,
    to: u16,
    /// What every event has there; `None` for fields of its own.
    own: Option<Holds>,
    required: bool,
    in_key: bool,
}

struct Event {
    map: Box<dyn Operator>,
    once: Option<Box<dyn Operator>>,
    places: Vec<Place>,
    /// Bits of the places' `from`.
    made: u64,
    timestamp: Option<usize>,
    type_id: Option<usize>,
    severity: Option<usize>,
    arrival_time: bool,
    types: HashMap<String, Type>,
    created: HashMap<String, Type>,
    known_types_only: bool,
    dead: Vec<bool>,
    text: String,
}

/// Makes events of what `map` writes, and gives them to `once`.
///
/// # Errors
/// The field that has no slot.
pub fn event(
    map: Box<dyn Operator>,
    options: EventOptions<'_>,
    once: Option<Box<dyn Operator>>,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, String> {
    let slot = |name: &str| schema.intern(name).map_err(|full| format!("'{name}': {full}"));
    let mut places = Vec::new();
    for name in options.fields {
        let own = own(name);
        let required = matches!(own, Some(Holds::Name)) && name != "code"
            || name == "typeId"
            || (name == "timestamp" && !options.arrival_time);
        let (from, to) = (slot(&made(name))?, slot(name)?);
        let in_key = options.key.contains(name);
        places.push(Place { name: name.clone(), from, to, own, required, in_key });
    }
    let find = |name: &str| places.iter().position(|place| place.name == name);
    Ok(Box::new(Event {
        map,
        once,
        made: places.iter().fold(0, |mask, place| mask | 1 << place.from),
        timestamp: find("timestamp"),
        type_id: find("typeId"),
        severity: find("severity"),
        arrival_time: options.arrival_time,
        types: options.types,
        created: HashMap::new(),
        known_types_only: options.known_types_only,
        dead: Vec::new(),
        text: String::new(),
        places,
    }))
}

/// What every event has in a field of this name.
fn own(name: &str) -> Option<Holds> {
    Some(match name {
        "entityId" | "code" => Holds::Name,
        "timestamp" => Holds::Time,
        "typeId" | "description" | "source" => Holds::Text,
        "severity" => Holds::Integer,
        "acknowledged" => Holds::Boolean,
        _ => return None,
    })
}

impl Holds {
    fn takes(self, value: ValueRef<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Text => matches!(value, ValueRef::Str(_)),
            Self::Integer => matches!(value, ValueRef::Int(_)),
            Self::Number => {
                matches!(value, ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Number(_))
            }
            Self::Boolean => matches!(value, ValueRef::Bool(_)),
            Self::Name => match value {
                ValueRef::Str(text) => !text.is_empty(),
                value => matches!(value, ValueRef::Int(_)),
            },
            Self::Time => {
                let civil = |text: &str| text.parse::<DateTime>().is_ok();
                time_of(value, TimeUnit::Millis).is_some()
                    || matches!(value, ValueRef::Str(text) if civil(text))
            }
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Time => "a time",
            Self::Name => "a text or a whole number",
            Self::Any => "anything",
        }
    }

    /// Of a value that nobody has described.
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Str(_) => Self::Text,
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Number(_) => Self::Number,
            ValueRef::Bool(_) => Self::Boolean,
            _ => Self::Any,
        }
    }
}

fn is_there(value: ValueRef<'_>) -> bool {
    !matches!(value, ValueRef::Absent | ValueRef::Null)
}

#[cold]
fn wrong(name: &str, holds: Holds, value: ValueRef<'_>) -> String {
    format!("'{name}' of the event must be {}: {}", holds.words(), shown(value))
}

impl Event {
    /// Why the row makes no event.
    fn check(&mut self, row: RowRef<'_>) -> Result<(), String> {
        for place in &self.places {
            let value = row.get(place.from);
            if !is_there(value) {
                let by_arrival = place.name == "timestamp" && self.arrival_time;
                if place.required || (place.in_key && !by_arrival) {
                    return Err(format!("the event has no '{}'", place.name));
                }
            } else if let Some(holds) = place.own
                && !holds.takes(value)
            {
                return Err(wrong(&place.name, holds, value));
            }
        }
        let Some(at) = self.type_id else { return Ok(()) };
        let ValueRef::Str(name) = row.get(self.places[at].from) else { return Ok(()) };
        if let Some(kind) = self.types.get(name) {
            return self.check_type(row, name, kind);
        }
        if self.known_types_only {
            return Err(format!("the event type '{name}' is not one of [event_types]"));
        }
        self.check_created(row, name)
    }

    fn check_type(&self, row: RowRef<'_>, name: &str, kind: &Type) -> Result<(), String> {
        let severity = self.severity.map(|at| row.get(self.places[at].from));
        let allowed = match severity {
            _ if kind.severities.is_empty() => true,
            Some(ValueRef::Int(v)) => kind.severities.contains(&v),
            _ => false,
        };
        if !allowed {
            let has = match severity {
                Some(ValueRef::Int(v)) => format!("the severity {v}"),
                _ => "no 'severity'".to_owned(),
            };
            return Err(format!(
                "the event has {has}; the event type '{name}' allows {:?}",
                kind.severities
            ));
        }
        for field in &kind.fields {
            let place = self.places.iter().find(|place| place.name == field.name);
            let value = place.map_or(ValueRef::Absent, |place| row.get(place.from));
            if !is_there(value) && field.required {
                let field = &field.name;
                return Err(format!(
                    "the event has no '{field}', which its type '{name}' asks for"
                ));
            }
            if is_there(value) && !field.holds.takes(value) {
                return Err(wrong(&field.name, field.holds, value));
            }
        }
        for place in self.places.iter().filter(|place| place.own.is_none()) {
            let known = kind.fields.iter().any(|field| field.name == place.name);
            if !known && is_there(row.get(place.from)) {
                return Err(format!("the event type '{name}' has no field '{}'", place.name));
            }
        }
        Ok(())
    }

    fn check_created(&mut self, row: RowRef<'_>, name: &str) -> Result<(), String> {
        if !self.created.contains_key(name) {
            if self.created.len() >= TYPES_MAX {
                return Err(format!("the event type '{name}' would be one more than {TYPES_MAX}"));
            }
            self.created.insert(name.to_owned(), Type::default());
        }
        let Some(kind) = self.created.get_mut(name) else { return Ok(()) };
        let own = self.places.iter().filter(|place| place.own.is_none());
        let there = own.filter(|place| is_there(row.get(place.from)));
        for place in there.clone() {
            let value = row.get(place.from);
            let known = kind.fields.iter().find(|field| field.name == place.name);
            if let Some(field) = known.filter(|field| !field.holds.takes(value)) {
                let first = format!(", as in the first event of the type '{name}'");
                return Err(wrong(&place.name, field.holds, value) + &first);
            }
        }
        for place in there {
            if kind.fields.iter().all(|field| field.name != place.name) {
                let holds = Holds::of(row.get(place.from));
                let name = place.name.clone();
                kind.fields.push(TypeField { name, holds, required: false });
            }
        }
        Ok(())
    }

    /// The time at which the message came in, where it says none.
    fn stamp(&mut self, slab: &mut Slab, at: usize) -> Result<(), Full> {
        let Some(place) = self.timestamp.filter(|_| self.arrival_time) else { return Ok(()) };
        let slot = self.places[place].from;
        if is_there(slab.row(at).get(slot)) {
            return Ok(());
        }
        self.text.clear();
        let time = Timestamp::from_microsecond(slab.row(at).ts()).unwrap_or_default();
        // Writing to a text does not fail.
        let _ = write!(self.text, "{time}");
        slab.edit(at).set(slot, Scalar::Str(&self.text))
    }

    /// The event takes the place of the message.
    fn replace(&self, slab: &mut Slab, at: usize) -> Result<(), Full> {
        let mut row = slab.edit(at);
        row.reserve_slots(self.places.iter().map(|place| place.to + 1).max().unwrap_or(0))?;
        row.keep(self.made);
        self.places.iter().try_for_each(|place| row.rename(place.from, place.to))
    }

    /// The message as it came.
    fn strip(&self, slab: &mut Slab, at: usize) {
        let mut row = slab.edit(at);
        for place in &self.places {
            // Nothing is stored for what is absent.
            let _ = row.set(place.from, Scalar::Absent);
        }
    }

    fn make(&mut self, slab: &mut Slab, at: usize) -> Result<(), (Reason, String)> {
        let full = |full: Full| (Reason::Memory, full.to_string());
        self.check(slab.row(at)).map_err(|why| (Reason::Field, why))?;
        self.stamp(slab, at).map_err(full)?;
        self.replace(slab, at).map_err(full)
    }
}

impl Operator for Event {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        self.map.process(slab, cx);
        self.dead.clear();
        for at in 0..slab.len() {
            let made = self.make(slab, at);
            self.dead.push(made.is_err());
            if let Err((reason, why)) = made {
                self.strip(slab, at);
                cx.refuse.refuse(slab.row(at), reason, &why);
            }
        }
        if self.dead.contains(&true) {
            let mut dead = self.dead.iter();
            slab.retain(|_| !dead.next().copied().unwrap_or(false));
        }
        if let Some(once) = &mut self.once {
            once.process(slab, cx);
        }
    }

    fn state_format(&self) -> Option<&'static str> {
        self.once.as_ref().and_then(|once| once.state_format())
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        self.once.as_mut().map_or(Ok(()), |once| once.save(partition, into))
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        match &mut self.once {
            Some(once) => once.restore(partition, bytes),
            None => Err("this event sink drops no repeats".into()),
        }
    }

    fn tally(&self) -> Option<Tally> {
        self.once.as_ref().and_then(|once| once.tally())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;
    use crate::native::keyed::tests::Rig;

    const FIELDS: [&str; 6] = ["entityId", "timestamp", "typeId", "severity", "code", "heat"];

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Events of rows whose `id` is the entity and whose `v` is the heat.
    fn operator(rig: &Rig, types: &[(&str, Type)], known_types_only: bool) -> Box<dyn Operator> {
        let set = |field: &str, code: &str| (made(field), code.to_owned());
        let set = [
            set("entityId", "id"),
            set("timestamp", "nil"),
            set("typeId", "'hot'"),
            set("severity", "20 + n"),
            set("code", "'C'"),
            set("heat", "v"),
        ];
        let map = native::map("m", &set, &[], &[], &[], &rig.schema).unwrap();
        let options = EventOptions {
            fields: &names(&FIELDS),
            arrival_time: true,
            types: types.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect(),
            known_types_only,
            key: &names(&["entityId"]),
        };
        event(map, options, None, &rig.schema).unwrap()
    }

    fn run(rig: &mut Rig, operator: &mut dyn Operator) -> Vec<String> {
        let (now, ports) = (rig.now, &mut rig.ports[..]);
        operator.process(&mut rig.slab, &mut Context { now, refuse: &mut rig.refused, ports });
        let schema = rig.schema.snapshot();
        let row = |row: RowRef<'_>| {
            let names = schema.names().iter().zip(0..);
            let there = names.filter(|(_, slot)| is_there(row.get(*slot)));
            there.map(|(name, slot)| format!("{name}={:?} ", row.get(slot))).collect()
        };
        let rows = rig.slab.rows().map(row).collect();
        rig.slab.clear();
        rows
    }

    #[test]
    fn an_event_has_its_fields_and_nothing_else_of_the_message() {
        let mut rig = Rig::new();
        let mut operator = operator(&rig, &[], false);
        rig.push(Scalar::Str("e1"), Scalar::Float(95.5));
        let expected = "entityId=Str(\"e1\") timestamp=Str(\"2018-06-06T11:07:00Z\") \
                        typeId=Str(\"hot\") severity=Int(20) code=Str(\"C\") heat=Float(95.5) ";
        assert_eq!(run(&mut rig, &mut *operator), [expected]);
        assert!(rig.refused.0.is_empty());
    }

    #[test]
    fn what_makes_no_event_is_refused_as_it_came_with_the_name_of_the_field() {
        let mut rig = Rig::new();
        let heat = TypeField { name: "heat".into(), holds: Holds::Number, required: true };
        let kind = Type { severities: vec![20, 21, 22, 23], fields: vec![heat] };
        let mut operator = operator(&rig, &[("hot", kind)], true);
        rig.push(Scalar::Absent, Scalar::Int(1));
        rig.push(Scalar::Bool(true), Scalar::Int(1));
        rig.push(Scalar::Str("a"), Scalar::Absent);
        rig.push(Scalar::Str("a"), Scalar::Str("hot"));
        rig.push(Scalar::Str("a"), Scalar::Int(1));
        rig.push(Scalar::Str(""), Scalar::Int(1));
        assert_eq!(run(&mut rig, &mut *operator), [] as [&str; 0]);
        let expected = [
            "the event has no 'entityId'",
            "'entityId' of the event must be a text or a whole number: Bool(true)",
            "the event has no 'heat', which its type 'hot' asks for",
            "'heat' of the event must be a number: Str(\"hot\")",
            "the event has the severity 24; the event type 'hot' allows [20, 21, 22, 23]",
            "'entityId' of the event must be a text or a whole number: Str(\"\")",
        ];
        let told: Vec<_> = rig.refused.0.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_type_that_nobody_described_is_made_of_its_first_event_or_refused() {
        let mut rig = Rig::new();
        let mut creates = operator(&rig, &[], false);
        for heat in [Scalar::Absent, Scalar::Int(1), Scalar::Float(1.5), Scalar::Str("1")] {
            rig.push(Scalar::Str("a"), heat);
        }
        assert_eq!(run(&mut rig, &mut *creates).len(), 3);
        let why = "'heat' of the event must be a number: Str(\"1\"), as in the first event of the \
                   type 'hot'";
        assert_eq!(rig.refused.0.pop(), Some((Reason::Field, why.to_owned())));
        let mut refuses = operator(&rig, &[("cold", Type::default())], true);
        rig.push(Scalar::Str("a"), Scalar::Int(1));
        assert!(run(&mut rig, &mut *refuses).is_empty());
        let why = "the event type 'hot' is not one of [event_types]";
        assert_eq!(rig.refused.0.pop(), Some((Reason::Field, why.to_owned())));
    }

    #[test]
    fn times_are_numbers_and_texts_with_or_without_a_zone() {
        for good in ["2018-06-07T11:06:00Z", "2014-02-01 00:05:00", "2018.06.07T11:06:00.000Z"] {
            assert!(Holds::Time.takes(ValueRef::Str(good)), "{good}");
        }
        assert!(Holds::Time.takes(ValueRef::Int(1)) && !Holds::Time.takes(ValueRef::Bool(true)));
        assert!(!Holds::Time.takes(ValueRef::Str("soon")));
    }
}
