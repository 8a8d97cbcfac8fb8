//! Names of MBeans, and patterns of them.

use std::collections::BTreeMap;
use std::fmt;

use super::Refusal;

/// `domain:key=value,...`, keys in order: the canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub domain: String,
    pub keys: BTreeMap<String, String>,
    /// A pattern that ends in `,*` or is `domain:*`: further keys may follow.
    open: bool,
}

impl ObjectName {
    /// A name of ours.
    pub(crate) fn new(domain: &str, keys: &[(&str, &str)]) -> Self {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { domain: domain.to_owned(), keys: keys.collect(), open: false }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::malformed_name(text, why);
        let (domain, list) = text.split_once(':').ok_or_else(|| bad("it has no ':'"))?;
        let mut name = Self { domain: domain.to_owned(), keys: BTreeMap::new(), open: false };
        for part in split_properties(list) {
            if part == "*" {
                name.open = true;
                continue;
            }
            let (key, value) = part.split_once('=').ok_or_else(|| bad("a property has no '='"))?;
            if key.is_empty() || value.is_empty() {
                return Err(bad("a property is empty"));
            }
            if name.keys.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(bad("a property stands twice"));
            }
        }
        if name.keys.is_empty() && !name.open {
            return Err(bad("it has no properties"));
        }
        Ok(name)
    }

    pub(crate) fn is_pattern(&self) -> bool {
        let wild = |text: &str| text.contains(['*', '?']);
        self.open || wild(&self.domain) || self.keys.values().any(|value| wild(value))
    }

    /// Whether this pattern, or name, means `name`.
    pub(crate) fn matches(&self, name: &Self) -> bool {
        let has = |(key, pattern): (&String, &String)| {
            name.keys.get(key).is_some_and(|value| fits(pattern, value))
        };
        fits(&self.domain, &name.domain)
            && (self.open || self.keys.len() == name.keys.len())
            && self.keys.iter().all(has)
    }

    /// The part behind the colon.
    pub(crate) fn properties(&self) -> String {
        let pairs: Vec<_> = self.keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.domain, self.properties())
    }
}

/// At the commas that stand outside quotes.
fn split_properties(list: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

/// `*` is any text, `?` any character.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t] && pattern[p] != '*') {
            p += 1;
            t += 1;
        } else if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if let Some((at, from)) = star {
            // The last star takes one character more.
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn patterns_match_as_jmx_has_them() {
        let flow = name("ringmain:type=Flow,name=overheat");
        for good in [
            "ringmain:name=overheat,type=Flow",
            "*:type=Flow,*",
            "ringmain:*",
            "ring????:type=Flow,name=*",
            "*:*",
            "ringmain:type=F*w,name=over*at",
        ] {
            assert!(name(good).matches(&flow), "{good}");
        }
        for bad in ["ringmain:type=Flow", "ringmain:type=Flow,name=x*", "java.lang:*"] {
            assert!(!name(bad).matches(&flow), "{bad}");
        }
        assert!(!flow.is_pattern() && name("*:type=Flow,*").is_pattern());
    }

    #[test]
    fn names_are_shown_with_their_keys_in_order() {
        assert_eq!(name("d:b=2,a=1").to_string(), "d:a=1,b=2");
        assert_eq!(name("d:a=\"x,y\",b=1").properties(), "a=\"x,y\",b=1");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "d", "d:", "d:a", "d:a=", "d:a=1,a=2", ":,"] {
            assert!(ObjectName::parse(bad).is_err(), "{bad}");
        }
    }
}
