//! `require`: parts of a script by name, inside of the sandbox.

mod common;

use std::rc::Rc;

use common::{code, run, slab_of};
use ringmain_lua::{CompileError, Limits, Script, ScriptOptions, script};
use ringmain_ops::{Code, Module};
use ringmain_slab::Scalar::Int;
use ringmain_slab::SharedSchema;

fn modules(texts: &[(&str, &str)]) -> Vec<Module> {
    let module = |(name, text): &(&str, &str)| Module {
        name: (*name).into(),
        chunk: format!("{name}.lua").into(),
        text: (*text).into(),
    };
    texts.iter().map(module).collect()
}

fn load(source: &str, texts: &[(&str, &str)]) -> Result<Box<Script>, CompileError> {
    let all = modules(texts);
    let find = move |name: &str| {
        let found = all.iter().find(|module| &*module.name == name).cloned();
        found.ok_or_else(|| format!("there is no module '{name}' (looked for nothing)"))
    };
    let limits = Limits { time: std::time::Duration::from_millis(50), ..Limits::default() };
    let options =
        ScriptOptions { limits, modules: Some(Rc::new(find)), ..ScriptOptions::default() };
    script(source, "main.lua", &options, &SharedSchema::new())
}

fn one(operator: &mut Script) -> Result<String, String> {
    let schema = SharedSchema::new();
    let mut out = run(operator, &mut slab_of(&schema, &[&[("n", Int(1))]]), &schema);
    match out.dead.pop() {
        Some(letter) => Err(letter.2),
        None => Ok(out.rows.remove(0)),
    }
}

#[test]
fn a_module_runs_once_and_gives_what_it_returns() {
    let texts = [
        (
            "units",
            "local base = require 'base' base.runs = base.runs + 1
           return { double = function(n) return n * base.factor end }",
        ),
        ("base", "return { factor = 2, runs = 0 }"),
        ("nothing", "mine = 5"),
    ];
    let source = "local units, base = require 'units', require('base')
        if require('units') ~= units then error('twice') end
        if require('nothing') ~= true then error('true') end
        return function(msg) msg.n = units.double(msg.n) + base.runs + mine return msg end";
    let mut operator = load(source, &texts).unwrap();
    assert_eq!(one(&mut operator).as_deref(), Ok("n=8"));
    let names: Vec<&str> = operator.code().modules.iter().map(|m| &*m.name).collect();
    assert_eq!(names, ["units", "base", "nothing"]);
}

#[test]
fn what_is_wrong_with_a_module_has_its_place() {
    let fails = |source: &str, texts: &[(&str, &str)]| {
        let error = load(source, texts).err().unwrap();
        (error.chunk.unwrap_or_default(), error.line, error.message)
    };
    let (chunk, line, message) = fails("\nlocal m = require 'none'", &[]);
    assert_eq!((chunk.as_str(), line), ("main.lua", 2));
    assert_eq!(message, "require: there is no module 'none' (looked for nothing)");
    let (chunk, line, message) = fails("require 'bad'", &[("bad", "\n\nlocal x = = 5")]);
    assert_eq!((chunk.as_str(), line), ("bad.lua", 3), "{message}");
    let (chunk, line, message) = fails("require 'bad'", &[("bad", "\nerror('on purpose')")]);
    assert_eq!((chunk.as_str(), line, message.as_str()), ("bad.lua", 2, "on purpose"));
    let circle = [("a", "require 'b'"), ("b", "\nrequire 'a'")];
    let (chunk, line, message) = fails("require 'a'", &circle);
    assert_eq!((chunk.as_str(), line), ("b.lua", 2));
    assert_eq!(message, "require: 'a' requires itself");
    let (_, _, message) = fails("require 'slow'", &[("slow", "while true do end")]);
    assert!(message.contains("ran out of its time"), "{message}");
    let (_, _, message) = fails("require 'code'", &[("code", "\u{1b}LJ\u{2}")]);
    assert!(!message.is_empty());
    assert!(fails("require(5)", &[]).2.contains("require takes a name"));
}

#[test]
fn a_module_is_in_the_same_sandbox() {
    for text in
        ["return io", "return debug", "return package", "return loadstring", "return _G.ffi"]
    {
        let source =
            "local m = require 'm' return function(msg) msg.n = tostring(m) return msg end";
        let mut operator = load(source, &[("m", text)]).unwrap();
        assert_eq!(one(&mut operator).as_deref(), Ok("n=\"true\""), "{text}");
    }
    for name in ["ffi", "io", "os", "jit", "string.buffer", "_G", "table"] {
        let error = load(&format!("require '{name}'"), &[]).err().unwrap();
        assert!(error.message.contains("there is no module"), "{name}: {error}");
    }
}

#[test]
fn nothing_new_is_required_while_messages_pass() {
    let texts = [("early", "return 1"), ("late", "return 2")];
    let source = "require 'early'
        return function(msg) msg.n = require 'early' msg.m = require 'late' return msg end";
    let mut operator = load(source, &texts).unwrap();
    let why = one(&mut operator).unwrap_err();
    assert_eq!(why, "main.lua:2: require: 'late' was not required while the script loaded");
}

#[test]
fn a_new_version_brings_its_modules() {
    let source = "local m = require 'm' return function(msg) msg.n = m return msg end";
    let mut operator = load(source, &[("m", "return 1")]).unwrap();
    let first = ringmain_ops::Operator::code_version(&*operator).unwrap();
    assert_eq!(one(&mut operator).as_deref(), Ok("n=1"));
    let version =
        |text: &str| Code { modules: modules(&[("m", text)]).into(), ..code(source, "main.lua") };
    operator.reload(&version("return 2")).unwrap();
    assert_eq!(one(&mut operator).as_deref(), Ok("n=2"));
    let second = ringmain_ops::Operator::code_version(&*operator).unwrap();
    assert_ne!(first.hash, second.hash, "the hash is of the modules, too");
    assert!(operator.reload(&version("return =")).is_err());
    assert!(operator.reload(&code(source, "main.lua")).is_err());
    assert_eq!(one(&mut operator).as_deref(), Ok("n=2"));
    operator.reload(&version("return 1")).unwrap();
    assert_eq!(ringmain_ops::Operator::code_version(&*operator).unwrap(), first);
}
