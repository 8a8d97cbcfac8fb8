//! A slab, an operator, and what comes of them.
#![allow(dead_code)]

use ringmain_base::{Now, Reason};
use ringmain_ops::{Code, Context, Operator, Refuse};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab, ValueRef};

/// Fields of a message.
pub type Fields<'a> = &'a [(&'a str, Scalar<'a>)];

pub fn budget() -> Budget {
    Budget::new(64 << 20)
}

/// A slab of the standard size.
pub fn slab() -> Slab {
    Slab::new(64 << 10, &budget())
}

/// Appends a message whose row has all slots of the schema.
pub fn push(slab: &mut Slab, schema: &SharedSchema, ts: i64, fields: Fields<'_>) {
    let slots: Vec<u16> =
        fields.iter().map(|(name, _)| schema.intern(name).expect("a slot is left")).collect();
    let version = schema.snapshot().version();
    let mut scratch = Scratch::default();
    let mut row = slab.build(version, version, &mut scratch);
    for (slot, (_, value)) in slots.iter().zip(fields) {
        row.set(*slot, *value);
    }
    row.finish(ts).expect("the slab has room");
}

/// A slab of messages.
pub fn slab_of(schema: &SharedSchema, messages: &[Fields<'_>]) -> Slab {
    let mut slab = slab();
    for (at, fields) in messages.iter().enumerate() {
        push(&mut slab, schema, at as i64, fields);
    }
    slab
}

/// What was refused.
#[derive(Debug, Default)]
pub struct Dead {
    pub letters: Vec<(String, Reason, String)>,
    pub failures: Vec<String>,
    pub schema: SharedSchema,
}

impl Refuse for Dead {
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.letters.push((show(row, &self.schema), reason, detail.to_owned()));
    }

    fn failed(&mut self, detail: &str) {
        self.failures.push(detail.to_owned());
    }
}

/// A script without modules.
pub fn code(text: &str, chunk: &str) -> Code {
    Code { text: text.into(), chunk: chunk.into(), ..Code::default() }
}

/// The outcome of one call.
#[derive(Debug)]
pub struct Outcome {
    pub rows: Vec<String>,
    pub ports: Vec<Vec<String>>,
    pub dead: Vec<(String, Reason, String)>,
}

/// Gives the operator a slab.
pub fn run(operator: &mut dyn Operator, slab: &mut Slab, schema: &SharedSchema) -> Outcome {
    let count = operator.ports().len();
    let mut ports: Vec<Slab> = (0..count).map(|_| Slab::new(1024, &budget())).collect();
    let mut dead = Dead { schema: schema.clone(), ..Dead::default() };
    let now = Now { mono_us: 5, wall_us: 1_000_000 };
    let mut cx = Context { now, refuse: &mut dead, ports: &mut ports };
    operator.process(slab, &mut cx);
    Outcome {
        rows: slab.rows().map(|row| show(row, schema)).collect(),
        ports: ports.iter().map(|p| p.rows().map(|row| show(row, schema)).collect()).collect(),
        dead: dead.letters,
    }
}

/// A message as text: `name=value` by slot, then the rest.
pub fn show(row: RowRef<'_>, schema: &SharedSchema) -> String {
    let names = schema.snapshot();
    let mut parts = Vec::new();
    for slot in 0..row.slots().min(64) {
        let value = row.get(slot);
        if !matches!(value, ValueRef::Absent) {
            parts.push(format!("{}={}", names.name(slot).unwrap_or("?"), show_value(value)));
        }
    }
    for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
        parts.push(format!("+{name}={}", show_value(value)));
    }
    parts.join(" ")
}

fn show_value(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Absent => "absent".into(),
        ValueRef::Null => "null".into(),
        ValueRef::Bool(v) => v.to_string(),
        ValueRef::Int(v) => v.to_string(),
        ValueRef::Float(v) => format!("{v:?}"),
        ValueRef::Number(v) => format!("#{v}"),
        ValueRef::Str(v) => format!("{v:?}"),
        ValueRef::Bytes(v) => format!("b{v:?}"),
        ValueRef::List(list) => {
            let parts: Vec<String> = list.iter().map(show_value).collect();
            format!("[{}]", parts.join(","))
        }
        ValueRef::Map(map) => {
            let mut parts: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", show_value(value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
    }
}

/// Functions `bad` that do not come back.
pub const RUNAWAYS: &[&str] = &[
        "local function bad() while true do end end",
        "local function bad() local x = 0 repeat x = x + 1 until x < 0 end",
        "local function bad() for i = 1, 1e15 do end end",
        "local function bad() ::a:: goto a end",
        "local function bad(msg) local s = 0 while msg.n >= 0 do s = s + msg.n msg.x = s end end",
        "local function bad() while true do pcall(function() while true do end end) end end",
        "local function bad() while true do pcall(bad) end end",
        "local function h() while true do end end
         local function bad() while true do xpcall(function() while true do end end, h) end end",
        "local function bad() xpcall(error, function() while true do end end) end",
        "local function bad(n) return bad(n) end",
        "local t = setmetatable({}, { __index = function() while true do end end })
         local function bad() return t.x end",
        "local t = setmetatable({}, { __newindex = function() while true do end end })
         local function bad() t.x = 1 end",
        "local t = setmetatable({}, { __call = function() while true do end end })
         local function bad() t() end",
        "local t = { 1, 2, 3 }
         local function bad() while true do for k, v in pairs(t) do t[k] = v end end end",
        "local function bad() local t = {} while true do t[#t + 1] = 1 if #t > 1000 then t = {} end end end",
        "local function bad() local s = '' while true do s = s .. 'x' if #s > 1000 then s = '' end end end",
        "local function bad() while true do local s = ('x'):rep(1e5) end end",
        "local function bad() local t = {} for i = 1, 1e4 do t[i] = i end
           while true do table.sort(t, function(a, b) return (a * 7919) % 1000 < (b * 7919) % 1000 end) end end",
        "local function bad() ('x'):rep(100):gsub('x', function() while true do end end) end",
    "local t = setmetatable({}, { __concat = function() while true do end end })
         local function bad() return t .. 'x' end",
    "local t = setmetatable({}, { __eq = function() while true do end end })
         local u = setmetatable({}, getmetatable(t)) local function bad() return t == u end",
    "local t = setmetatable({}, { __tostring = function() while true do end end })
         local function bad() return tostring(t) end",
    "local function bad(msg) for i = 1, 1e15 do for k in msg:fields() do end end end",
    "local function bad() while true do utf8.len(('x'):rep(1000)) end end",
];

/// Functions `bad` that take all memory.
pub const BOMBS: &[&str] = &[
    "local function bad() local t = {} while true do t[#t + 1] = { 1, 2 } end end",
    "local function bad() local t, i = {}, 0 while true do i = i + 1 t[i] = 's' .. i .. ('x'):rep(100) end end",
    "local function bad() local s = 'x' while true do s = s .. s end end",
    "local function bad() local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end",
];
