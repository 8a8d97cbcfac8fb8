//! `${NAME}` in string values: expanded where it is written, nowhere else.
//!
//! `${NAME:-default}` has a fallback, `$${` is a literal `${`. What an
//! environment variable holds is text only: it is never parsed again, so it
//! cannot add a key or another reference.

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The reference as written, for the place of the message.
    pub(crate) written: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// Expands every reference of `text`.
pub(crate) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Vec<Problem>> {
    let mut out = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(len) = rest[at..].find('}') else {
            problems.push(unclosed(&rest[at..]));
            break;
        };
        let inner = &rest[at + 2..at + len];
        match resolve(inner, lookup) {
            Ok(value) => out.push_str(&value),
            Err(problem) => problems.push(problem),
        }
        rest = &rest[at + len + 1..];
    }
    out.push_str(rest);
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

fn resolve(inner: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let (name, fallback) = match inner.split_once(":-") {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (inner, None),
    };
    let written = format!("${{{inner}}}");
    if !is_name(name) {
        return Err(Problem {
            written,
            message: format!("'{name}' is not the name of an environment variable"),
            help: "write ${NAME} or ${NAME:-default}; a literal '${' is written '$${'".into(),
        });
    }
    // An empty variable counts as set: that is how one is switched off.
    lookup(name).or_else(|| fallback.map(str::to_owned)).ok_or_else(|| Problem {
        written,
        message: format!("the environment variable {name} is not set"),
        help: format!("set it, or write a default: ${{{name}:-...}}"),
    })
}

fn unclosed(rest: &str) -> Problem {
    Problem {
        written: rest.chars().take(12).collect(),
        message: "'${' is not closed by '}'".into(),
        help: "write ${NAME}; a literal '${' is written '$${'".into(),
    }
}

fn is_name(name: &str) -> bool {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    head && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "HOST" => Some("h1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        expand(text, &lookup)
            .map_err(|p| p.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn references_are_expanded_once() {
        for (text, expanded) in [
            ("plain $5 {x}", "plain $5 {x}"),
            ("${HOST}:1${EMPTY}", "h1:1"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${HOST:-x}", "h1"),
            ("$${HOST} $$${", "${HOST} $${"),
            ("${NESTED}", "${HOST}"),
            ("ü${HOST}ü", "üh1ü"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn every_problem_is_named() {
        let expected = "the environment variable A is not set; \
                        the environment variable B is not set; '${' is not closed by '}'";
        assert_eq!(check("${A} ${B} ${").unwrap_err(), expected);
        assert!(check("${a-b}").unwrap_err().contains("not the name"));
    }
}
