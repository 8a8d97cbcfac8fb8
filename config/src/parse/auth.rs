//! The file with tokens.

use crate::diagnostics::Diagnostic;
use crate::plan::{Scope, TokenPlan, TokenSecret};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::{FileId, Span, Spanned};
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// Shorter ones can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

const SCOPES: [(&str, Scope); 3] = [
    ("manage", Scope::Manage),
    ("read-management", Scope::ReadManagement),
    ("read-runtime", Scope::ReadRuntime),
];

/// Every token that could be read.
pub(crate) fn auth(cx: &mut Context<'_>, file: FileId, table: &Table) -> Vec<TokenPlan> {
    let top = Span::new(file, 0, 0);
    let section = Section::open(cx, table, &schema::AUTH, "the auth file", top, None);
    let Some(value) = section.raw(cx, "tokens") else { return Vec::new() };
    let Value::Array(items) = &value.value else {
        section.wrong(cx, "tokens", value);
        return Vec::new();
    };
    let mut tokens: Vec<TokenPlan> = Vec::with_capacity(items.len());
    for item in items {
        let Value::Table(table) = &item.value else {
            let wrong = wrong_type("an entry of 'tokens'", "a table", item);
            cx.push(wrong.help("begin it with [[tokens]]"));
            continue;
        };
        let Some(token) = token(cx, table, item.span) else { continue };
        if tokens.iter().any(|t| t.name == token.name) {
            let message = format!("two tokens are named '{}'", token.name);
            cx.push(Diagnostic::error(item.span, message).help("the audit log tells them apart"));
        }
        tokens.push(token);
    }
    tokens
}

fn token(cx: &mut Context<'_>, table: &Table, span: Span) -> Option<TokenPlan> {
    let section = Section::open(cx, table, &schema::TOKEN, "a token", span, None);
    let name = section.filled(cx, "name");
    let (plain, sha256) = (section.has("token"), section.has("sha256"));
    let secret = match (plain, sha256) {
        (true, false) => section.filled(cx, "token").and_then(|text| plain_token(cx, &text)),
        (false, true) => section.filled(cx, "sha256").and_then(|text| hash(cx, &text)),
        _ => {
            let message = "a token has either 'token' or 'sha256'";
            cx.push(Diagnostic::error(span, message).help(
                "make one with `openssl rand -hex 32`; `printf %s TOKEN | sha256sum` hashes it",
            ));
            None
        }
    };
    let scopes = section.texts(cx, "scopes").unwrap_or_default();
    if scopes.is_empty() && section.has("scopes") {
        let message = "a token without scopes is good for nothing";
        cx.push(Diagnostic::error(section.span_of("scopes"), message));
    }
    let scopes = scopes.iter().filter_map(|name| scope(cx, name)).collect();
    Some(TokenPlan { name: name?.value, secret: secret?, scopes })
}

fn plain_token(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<TokenSecret> {
    if text.chars().count() < TOKEN_CHARS_MIN || text.contains(|c: char| !c.is_ascii_graphic()) {
        let message =
            format!("'token' of a token: not {TOKEN_CHARS_MIN} or more visible ASCII characters");
        cx.push(Diagnostic::error(text.span, message).help("make one with `openssl rand -hex 32`"));
        return None;
    }
    Some(TokenSecret::Plain(text.value.clone()))
}

fn hash(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<TokenSecret> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    let well = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    if !well {
        let message = "'sha256' of a token: not 64 hexadecimal digits";
        cx.push(
            Diagnostic::error(text.span, message).help("`printf %s TOKEN | sha256sum` gives them"),
        );
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.value.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
        *byte = u8::from_str_radix(pair, 16).expect("two hexadecimal digits");
    }
    Some(TokenSecret::Sha256(bytes))
}

fn scope(cx: &mut Context<'_>, name: &Spanned<String>) -> Option<Scope> {
    let found = SCOPES.iter().find(|(known, _)| *known == name.value);
    if found.is_none() {
        let message = format!("'{}' is not a scope", name.value);
        let help = "scopes are manage, read-management and read-runtime";
        cx.push(Diagnostic::error(name.span, message).help(help));
    }
    found.map(|(_, scope)| *scope)
}
