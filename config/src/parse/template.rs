//! Path templates: `out/{device}/{date:%Y-%m-%d}.ndjson`.

use crate::diagnostics::Diagnostic;
use crate::plan::{DateField, Segment, Template};
use crate::section::{Context, Section};
use crate::span::Spanned;

const DATE_DEFAULT: &str = "%Y-%m-%d";

/// The template of a path or topic.
pub(super) fn template(cx: &mut Context<'_>, section: &Section<'_>, key: &str) -> Option<Template> {
    let text = section.filled(cx, key)?;
    parse(cx, text, &format!("'{key}' of {}", section.what))
}

/// The template that a text is; `what` names it in messages.
pub(super) fn parse(cx: &mut Context<'_>, text: Spanned<String>, what: &str) -> Option<Template> {
    match split(&text) {
        Ok(segments) => Some(Template { text, segments }),
        Err((written, message, help)) => {
            let span = cx.narrow(text.span, &written);
            let message = format!("{what}: {message}");
            cx.push(Diagnostic::error(span, message).help(help));
            None
        }
    }
}

type Problem = (String, String, &'static str);

const SYNTAX: &str = "write {FIELD}, {date}, {date:%Y-%m-%d} or {shard}; '{{' and '}}' are braces";

fn split(text: &Spanned<String>) -> Result<Vec<Segment>, Problem> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut literal = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            literal.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        let Some(len) = tail.find('}').filter(|len| *len > 0) else {
            let message =
                if tail.starts_with('}') { "'}' without '{'" } else { "'{' is not closed" };
            return Err((tail.chars().take(12).collect(), message.into(), SYNTAX));
        };
        if !literal.is_empty() {
            segments.push(Segment::Literal(std::mem::take(&mut literal)));
        }
        segments.push(placeholder(&tail[1..len])?);
        rest = &tail[len + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal));
    }
    Ok(segments)
}

fn placeholder(inner: &str) -> Result<Segment, Problem> {
    let written = format!("{{{inner}}}");
    match inner.split_once(':') {
        None if inner == "shard" => Ok(Segment::Shard),
        None if inner == "date" => date(DATE_DEFAULT, &written),
        Some(("date", format)) => date(format, &written),
        Some(("field", name)) if !name.is_empty() => Ok(Segment::Field(name.to_owned())),
        None if !inner.is_empty() && !inner.contains('{') => Ok(Segment::Field(inner.to_owned())),
        _ => Err((written.clone(), format!("'{written}' is not understood"), SYNTAX)),
    }
}

fn date(format: &str, written: &str) -> Result<Segment, Problem> {
    const HELP: &str = "dates have %Y, %m, %d, %H and %M; '%%' is a percent sign";
    let mut fields = Vec::new();
    let mut literal = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            literal.push(c);
            continue;
        }
        let field = match chars.next() {
            Some('Y') => DateField::Year,
            Some('m') => DateField::Month,
            Some('d') => DateField::Day,
            Some('H') => DateField::Hour,
            Some('M') => DateField::Minute,
            Some('%') => {
                literal.push('%');
                continue;
            }
            other => {
                let unknown = other.map_or_else(|| "%".to_owned(), |c| format!("%{c}"));
                return Err((written.to_owned(), format!("a date has no '{unknown}'"), HELP));
            }
        };
        if !literal.is_empty() {
            fields.push(DateField::Literal(std::mem::take(&mut literal)));
        }
        fields.push(field);
    }
    if !literal.is_empty() {
        fields.push(DateField::Literal(literal));
    }
    if fields.is_empty() {
        return Err((written.to_owned(), "the date is empty".to_owned(), HELP));
    }
    Ok(Segment::Date(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<Segment>, String> {
        split(&Spanned::new(text.to_owned(), crate::Span::default())).map_err(|(_, m, _)| m)
    }

    #[test]
    fn a_template_is_split_into_its_parts() {
        use DateField as D;
        use Segment as S;
        assert_eq!(check("a{{b}}.x"), Ok(vec![S::Literal("a{b}.x".into())]));
        assert_eq!(
            check("out/{device}/{date:%Y%m-%H:%M}.{shard}{field:date}"),
            Ok(vec![
                S::Literal("out/".into()),
                S::Field("device".into()),
                S::Literal("/".into()),
                S::Date(vec![
                    D::Year,
                    D::Month,
                    D::Literal("-".into()),
                    D::Hour,
                    D::Literal(":".into()),
                    D::Minute
                ]),
                S::Literal(".".into()),
                S::Shard,
                S::Field("date".into()),
            ])
        );
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        for (text, message) in [
            ("a{", "'{' is not closed"),
            ("a}b", "'}' without '{'"),
            ("{}", "'{}' is not understood"),
            ("{date:%S}", "a date has no '%S'"),
            ("{date:}", "the date is empty"),
            ("{host:x}", "'{host:x}' is not understood"),
        ] {
            assert_eq!(check(text), Err(message.to_owned()), "{text}");
        }
    }
}
