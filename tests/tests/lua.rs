//! Scripts between sources and sinks, and that they cannot do harm.

use ringmain_tests::{Driver, Job, sensors, with_each_driver};
use serde_json::json;

/// A flow with one Lua operator, with these keys.
fn flow(operator: &str) -> String {
    format!(
        r#"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        [operators.script]
        type = "lua"
        inputs = ["in"]
        {operator}
        [sinks.out]
        type = "file"
        inputs = ["script"]
        path = "out.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
    "#
    )
}

const SHORT: &str = r#"
    return function(msg)
      if msg.rpm > 100 then
        msg.severity = "high"
        return msg
      end
    end
"#;

with_each_driver! {
    fn the_short_form_does_what_filter_and_map_do(driver: Driver) {
        let lines = sensors::lines(5000, 9);
        let expected = sensors::alerts(&lines);
        let kept = expected.len() as u64;
        let inline = flow(&format!("source = '''{SHORT}'''"));
        let job = Job::flow(driver, &inline).file("in.ndjson", &lines);
        assert_eq!(job.run().ok().rows("script"), [5000, kept, 5000 - kept, 0]);
        assert_eq!(job.json("out.ndjson"), expected);

        let job = Job::flow(driver, &flow("script = \"high.lua\""))
            .file("high.lua", SHORT)
            .file("in.ndjson", &lines);
        assert_eq!(job.run().ok().rows("script"), [5000, kept, 5000 - kept, 0]);
        assert_eq!(job.json("out.ndjson"), expected);
    }

    fn the_same_logic_as_script_and_as_expressions_gives_the_same(driver: Driver) {
        let lines = sensors::lines(5000, 13);
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.keep]
            type = "filter"
            inputs = ["in"]
            where = "temp < 80 and (status == 'warn' or rpm * 2 > 250.5)"
            [operators.change]
            type = "map"
            inputs = ["keep"]
            set = { ratio = "rpm / temp", label = "device .. '/' .. plant", hot = "temp >= 60", odd = "ts % 2 == 1" }
            remove = ["status"]
            [sinks.native]
            type = "file"
            inputs = ["change"]
            path = "native.ndjson"
            [operators.script]
            type = "lua"
            inputs = ["in"]
            source = '''
                return function(msg)
                  if not (msg.temp < 80 and (msg.status == 'warn' or msg.rpm * 2 > 250.5)) then
                    return nil
                  end
                  msg.ratio = msg.rpm / msg.temp
                  msg.label = msg.device .. '/' .. msg.plant
                  msg.hot = msg.temp >= 60
                  msg.odd = msg.ts % 2 == 1
                  msg.status = nil
                  return msg
                end
            '''
            [sinks.lua]
            type = "file"
            inputs = ["script"]
            path = "lua.ndjson"
        "#).file("in.ndjson", &lines);
        let done = job.run();
        let (native, lua) = (job.json("native.ndjson"), job.json("lua.ndjson"));
        assert!(native.len() > 1000, "{}", native.len());
        assert_eq!(native, lua);
        assert_eq!(done.ok().totals("keep").dropped, done.ok().totals("script").dropped);
    }

    fn nested_fields_odd_names_and_copies_are_there(driver: Driver) {
        let source = r#"source = '''
            return function(msg)
              msg["a-b"] = msg.deep.list[2]
              msg.deep = { inner = msg.deep.list[1] + 1, list = { 7 } }
              msg.gone = nil
              return msg
            end
        '''"#;
        let job = Job::flow(driver, &flow(source))
            .file("in.ndjson", "{\"deep\":{\"list\":[1,{\"x\":null}]},\"gone\":1}\n");
        assert_eq!(job.run().ok().rows("out"), [1, 1, 0, 0], "{:?}", job.lines("dead.ndjson"));
        let expected = json!({
            "deep": { "inner": 2, "list": [7] }, "a-b": { "x": null }
        });
        assert_eq!(job.json("out.ndjson"), [expected]);
    }

    fn a_message_that_a_script_fails_on_is_a_dead_letter_and_the_rest_goes_on(driver: Driver) {
        let source = r#"source = '''
            return function(msg)
              if msg.n % 10 == 3 then error("no threes") end
              if msg.n % 10 == 7 then return msg.nothing.at_all end
              return msg
            end
        '''"#;
        let lines: String = (0..1000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let job = Job::flow(driver, &flow(source)).file("in.ndjson", lines);
        let done = job.run();
        assert_eq!(done.ok().rows("script"), [1000, 800, 0, 200]);
        assert_eq!(job.lines("out.ndjson").len(), 800);
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), 200);
        assert_eq!(letters[0]["message"], json!({ "n": 3 }));
        assert!(letters[0]["detail"].as_str().unwrap().contains("no threes"), "{}", letters[0]);
        assert!(letters.iter().all(|letter| letter["reason"] == "script"));
    }

    fn a_script_that_does_not_end_is_stopped_and_the_rest_goes_on(driver: Driver) {
        let source = r#"limits = { time = "50ms", kills = 1000 }
            source = '''
            return function(msg)
              while msg.n == 5 do end
              return msg
            end
        '''"#;
        let lines: String = (0..200).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let job = Job::flow(driver, &flow(source)).file("in.ndjson", lines);
        let done = job.run();
        let letters = job.json("dead.ndjson");
        assert!(letters.iter().any(|letter| letter["message"]["n"] == 5), "{letters:?}");
        assert!(letters.iter().all(|letter| letter["reason"] == "limit"), "{letters:?}");
        let dead = letters.len() as u64;
        assert_eq!(done.ok().rows("script"), [200, 200 - dead, 0, dead]);
        assert_eq!(done.ok().rows("out"), [200 - dead, 200 - dead, 0, 0]);
    }

    fn a_script_that_eats_memory_is_stopped_and_the_process_stays_small(driver: Driver) {
        let source = r#"limits = { memory = "8MiB", kills = 1000 }
            source = '''
            local kept = {}
            return function(msg)
              if msg.n == 5 then
                for i = 1, 1e7 do kept[i] = { i } end
              end
              return msg
            end
        '''"#;
        let lines: String = (0..100).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let job = Job::flow(driver, &flow(source)).file("in.ndjson", lines);
        let done = job.run();
        let dead = done.ok().totals("script").dead;
        assert!(dead >= 1, "the memory was given");
        assert_eq!(done.ok().rows("script"), [100, 100 - dead, 0, dead]);
        assert!(job.json("dead.ndjson").iter().any(|letter| letter["message"]["n"] == 5));
    }
}

#[test]
fn scripts_reach_neither_files_nor_processes_nor_the_host() {
    let names = [
        "io",
        "package",
        "debug",
        "ffi",
        "jit",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "os.execute",
        "os.exit",
        "os.remove",
        "os.getenv",
        "collectgarbage",
        "string.dump",
        "getfenv",
        "setfenv",
        "newproxy",
    ];
    let looks: String = names
        .map(|name| {
            format!("if {name} ~= nil then msg.found = (msg.found or '') .. ' {name}' end\n")
        })
        .concat();
    let source = format!("source = '''\nreturn function(msg)\n{looks}return msg\nend\n'''");
    let job = Job::flow(Driver::Auto, &flow(&source)).file("in.ndjson", "{\"n\":1}\n");
    let done = job.run();
    assert_eq!(done.ok().rows("script"), [1, 1, 0, 0], "{:?}", job.lines("dead.ndjson"));
    assert_eq!(job.json("out.ndjson"), [json!({ "n": 1 })]);
}

#[test]
fn scripts_of_two_operators_do_not_see_each_other() {
    let two = flow(
        "source = '''\nreturn function(msg)\n  seen = 1\n  string.mine = 2\n  return msg\nend\n'''",
    )
    .replace("inputs = [\"script\"]", "inputs = [\"second\"]")
        + "[operators.second]\ntype = \"lua\"\ninputs = [\"script\"]\nsource = '''\n\
           return function(msg)\n  msg.global = seen\n  msg.library = string.mine\n  return msg\nend\n'''\n";
    let job = Job::flow(Driver::Auto, &two).file("in.ndjson", "{\"n\":1}\n{\"n\":2}\n");
    let done = job.run();
    let dead = done.ok().totals("script").dead;
    // Whether writing a global is allowed or refused, the second sees nothing.
    assert_eq!(job.lines("out.ndjson").len() as u64, 2 - dead);
    for message in job.json("out.ndjson") {
        assert!(message.get("global").is_none() && message.get("library").is_none(), "{message}");
    }
}

#[test]
fn ports_metrics_and_failing_timers_reach_the_summary() {
    let flow = r#"
        [partition]
        key = ["device"]
        count = 4
        [sources.in]
        type = "file"
        path = "in.ndjson"
        [operators.script]
        type = "lua"
        inputs = ["in"]
        ports = ["alarm"]
        source = """
            local M = { timer = "1ms" }
            function M.process(msg, state, ctx)
              ctx.metrics.seen:inc()
              ctx.metrics.rpm:observe(msg.rpm)
              if msg.rpm > 100 then return msg, "alarm" end
              return msg
            end
            function M.on_timer(state, ctx) error("not now") end
            return M
        """
        [sinks.out]
        type = "file"
        inputs = ["script"]
        path = "out.ndjson"
        [sinks.alarms]
        type = "file"
        inputs = ["script.alarm"]
        path = "alarms.ndjson"
    "#;
    let lines: String =
        (0..200).map(|n| format!("{{\"device\":{},\"rpm\":{}}}\n", n % 7, n)).collect();
    let job = Job::flow(Driver::Auto, flow).file("in.ndjson", lines);
    let done = job.run();
    assert_eq!(done.ok().rows("script"), [200, 200, 0, 0]);
    assert_eq!((job.lines("out.ndjson").len(), job.lines("alarms.ndjson").len()), (101, 99));
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(job.path("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["metrics"]["script"]["seen"], json!(200.0));
    let rpm = &summary["metrics"]["script"]["rpm"];
    assert_eq!(rpm, &json!({ "count": 200, "sum": 19900.0, "min": 0.0, "max": 199.0 }));
    let said = done.stdout.escape_ascii().to_string() + &done.stderr;
    assert!(said.contains("script.seen: 200"), "{said}");
}

#[test]
fn check_finds_what_is_wrong_in_a_module_at_its_line() {
    let job = Job::flow(Driver::Auto, &flow("script = \"main.lua\""))
        .file("main.lua", "local part = require 'part'\nreturn function(msg) return msg end\n")
        .file("lua/part.lua", "local x = 1\nlocal y = = 2\n");
    let output = job.call(&["check", "flow-0.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lua/part.lua:2:"), "{said}");
}
