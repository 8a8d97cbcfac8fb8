//! What a run counted, from `--summary-json`.

use serde_json::Value;

/// A component's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that came in.
    pub rows_in: u64,
    /// Messages that went out.
    pub rows_out: u64,
    /// Messages dropped, on purpose or by a policy.
    pub dropped: u64,
    /// Messages refused.
    pub dead: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Messages stored on disk.
    pub spilled: u64,
    /// Stored messages sent again.
    pub resent: u64,
    /// Bytes of stored messages that are left.
    pub disk_bytes: u64,
}

impl Totals {
    /// In, out, dropped and dead: what balances.
    #[must_use]
    pub fn rows(&self) -> [u64; 4] {
        [self.rows_in, self.rows_out, self.dropped, self.dead]
    }
}

/// One flow's summary.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The flow.
    pub flow: String,
    /// How long it ran.
    pub seconds: f64,
    json: Value,
}

impl Summary {
    /// Reads the file that `--summary-json` wrote.
    ///
    /// # Panics
    /// When it is not such a file.
    #[must_use]
    pub fn read(text: &str) -> Vec<Self> {
        let json: Value = serde_json::from_str(text).expect("the summary is JSON");
        let list = if let Value::Array(list) = json { list } else { vec![json] };
        list.into_iter().map(Self::of).collect()
    }

    fn of(json: Value) -> Self {
        let flow = json["flow"].as_str().expect("flow is a text").to_owned();
        let seconds = json["seconds"].as_f64().expect("seconds is a number");
        assert!(json["components"].is_object() && json["edges"].is_array(), "{json:#}");
        Self { flow, seconds, json }
    }

    /// Whether a life of it ended before everything had arrived.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.json["cut_off"] == true
    }

    /// The counts of a component.
    ///
    /// # Panics
    /// When there is no such component.
    #[must_use]
    pub fn totals(&self, component: &str) -> Totals {
        let counts = &self.json["components"][component];
        let count = |key: &str| {
            let found = counts[key].as_u64();
            found.unwrap_or_else(|| panic!("no '{key}' of '{component}': {:#}", self.json))
        };
        Totals {
            rows_in: count("in"),
            rows_out: count("out"),
            dropped: count("dropped"),
            dead: count("dead"),
            bytes_in: count("bytes_in"),
            bytes_out: count("bytes_out"),
            // Left out where there are none.
            spilled: counts["spilled"].as_u64().unwrap_or(0),
            resent: counts["resent"].as_u64().unwrap_or(0),
            disk_bytes: counts["disk_bytes"].as_u64().unwrap_or(0),
        }
    }

    /// In, out, dropped and dead of a component.
    #[must_use]
    pub fn rows(&self, component: &str) -> [u64; 4] {
        self.totals(component).rows()
    }

    /// The names of the components.
    #[must_use]
    pub fn components(&self) -> Vec<&str> {
        self.json["components"]
            .as_object()
            .into_iter()
            .flat_map(|c| c.keys())
            .map(|k| &**k)
            .collect()
    }

    /// Part of the time that `from` was not allowed to send to `to`.
    ///
    /// # Panics
    /// When there is no such edge.
    #[must_use]
    pub fn backpressure_pct(&self, from: &str, to: &str) -> f64 {
        let edges = self.json["edges"].as_array().into_iter().flatten();
        let mut edge = edges.filter(|edge| edge["from"] == from && edge["to"] == to);
        let percent = edge.next().and_then(|edge| edge["backpressure_pct"].as_f64());
        percent.unwrap_or_else(|| panic!("no edge {from} -> {to}: {:#}", self.json))
    }

    /// Every message is accounted for: in is out + dropped + dead, everywhere;
    /// of a run that was cut off, no more than what came in is.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_balance(&self, whole: bool) {
        for name in self.components() {
            let [rows_in, out, dropped, dead] = self.rows(name);
            let done = out + dropped + dead;
            let left = !whole || self.totals(name).disk_bytes > 0;
            let balanced = if left { rows_in >= done } else { rows_in == done };
            assert!(balanced, "'{name}' does not balance: {:#}", self.json);
        }
    }
}
