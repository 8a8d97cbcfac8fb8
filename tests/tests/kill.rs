//! `kill -9` at any time over file -> exchange -> Lua counter -> file: nothing
//! is missing, every message meets the state of exactly the messages before
//! it, and what comes again was in flight.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use ringmain_tests::sensors::Random;
use ringmain_tests::{Driver, Job, machine, with_each_driver};
use rustix::process::Signal;

/// Lives that are cut off; `KILLS=200` for more.
const KILLS: u32 = 12;
const KEYS: u64 = 37;
const FLOW: &str = r#"
name = "count"
[partition]
key = ["k"]
[sources.in]
type = "file"
path = "in.ndjson"
mode = "tail"
poll = "10ms"
[operators.count]
type = "lua"
inputs = ["in"]
source = '''
local M = { version = 1 }
function M.init() return { n = {} } end
function M.process(msg, state)
  local c = (state.n[msg.k] or 0) + 1
  state.n[msg.k] = c
  msg.c = c
  return msg
end
return M
'''
[sinks.out]
type = "file"
inputs = ["count"]
path = "out.ndjson"
[dead_letters]
type = "file"
path = "dead.ndjson"
"#;

fn kills() -> u32 {
    std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// Writes more messages, numbered per key.
struct Input {
    next: HashMap<u64, u64>,
    total: u64,
}

impl Input {
    fn append(&mut self, job: &Job, count: u64, random: &mut Random) {
        let mut text = String::new();
        for _ in 0..count {
            let key = random.below(KEYS);
            let i = self.next.entry(key).or_default();
            writeln!(text, "{{\"k\":\"key-{key}\",\"i\":{i}}}").unwrap();
            *i += 1;
        }
        self.total += count;
        let mut file = fs::OpenOptions::new();
        let mut file = file.append(true).create(true).open(job.path("in.ndjson")).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
}

/// What has been written, read on from where it was read before: a daemon that
/// dies may leave half a line behind, which the next one takes away.
#[derive(Default)]
struct Output {
    offset: u64,
    lines: u64,
    unique: HashSet<String>,
}

impl Output {
    /// Whole lines so far.
    fn lines(&mut self, job: &Job) -> u64 {
        let Ok(mut file) = fs::File::open(job.path("out.ndjson")) else { return 0 };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        for line in whole.lines() {
            let (id, _) = line.split_once(",\"c\"").unwrap_or_else(|| panic!("{line}"));
            self.unique.insert(id.to_owned());
            self.lines += 1;
        }
        self.offset += whole.len() as u64;
        self.lines
    }
}

with_each_driver! {
    fn state_is_exact_and_nothing_is_missing_after_kill_9_at_any_time(driver: Driver) {
        let cores: Vec<String> = machine::cores().iter().take(2).map(usize::to_string).collect();
        let job = Job::flow(driver, FLOW).daemon_file(&format!(
            "[shards]\ncores = \"{}\"\n[daemon]\ndata_dir = \"data\"\ncheckpoint_every = \"20ms\"\n",
            cores.join(",")
        ));
        let mut random = Random::new(7);
        let mut input = Input { next: HashMap::new(), total: 0 };
        let mut output = Output::default();
        let mut flying = 0;
        for _ in 0..kills() {
            input.append(&job, 3_000, &mut random);
            let daemon = job.start();
            let until = Instant::now() + Duration::from_millis(60 + random.below(200));
            // What was written when each checkpoint was seen to be new.
            let (mut last, mut written) = (None, vec![output.lines(&job)]);
            while Instant::now() < until {
                let now = output.lines(&job);
                let checkpoint = fs::read(job.path("data/checkpoints/count.checkpoint")).ok();
                if checkpoint != last {
                    last = checkpoint;
                    written.push(now);
                }
                input.append(&job, random.below(200), &mut random);
                std::thread::sleep(Duration::from_millis(3));
            }
            daemon.signal(Signal::KILL);
            drop(daemon);
            // A checkpoint may have been begun before the one before it was
            // seen: what was there two of them ago is safe for certain.
            let safe = written[written.len().saturating_sub(3)];
            flying += output.lines(&job) - safe;
        }
        let daemon = job.start();
        // Or it may not have come far enough yet to heed a signal.
        input.append(&job, 1, &mut random);
        let total = input.total as usize;
        ringmain_tests::until("everything is counted", || {
            output.lines(&job);
            output.unique.len() == total
        });
        assert_eq!(daemon.drain().status.code(), Some(0));

        let out = job.json("out.ndjson");
        let again = out.len() - total;
        println!("{total} messages, {again} came again, at most {flying} were in flight");
        for message in &out {
            let (i, c) = (message["i"].as_u64().unwrap(), message["c"].as_u64().unwrap());
            assert_eq!(c, i + 1, "{message}: the state is not that of the messages before it");
        }
        assert!(again as u64 <= flying, "{again} came again, {flying} were in flight");
        // One more life finds everything done.
        let before = output.lines(&job);
        let daemon = job.start();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(daemon.drain().status.code(), Some(0));
        assert_eq!(output.lines(&job), before);
    }
}
