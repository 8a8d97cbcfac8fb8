//! Topic filters: which topics they mean, and which of them an earlier
//! configuration of the same session had.
//!
//! A broker keeps the subscriptions of a session, also those that nobody names
//! any more, and tells nobody of them. What was named is part of the source's
//! stored position, so that it can be taken back; where nothing is stored, a
//! topic that no filter means gives it away.

use ringmain_config::plan::MqttTopic;

/// Whether a filter means a topic.
fn means(filter: &str, topic: &str) -> bool {
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => filter,
    };
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What a session subscribes to.
pub(super) struct Filters {
    named: Vec<String>,
    /// Of an earlier configuration, not named any more.
    former: Vec<String>,
    /// The session goes on from an earlier life.
    resumed: bool,
    /// The last topic that a filter means.
    known: String,
    /// A topic that none does.
    stray: Option<String>,
}

impl Filters {
    pub(super) fn new(topics: &[MqttTopic]) -> Self {
        let named = topics.iter().map(|topic| topic.filter.value.clone()).collect();
        Self { named, former: Vec::new(), resumed: false, known: String::new(), stray: None }
    }

    /// What is stored; no filter has the separator in it.
    pub(super) fn stored(&self) -> Vec<u8> {
        let all: Vec<&str> = self.named.iter().chain(&self.former).map(String::as_str).collect();
        all.join("\0").into_bytes()
    }

    pub(super) fn restore(&mut self, stored: &[u8]) {
        let text = String::from_utf8_lossy(stored);
        for filter in text.split('\0').filter(|filter| !filter.is_empty()) {
            let known = self.named.iter().chain(&self.former).any(|known| known == filter);
            if !known {
                self.former.push(filter.to_owned());
            }
        }
    }

    /// A connection was made; returns what is to be taken back.
    pub(super) fn connected(&mut self, session: bool) -> &[String] {
        self.resumed = session;
        if !session {
            self.former.clear();
            self.stray = None;
        }
        &self.former
    }

    /// The broker has taken them back.
    pub(super) fn taken_back(&mut self) {
        self.former.clear();
    }

    /// A message of this topic has come.
    #[inline]
    pub(super) fn saw(&mut self, topic: &str) {
        if self.resumed && topic != self.known {
            self.look(topic);
        }
    }

    #[cold]
    fn look(&mut self, topic: &str) {
        if self.named.iter().chain(&self.former).any(|filter| means(filter, topic)) {
            self.known.clear();
            self.known.push_str(topic);
        } else if self.stray.is_none() {
            self.stray = Some(topic.chars().take(100).collect());
        }
    }

    /// What is wrong with the session.
    pub(super) fn trouble(&self) -> Option<String> {
        let stray = self.stray.as_ref()?;
        Some(format!(
            "the session subscribes to more than 'topics' names: a message of '{stray}' came; \
             begin a new one with another client_id, or once with clean_start = true"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_what_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("+/+", "/a", true),
            ("#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$share/g/a/+", "a/b", true),
            ("$share/g/a/+", "b/a", false),
        ] {
            assert_eq!(means(filter, topic), expected, "{filter} {topic}");
        }
    }

    fn filters(named: &[&str]) -> Filters {
        let mut filters = Filters::new(&[]);
        filters.named = named.iter().map(|name| (*name).to_owned()).collect();
        filters
    }

    #[test]
    fn what_was_named_before_is_taken_back_until_the_broker_has_done_so() {
        let old = filters(&["a", "b/+"]).stored();
        let mut new = filters(&["a", "c"]);
        new.restore(&old);
        assert_eq!(new.connected(true), ["b/+"]);
        // Not answered: the next life has to ask again.
        let mut next = filters(&["a"]);
        next.restore(&new.stored());
        assert_eq!(next.connected(true), ["c", "b/+"]);
        next.taken_back();
        assert_eq!(next.stored(), b"a");
        new.restore(&old);
        assert_eq!(new.connected(false), [] as [&str; 0], "the broker has forgotten it");
    }

    #[test]
    fn a_topic_that_no_filter_means_is_told_for_a_resumed_session_only() {
        let mut filters = filters(&["a/+"]);
        filters.connected(false);
        filters.saw("b");
        assert_eq!(filters.trouble(), None);
        filters.connected(true);
        filters.saw("a/1");
        assert_eq!(filters.trouble(), None);
        filters.saw("b");
        assert!(filters.trouble().is_some_and(|why| why.contains("a message of 'b' came")));
    }
}
