//! What operators in Lua cost in other systems: a table for every message,
//! filled with all of its fields, and read back field by field. Kept to compare
//! with; written as one would who knows mlua (names made once, tables of the
//! right size), with the interpreter and the compiler of LuaJIT as they are.

use mlua::{Function, Lua, LuaString, Table, Value};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, Slab, ValueRef};

use crate::measure::Wrong;

/// A script that gets a table and answers with one, or with nothing.
pub(super) struct PerTable {
    lua: Lua,
    process: Function,
    /// The names of the slots.
    names: Vec<LuaString>,
    kept: Slab,
    scratch: Scratch,
}

impl PerTable {
    pub(super) fn new(script: &str, names: &[&str], slab_bytes: usize) -> Result<Self, Wrong> {
        let lua = Lua::new();
        let process = lua.load(script).eval().map_err(Wrong::fail)?;
        let name = |name: &&str| lua.create_string(name);
        let names = names.iter().map(name).collect::<Result<_, _>>().map_err(Wrong::fail)?;
        let kept = Slab::new(slab_bytes, &Budget::new(64 << 20));
        Ok(Self { lua, process, names, kept, scratch: Scratch::default() })
    }

    /// Leaves in the slab what the script answered with.
    pub(super) fn process(&mut self, slab: &mut Slab) -> mlua::Result<()> {
        self.kept.clear();
        for row in slab.rows() {
            let table = self.table(row)?;
            if let Some(table) = self.process.call::<Option<Table>>(table)? {
                self.keep(&table, row.ts())?;
            }
        }
        std::mem::swap(slab, &mut self.kept);
        Ok(())
    }

    fn table(&self, row: RowRef<'_>) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(0, self.names.len())?;
        for (slot, name) in self.names.iter().enumerate() {
            match row.get(slot as u16) {
                ValueRef::Str(text) => table.raw_set(name, text)?,
                ValueRef::Int(number) => table.raw_set(name, number)?,
                ValueRef::Float(number) => table.raw_set(name, number)?,
                ValueRef::Bool(yes) => table.raw_set(name, yes)?,
                _ => {}
            }
        }
        Ok(table)
    }

    fn keep(&mut self, table: &Table, ts: i64) -> mlua::Result<()> {
        let slots = self.names.len() as u16;
        let mut row = self.kept.build(slots, slots, &mut self.scratch);
        for (slot, name) in self.names.iter().enumerate() {
            let slot = slot as u16;
            match table.raw_get::<Value>(name)? {
                Value::String(text) => row.set_str(slot, &text.to_str()?),
                Value::Integer(number) => row.set_int(slot, number),
                Value::Number(number) => row.set_float(slot, number),
                Value::Boolean(yes) => row.set(slot, Scalar::Bool(yes)),
                _ => {}
            }
        }
        row.finish(ts).map_err(mlua::Error::external)
    }
}
