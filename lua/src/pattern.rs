//! Lua's patterns with a bound on their steps.
//!
//! LuaJIT matches patterns in a C function, which no hook can interrupt, and
//! `a*a*b` takes a second on a kilobyte and hours on a slab. So scripts get
//! this port of lib_string.c: the same language, byte for byte and error for
//! error (a test compares them), and an end.

use std::ops::ControlFlow;

/// Steps of one search: some 20 ms.
const STEPS_MAX: u32 = 4_000_000;
/// As in LuaJIT (LJ_MAX_XLEVEL).
const DEPTH_MAX: u32 = 200;
/// As in LuaJIT (LUA_MAXCAPTURES).
pub(crate) const CAPTURES_MAX: usize = 32;

/// What [`search`] returns besides the number of captures; `ERRORS` in
/// strings.lua has the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Wrong {
    Steps = -1,
    Depth = -2,
    EndsWithEscape = -3,
    MissingBracket = -4,
    MissingSet = -5,
    InvalidCapture = -6,
    InvalidIndex = -7,
    TooManyCaptures = -8,
    Unbalanced = -9,
}

const UNFINISHED: i32 = -1;
const POSITION: i32 = -2;
const ESCAPE: u8 = b'%';

type Matched = Result<Option<usize>, Wrong>;

/// Looks for `pattern` in `text` from `start` on. Returns 0 for no match, 1
/// plus the number of captures for a match, or less than 0. `found` gets the
/// match's start and end, then start and length of each capture (-2: a
/// position, -1: unfinished).
///
/// # Safety
/// The texts have their lengths; `found` holds `2 + 2 * CAPTURES_MAX` numbers.
pub(crate) unsafe extern "C" fn search(
    text: *const u8,
    text_len: i32,
    pattern: *const u8,
    pattern_len: i32,
    start: i32,
    anchored: i32,
    found: *mut i32,
) -> i32 {
    // SAFETY: by the caller's promise.
    let (text, pattern, found) = unsafe {
        (
            crate::env::bytes(text, text_len),
            crate::env::bytes(pattern, pattern_len),
            std::slice::from_raw_parts_mut(found, 2 + 2 * CAPTURES_MAX),
        )
    };
    // A zero byte ends a pattern, as in LuaJIT.
    let end = pattern.iter().position(|byte| *byte == 0).unwrap_or(pattern.len());
    let mut matcher = Matcher {
        text,
        pattern: &pattern[..end],
        steps: 0,
        depth: 0,
        level: 0,
        captures: [(0, 0); 32],
    };
    for at in start as usize..=text.len() {
        (matcher.level, matcher.depth) = (0, 0);
        match matcher.matches(at, 0) {
            Err(wrong) => return wrong as i32,
            Ok(Some(end)) => {
                (found[0], found[1]) = (at as i32, end as i32);
                let captures = &matcher.captures[..matcher.level];
                for (to, (start, len)) in found[2..].chunks_exact_mut(2).zip(captures) {
                    (to[0], to[1]) = (*start, *len);
                }
                return matcher.level as i32 + 1;
            }
            Ok(None) if anchored != 0 => return 0,
            Ok(None) => {}
        }
    }
    0
}

/// Whether a pattern has a character that means something else than itself.
pub(crate) unsafe extern "C" fn is_plain(pattern: *const u8, len: i32) -> i32 {
    // SAFETY: the text has its length.
    let pattern = unsafe { crate::env::bytes(pattern, len) };
    i32::from(!pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte)))
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    steps: u32,
    depth: u32,
    level: usize,
    /// Start and length.
    captures: [(i32, i32); CAPTURES_MAX],
}

impl Matcher<'_> {
    /// A byte of the pattern, 0 behind its end.
    fn pat(&self, at: usize) -> u8 {
        self.pattern.get(at).copied().unwrap_or(0)
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn step(&mut self, steps: usize) -> Result<(), Wrong> {
        self.steps = self.steps.saturating_add(steps as u32);
        if self.steps > STEPS_MAX { Err(Wrong::Steps) } else { Ok(()) }
    }

    fn matches(&mut self, s: usize, p: usize) -> Matched {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Wrong::Depth);
        }
        let (mut s, mut p) = (s, p);
        let end = loop {
            self.step(1)?;
            match self.item(s, p)? {
                ControlFlow::Continue((next_s, next_p)) => (s, p) = (next_s, next_p),
                ControlFlow::Break(end) => break end,
            }
        };
        self.depth -= 1;
        Ok(end)
    }

    /// One item of the pattern: where to go on, or how it ended.
    fn item(
        &mut self,
        s: usize,
        p: usize,
    ) -> Result<ControlFlow<Option<usize>, (usize, usize)>, Wrong> {
        use ControlFlow::{Break, Continue};
        if p >= self.pattern.len() {
            return Ok(Break(Some(s)));
        }
        match (self.pat(p), self.pat(p + 1)) {
            (b'(', b')') => return Ok(Break(self.start_capture(s, p + 2, POSITION)?)),
            (b'(', _) => return Ok(Break(self.start_capture(s, p + 1, UNFINISHED)?)),
            (b')', _) => return Ok(Break(self.end_capture(s, p + 1)?)),
            (ESCAPE, b'b') => {
                let end = self.balance(s, p + 2)?;
                return Ok(end.map_or(Break(None), |s| Continue((s, p + 4))));
            }
            (ESCAPE, b'f') => {
                let set = p + 2;
                if self.pat(set) != b'[' {
                    return Err(Wrong::MissingSet);
                }
                let end = self.class_end(set)?;
                let before = if s == 0 { 0 } else { self.byte(s - 1) };
                let here =
                    !self.in_set(before, set, end - 1) && self.in_set(self.byte(s), set, end - 1);
                return Ok(if here { Continue((s, end)) } else { Break(None) });
            }
            (ESCAPE, digit) if digit.is_ascii_digit() => {
                let end = self.captured_again(s, digit)?;
                return Ok(end.map_or(Break(None), |s| Continue((s, p + 2))));
            }
            (b'$', _) if p + 1 == self.pattern.len() => {
                return Ok(Break((s == self.text.len()).then_some(s)));
            }
            _ => {}
        }
        let end = self.class_end(p)?;
        let one = s < self.text.len() && self.single(self.byte(s), p, end);
        Ok(match self.pat(end) {
            b'?' => {
                if one && let Some(rest) = self.matches(s + 1, end + 1)? {
                    Break(Some(rest))
                } else {
                    Continue((s, end + 1))
                }
            }
            b'*' => Break(self.most(s, p, end)?),
            b'+' if one => Break(self.most(s + 1, p, end)?),
            b'-' => Break(self.least(s, p, end)?),
            b'+' => Break(None),
            _ if one => Continue((s + 1, end)),
            _ => Break(None),
        })
    }

    fn class_end(&self, p: usize) -> Result<usize, Wrong> {
        let mut p = p + 1;
        match self.pat(p - 1) {
            ESCAPE if p >= self.pattern.len() => return Err(Wrong::EndsWithEscape),
            ESCAPE => return Ok(p + 1),
            b'[' => {}
            _ => return Ok(p),
        }
        if self.pat(p) == b'^' {
            p += 1;
        }
        loop {
            if p >= self.pattern.len() {
                return Err(Wrong::MissingBracket);
            }
            p += 1;
            if self.pat(p - 1) == ESCAPE && p < self.pattern.len() {
                p += 1;
            }
            if self.pat(p) == b']' {
                return Ok(p + 1);
            }
        }
    }

    fn single(&self, byte: u8, p: usize, end: usize) -> bool {
        match self.pat(p) {
            b'.' => true,
            ESCAPE => in_class(byte, self.pat(p + 1)),
            b'[' => self.in_set(byte, p, end - 1),
            own => own == byte,
        }
    }

    /// `p` is at `[` and `end` at the closing bracket.
    fn in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let mut p = p + 1;
        let positive = self.pat(p) != b'^';
        p += usize::from(!positive);
        while p < end {
            let first = self.pat(p);
            if first == ESCAPE {
                p += 1;
                if in_class(byte, self.pat(p)) {
                    return positive;
                }
            } else if self.pat(p + 1) == b'-' && p + 2 < end {
                p += 2;
                if (first..=self.pat(p)).contains(&byte) {
                    return positive;
                }
            } else if first == byte {
                return positive;
            }
            p += 1;
        }
        !positive
    }

    fn balance(&mut self, s: usize, p: usize) -> Matched {
        let (open, close) = (self.pat(p), self.pat(p + 1));
        if p + 1 >= self.pattern.len() {
            return Err(Wrong::Unbalanced);
        }
        if s > self.text.len() || self.byte(s) != open {
            return Ok(None);
        }
        let mut depth = 1;
        for at in s + 1..self.text.len() {
            self.step(1)?;
            if self.byte(at) == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if self.byte(at) == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    fn most(&mut self, s: usize, p: usize, end: usize) -> Matched {
        let mut count = 0;
        while s + count < self.text.len() && self.single(self.byte(s + count), p, end) {
            count += 1;
        }
        self.step(count * (end - p))?;
        loop {
            if let Some(rest) = self.matches(s + count, end + 1)? {
                return Ok(Some(rest));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    fn least(&mut self, s: usize, p: usize, end: usize) -> Matched {
        let mut s = s;
        loop {
            if let Some(rest) = self.matches(s, end + 1)? {
                return Ok(Some(rest));
            }
            if s >= self.text.len() || !self.single(self.byte(s), p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn start_capture(&mut self, s: usize, p: usize, what: i32) -> Matched {
        let level = self.level;
        if level >= CAPTURES_MAX {
            return Err(Wrong::TooManyCaptures);
        }
        self.captures[level] = (s as i32, what);
        self.level = level + 1;
        let end = self.matches(s, p)?;
        if end.is_none() {
            self.level -= 1;
        }
        Ok(end)
    }

    fn end_capture(&mut self, s: usize, p: usize) -> Matched {
        let open = self.captures[..self.level].iter().rposition(|(_, len)| *len == UNFINISHED);
        let level = open.ok_or(Wrong::InvalidCapture)?;
        self.captures[level].1 = s as i32 - self.captures[level].0;
        let end = self.matches(s, p)?;
        if end.is_none() {
            self.captures[level].1 = UNFINISHED;
        }
        Ok(end)
    }

    fn captured_again(&mut self, s: usize, digit: u8) -> Matched {
        let level = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let (start, len) = *self.captures[..self.level].get(level).ok_or(Wrong::InvalidIndex)?;
        if len == UNFINISHED {
            return Err(Wrong::InvalidIndex);
        }
        // A position has no length: LuaJIT compares with more than there is.
        let Ok(len) = usize::try_from(len) else { return Ok(None) };
        self.step(len)?;
        let (start, text) = (start as usize, self.text);
        let same = text.get(s..s + len).is_some_and(|here| *here == text[start..start + len]);
        Ok(same.then_some(s + len))
    }
}

fn in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | 9..=13),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is == class.is_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use mlua::{Function, Table, Value};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use ringmain_slab::SharedSchema;

    use crate::host::{Host, Limits};

    /// Calls both and tells how they differ.
    const COMPARE: &str = r##"
        local own, theirs = ...
        local with = {
          "x", "%0%1", "%2", "%", "a%%b%9", 5, { a = "A", ab = false, b = 7 },
          function(a, b) return a .. (b or "") end, function() end, { a = {} },
        }
        local function tell(ok, ...)
          if not ok then return "error: " .. tostring((...)):gsub("^.*:%d+: ", "") end
          local t = {}
          for i = 1, select("#", ...) do t[i] = tostring((select(i, ...))) end
          return #t .. ":" .. table.concat(t, "|")
        end
        local function all(lib, s, p, init, n)
          local t = { tell(pcall(lib.find, s, p, init)), tell(pcall(lib.match, s, p, init)) }
          t[3] = tell(pcall(lib.gsub, s, p, with[n]))
          t[4] = tell(pcall(lib.gsub, s, p, with[n], init))
          t[5] = tell(pcall(function()
            local r = {}
            for a, b in lib.gmatch(s, p) do r[#r + 1] = tostring(a) .. "," .. tostring(b) end
            return table.concat(r, ";")
          end))
          return table.concat(t, "\n")
        end
        return function(s, p, init, n)
          local a, b = all(own, s, p, init, n), all(theirs, s, p, init, n)
          if a ~= b then return a .. "\n--\n" .. b end
        end"##;

    fn comparer(host: &Host) -> Function {
        let environment = host.new_environment().unwrap();
        let own: Table = environment.get("string").unwrap();
        let theirs: Table = host.lua().globals().get("string").unwrap();
        let chunk = host.compile(COMPARE, "compare", host.lua().globals()).unwrap();
        chunk.call((own, theirs)).unwrap()
    }

    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a", "b", ".", "%a", "%D", "%s", "%w", "%x", "[ab]", "[^a]", "[a-c]", "[%a-]", "[]]",
            "[^]b]", "[%]a]", "%b()", "%bab", "%f[%w]", "%f[^a]", "(", ")", "()", "(a", ")", "%1",
            "%2", "*", "+", "-", "?", "^", "$", "%", "[", "]", "%%", "%z", "\0", "%p", "%g", "%Z",
            "%e", "a-", "(.-)", "(%w+)", ".*", "é", "1",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn patterns_mean_what_they_mean_in_luajit(
            cases in vec(
                (
                    vec(prop::sample::select(vec!["a", "b", "ab", "(", ")", " ", "1", ".", "\0", "-", "é", "%"]), 0..9),
                    vec(piece(), 0..6),
                    -4i32..9,
                    1i32..=10,
                ),
                20,
            )
        ) {
            thread_local! {
                static HOST: (Host, Function) = {
                    let host = Host::new(&SharedSchema::new(), Limits::default()).unwrap();
                    let compare = comparer(&host);
                    (host, compare)
                };
            }
            for (text, pattern, init, with) in cases {
                let (text, pattern) = (text.concat(), pattern.concat());
                let differs: Value = HOST.with(|(_, compare)| {
                    compare.call((text.as_str(), pattern.as_str(), init, with)).unwrap()
                });
                prop_assert!(differs.is_nil(), "{text:?} {pattern:?} {init} {with}: {}", differs.to_string().unwrap());
            }
        }
    }

    #[test]
    fn a_search_ends() {
        let host = Host::new(&SharedSchema::new(), Limits::default()).unwrap();
        let source = "local s = ('a'):rep(30000)
            local ok, why = pcall(string.find, s, ('a*'):rep(8) .. 'b') return ok, why";
        let chunk = host.compile(source, "t", host.new_environment().unwrap()).unwrap();
        let (ok, why): (bool, String) = chunk.call(()).unwrap();
        assert_eq!((ok, why.as_str()), (false, "the pattern takes too long on this text"));
    }
}
