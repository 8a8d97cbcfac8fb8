//! Which cores shards run on: what the user asked for, against what this
//! process may use.
//!
//! Ask from a thread that is not pinned: a pinned thread sees only its core.

use std::fmt;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every core that this process may use.
    Auto,
    /// These, in ascending order, each once.
    List(Vec<usize>),
}

/// Why no list of cores came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoresError {
    /// The text is not a list of cores: correct the configuration.
    Syntax {
        /// What was written.
        text: String,
        /// The part that was not understood.
        part: String,
    },
    /// Cores were named that this process may not use: name others, or let
    /// the process have them.
    NotAvailable {
        /// Those that are missing.
        missing: Vec<usize>,
        /// Those that are there.
        available: Vec<usize>,
    },
    /// The system does not say which cores there are.
    Unknown,
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { text, part } => write!(
                f,
                "cores = \"{text}\": '{part}' is not a core (write \"auto\" or a list like \
                 \"0-3,6\")"
            ),
            Self::NotAvailable { missing, available } => write!(
                f,
                "core {} asked for, but this process may use only {} of this machine's cores: {} \
                 (set cores = \"auto\" or \"{}\", or widen taskset, docker --cpuset-cpus or \
                 systemd AllowedCPUs=)",
                format_list(missing),
                available.len(),
                format_list(available),
                format_list(available),
            ),
            Self::Unknown => {
                f.write_str("the system does not say which cores there are (name them in cores =)")
            }
        }
    }
}

impl std::error::Error for CoresError {}

/// What a set of cores of the C library holds.
const CORE_LIMIT: usize = libc::CPU_SETSIZE as usize;

/// Parses `"auto"`, or a list such as `"0-3,6"`.
///
/// # Errors
/// Names the part that is not understood.
pub fn parse(text: &str) -> Result<Cores, CoresError> {
    if text.trim() == "auto" {
        return Ok(Cores::Auto);
    }
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = parse_range(part.trim())
            .ok_or_else(|| CoresError::Syntax { text: text.to_owned(), part: part.to_owned() })?;
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(Cores::List(cores))
}

fn parse_range(part: &str) -> Option<(usize, usize)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let number = |text: &str| text.trim().parse().ok().filter(|core| *core < CORE_LIMIT);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Ties the calling thread to a core; false when that cannot be.
pub(crate) fn pin(core: usize) -> bool {
    // Beyond the limit core_affinity would panic.
    core < CORE_LIMIT && core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// The cores that this process may use, ascending.
#[must_use]
pub fn available() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// The cores to run on.
///
/// # Errors
/// When cores were asked for that this process may not use.
pub fn resolve(asked: &Cores) -> Result<Vec<usize>, CoresError> {
    resolve_within(asked, available())
}

fn resolve_within(asked: &Cores, available: Vec<usize>) -> Result<Vec<usize>, CoresError> {
    let list = match asked {
        Cores::Auto if available.is_empty() => return Err(CoresError::Unknown),
        Cores::Auto => return Ok(available),
        Cores::List(list) => list,
    };
    let missing: Vec<usize> =
        list.iter().copied().filter(|core| !available.contains(core)).collect();
    if missing.is_empty() {
        Ok(list.clone())
    } else {
        Err(CoresError::NotAvailable { missing, available })
    }
}

/// Writes `[0, 1, 2, 5]` as `0-2,5`.
#[must_use]
pub fn format_list(cores: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut at = 0;
    while at < cores.len() {
        let mut last = at;
        while last + 1 < cores.len() && cores[last + 1] == cores[last] + 1 {
            last += 1;
        }
        parts.push(if last == at {
            cores[at].to_string()
        } else {
            format!("{}-{}", cores[at], cores[last])
        });
        at = last + 1;
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_written_back() {
        for (text, cores) in [
            ("0", vec![0]),
            ("0-3,6", vec![0, 1, 2, 3, 6]),
            (" 4 , 2-3,3", vec![2, 3, 4]),
            ("7-7", vec![7]),
        ] {
            assert_eq!(parse(text), Ok(Cores::List(cores)), "{text}");
        }
        assert_eq!(parse("auto"), Ok(Cores::Auto));
        assert_eq!(format_list(&[0, 1, 2, 3, 6, 8, 9]), "0-3,6,8-9");
        assert_eq!(format_list(&[]), "");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,20}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_parsed_back(cores in proptest::collection::btree_set(0_usize..200, 1..40)) {
            let cores: Vec<usize> = cores.into_iter().collect();
            proptest::prop_assert_eq!(parse(&format_list(&cores)), Ok(Cores::List(cores)));
        }
    }

    #[test]
    fn what_is_no_list_is_named() {
        for (text, part) in
            [("", ""), ("a", "a"), ("0,3-1", "3-1"), ("1,,2", ""), ("0-99999", "0-99999")]
        {
            let (text, part) = (text.to_owned(), part.to_owned());
            assert_eq!(parse(&text), Err(CoresError::Syntax { text, part }));
        }
    }

    #[test]
    fn cores_that_are_not_there_are_refused_with_what_is() {
        let asked = Cores::List(vec![0, 2, 3]);
        let error = resolve_within(&asked, vec![0, 1]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("core 2-3 asked for, but this process may use only 2"), "{text}");
        assert!(text.contains("cores: 0-1") && text.contains("cores = \"auto\""), "{text}");
        assert_eq!(resolve_within(&asked, vec![0, 1, 2, 3]), Ok(vec![0, 2, 3]));
    }

    #[test]
    fn auto_is_whatever_this_process_may_use() {
        assert_eq!(resolve_within(&Cores::Auto, vec![1, 5]), Ok(vec![1, 5]));
        assert_eq!(resolve_within(&Cores::Auto, Vec::new()), Err(CoresError::Unknown));
        assert_eq!(resolve(&Cores::Auto).unwrap(), available());
    }
}
