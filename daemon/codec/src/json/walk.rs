//! The complete grammar (RFC 8259) without a row: what validates, skips and
//! builds nested values.

use ringmain_base::limits::DEPTH_MAX;
use ringmain_slab::{Scalar, TreeBuilder};

use super::number::number;
use super::string::{skip_string, string};
use crate::refused::{Bad, bad};

pub(crate) const TOO_DEEP: &str = "nested deeper than 128";
pub(crate) const NO_VALUE: &str = "expected a value";
pub(crate) const NO_NAME: &str = "expected a name in quotes";
pub(crate) const NO_COLON: &str = "expected ':'";
pub(crate) const NO_BRACE: &str = "expected ',' or '}'";
pub(crate) const NO_BRACKET: &str = "expected ',' or ']'";
pub(crate) const TRAILING: &str = "something follows the value";

/// Behind white space.
#[inline(always)]
pub(crate) fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The value behind the name that ends at `at`.
#[inline(always)]
pub(crate) fn colon(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    let at = space(bytes, at);
    if bytes.get(at) != Some(&b':') {
        return bad(at, NO_COLON);
    }
    Ok(space(bytes, at + 1))
}

/// One of `true`, `false` and `null`.
#[inline(always)]
pub(crate) fn literal(bytes: &[u8], at: usize) -> Result<(Scalar<'static>, usize), Bad> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(b"true") {
        Ok((Scalar::Bool(true), at + 4))
    } else if rest.starts_with(b"false") {
        Ok((Scalar::Bool(false), at + 5))
    } else if rest.starts_with(b"null") {
        Ok((Scalar::Null, at + 4))
    } else {
        bad(at, NO_VALUE)
    }
}

/// Checks that only white space follows.
pub(crate) fn end(bytes: &[u8], at: usize) -> Result<(), Bad> {
    let at = space(bytes, at);
    if at == bytes.len() { Ok(()) } else { bad(at, TRAILING) }
}

/// What follows a value inside a list or object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More(usize),
    Closed(usize),
}

fn next(bytes: &[u8], at: usize, close: u8, what: &'static str) -> Result<Next, Bad> {
    let at = space(bytes, at);
    match bytes.get(at) {
        Some(b',') => Ok(Next::More(space(bytes, at + 1))),
        Some(b) if *b == close => Ok(Next::Closed(at + 1)),
        _ => bad(at, what),
    }
}

/// Checks the value at `at`, of which `depth` lists and objects are open
/// around; where it ends.
pub(crate) fn skip(text: &str, at: usize, depth: usize) -> Result<usize, Bad> {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => skip_string(bytes, at),
        Some(b'-' | b'0'..=b'9') => number(text, at).map(|(_, end)| end),
        Some(b'[') => {
            let mut pos = open(bytes, at, depth)?;
            if bytes.get(pos) == Some(&b']') {
                return Ok(pos + 1);
            }
            loop {
                pos = skip(text, pos, depth + 1)?;
                match next(bytes, pos, b']', NO_BRACKET)? {
                    Next::More(at) => pos = at,
                    Next::Closed(end) => return Ok(end),
                }
            }
        }
        Some(b'{') => skip_object(text, at, depth, &mut |_| {}),
        _ => literal(bytes, at).map(|(_, end)| end),
    }
}

fn open(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Bad> {
    if depth >= DEPTH_MAX { bad(at, TOO_DEEP) } else { Ok(space(bytes, at + 1)) }
}

/// Where a member of an object stands.
#[derive(Clone, Copy)]
pub(crate) struct Member {
    /// The name's opening quote.
    pub(crate) name: usize,
    /// The value's first byte.
    pub(crate) value: usize,
    /// Behind the value.
    pub(crate) end: usize,
}

/// Checks the object at `at` and reports where its members stand; where it
/// ends.
pub(crate) fn skip_object(
    text: &str,
    at: usize,
    depth: usize,
    member: &mut dyn FnMut(Member),
) -> Result<usize, Bad> {
    let bytes = text.as_bytes();
    let mut pos = open(bytes, at, depth)?;
    if bytes.get(pos) == Some(&b'}') {
        return Ok(pos + 1);
    }
    loop {
        if bytes.get(pos) != Some(&b'"') {
            return bad(pos, NO_NAME);
        }
        let value = colon(bytes, skip_string(bytes, pos)?)?;
        let end = skip(text, value, depth + 1)?;
        member(Member { name: pos, value, end });
        match next(bytes, end, b'}', NO_BRACE)? {
            Next::More(at) => pos = at,
            Next::Closed(end) => return Ok(end),
        }
    }
}

/// Builds the value at `at`, of which `depth` lists and objects are open
/// around in the text; where it ends.
pub(crate) fn build(
    tree: &mut TreeBuilder<'_, '_>,
    text: &str,
    at: usize,
    depth: usize,
    unescaped: &mut String,
) -> Result<usize, Bad> {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => {
            let (value, end) = string(text, at, unescaped)?;
            tree.scalar(Scalar::Str(value));
            Ok(end)
        }
        Some(b'-' | b'0'..=b'9') => {
            let (value, end) = number(text, at)?;
            tree.scalar(value.scalar(&text[at..end]));
            Ok(end)
        }
        Some(b'[') => build_list(tree, text, at, depth, unescaped),
        Some(b'{') => build_object(tree, text, at, depth, unescaped),
        _ => {
            let (value, end) = literal(bytes, at)?;
            tree.scalar(value);
            Ok(end)
        }
    }
}

fn build_list(
    tree: &mut TreeBuilder<'_, '_>,
    text: &str,
    at: usize,
    depth: usize,
    unescaped: &mut String,
) -> Result<usize, Bad> {
    let bytes = text.as_bytes();
    let mut pos = open(bytes, at, depth)?;
    if !tree.list() {
        return bad(at, TOO_DEEP);
    }
    let mut end = pos + 1;
    if bytes.get(pos) != Some(&b']') {
        loop {
            pos = build(tree, text, pos, depth + 1, unescaped)?;
            match next(bytes, pos, b']', NO_BRACKET)? {
                Next::More(at) => pos = at,
                Next::Closed(at) => {
                    end = at;
                    break;
                }
            }
        }
    }
    tree.close();
    Ok(end)
}

fn build_object(
    tree: &mut TreeBuilder<'_, '_>,
    text: &str,
    at: usize,
    depth: usize,
    unescaped: &mut String,
) -> Result<usize, Bad> {
    let bytes = text.as_bytes();
    let mut pos = open(bytes, at, depth)?;
    if !tree.map() {
        return bad(at, TOO_DEEP);
    }
    let mut end = pos + 1;
    if bytes.get(pos) != Some(&b'}') {
        loop {
            if bytes.get(pos) != Some(&b'"') {
                return bad(pos, NO_NAME);
            }
            let (name, behind) = string(text, pos, unescaped)?;
            tree.key(name);
            pos = build(tree, text, colon(bytes, behind)?, depth + 1, unescaped)?;
            match next(bytes, pos, b'}', NO_BRACE)? {
                Next::More(at) => pos = at,
                Next::Closed(at) => {
                    end = at;
                    break;
                }
            }
        }
    }
    tree.close();
    Ok(end)
}
