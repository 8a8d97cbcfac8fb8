//! A build whose hooks do not fire inside compiled code: Lua is interpreted, and
//! every limit holds all the same.

mod common;

use std::time::Duration;

use common::{run, slab_of};
use ringmain_base::Reason;
use ringmain_lua::{Limits, ScriptOptions, assume_unchecked_hooks, script, self_test};
use ringmain_slab::Scalar::Int;
use ringmain_slab::SharedSchema;

#[test]
fn interpreted_code_is_stopped_like_compiled_code() {
    assume_unchecked_hooks();
    assert!(!self_test());
    let time = Duration::from_millis(20);
    let limits = Limits { time, memory_bytes: 16 << 20, kills: 3 };
    let options = ScriptOptions { limits, ..ScriptOptions::default() };
    for bad in common::RUNAWAYS.iter().chain(common::BOMBS) {
        let schema = SharedSchema::new();
        schema.intern("n").unwrap();
        let source = format!(
            "{bad}
             return function(msg) if msg.n == 2 then bad(msg) end msg.n = msg.n * 10 return msg end"
        );
        let mut operator = script(&source, "bad.lua", &options, &schema).unwrap();
        let mut slab = slab_of(&schema, &[&[("n", Int(1))], &[("n", Int(2))], &[("n", Int(3))]]);
        let out = run(&mut *operator, &mut slab, &schema);
        assert_eq!(out.rows, ["n=10", "n=30"], "{bad}");
        assert_eq!((out.dead[0].0.as_str(), out.dead[0].1), ("n=2", Reason::Limit), "{bad}");
    }
}
