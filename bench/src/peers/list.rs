//! The systems, how they are found, and their configurations.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::Env;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    File,
    Tcp,
}

impl Flow {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file to file",
            Self::Tcp => "TCP to file",
        }
    }
}

/// A name in `bench/peers`, and the text.
pub(super) type Config = (&'static str, &'static str);

/// A system.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Its program, by the names that it may have.
    programs: &'static [&'static str],
    version_args: &'static [&'static str],
    /// `{CONFIG}`, `{DIR}` and `{PORT}` are filled in.
    pub(super) args: &'static [&'static str],
    file: Config,
    tcp: Config,
}

macro_rules! config {
    ($name:literal) => {
        ($name, include_str!(concat!("../../peers/", $name)))
    };
}

/// The first is this project's own.
pub(super) const PEERS: [Peer; 7] = [
    Peer {
        name: "ringmain",
        programs: &[],
        version_args: &["--version"],
        args: &["run", "-c", "{DIR}/daemon.toml", "{CONFIG}"],
        file: config!("ringmain-file.toml"),
        tcp: config!("ringmain-tcp.toml"),
    },
    Peer {
        name: "fluent-bit",
        programs: &["fluent-bit"],
        version_args: &["--version"],
        args: &["-c", "{CONFIG}"],
        file: config!("fluent-bit-file.yaml"),
        tcp: config!("fluent-bit-tcp.yaml"),
    },
    Peer {
        name: "vector",
        programs: &["vector"],
        version_args: &["--version"],
        args: &["--quiet", "--config", "{CONFIG}"],
        file: config!("vector-file.yaml"),
        tcp: config!("vector-tcp.yaml"),
    },
    Peer {
        name: "redpanda-connect",
        programs: &["redpanda-connect", "benthos"],
        version_args: &["--version"],
        args: &["run", "{CONFIG}"],
        file: config!("redpanda-connect-file.yaml"),
        tcp: config!("redpanda-connect-tcp.yaml"),
    },
    Peer {
        name: "syslog-ng",
        programs: &["syslog-ng"],
        version_args: &["--version"],
        args: &[
            "-F",
            "--no-caps",
            "-f",
            "{CONFIG}",
            "-R",
            "{DIR}/persist",
            "-p",
            "{DIR}/pid",
            "-c",
            "{DIR}/ctl",
        ],
        file: config!("syslog-ng-file.conf"),
        tcp: config!("syslog-ng-tcp.conf"),
    },
    Peer {
        name: "rsyslog",
        programs: &["rsyslogd"],
        version_args: &["-v"],
        args: &["-n", "-f", "{CONFIG}", "-i", "{DIR}/pid"],
        file: config!("rsyslog-file.conf"),
        tcp: config!("rsyslog-tcp.conf"),
    },
    Peer {
        name: "node-red",
        programs: &["node-red"],
        version_args: &["--version"],
        args: &["--userDir", "{DIR}", "--port", "{PORT2}", "{CONFIG}"],
        file: config!("node-red-file.json"),
        tcp: config!("node-red-tcp.json"),
    },
];

impl Peer {
    pub(super) fn is_ours(&self) -> bool {
        self.programs.is_empty()
    }

    pub(super) fn config(&self, flow: Flow) -> Config {
        match flow {
            Flow::File => self.file,
            Flow::Tcp => self.tcp,
        }
    }

    /// Its program, on PATH or where daemons lie.
    pub(super) fn find(&self, env: &Env) -> Option<PathBuf> {
        if self.is_ours() {
            return env.ringmain().ok().map(Path::to_owned);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<_> = std::env::split_paths(&path).collect();
        folders.push(PathBuf::from("/usr/sbin"));
        let mut all = folders.iter().flat_map(|f| self.programs.iter().map(move |p| f.join(p)));
        all.find(|program| program.is_file())
    }

    /// The first word of what it says that looks like a version.
    pub(super) fn version(&self, program: &Path) -> String {
        let output = Command::new(program).args(self.version_args).output();
        let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        version(&String::from_utf8_lossy(&said)).unwrap_or_default().to_owned()
    }
}

fn version(said: &str) -> Option<&str> {
    let words = said.split(|c: char| c.is_whitespace() || c == '(' || c == ')' || c == ',');
    let words = words.map(|word| word.trim_start_matches('v'));
    let is_version =
        |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    words.clone().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_systems_say() {
        assert_eq!(version("Fluent Bit v5.1.1\nGit commit: "), Some("5.1.1"));
        assert_eq!(version("syslog-ng 3 (3.38.1)\nConfig version: 3.35"), Some("3.38.1"));
        assert_eq!(version("rsyslogd  8.2302.0 (aka 2023.02) compiled"), Some("8.2302.0"));
        assert_eq!(version("nothing"), None);
    }

    #[test]
    fn every_configuration_says_where_it_reads_and_writes() {
        for peer in &PEERS {
            for (flow, input) in [(Flow::File, "{INPUT}"), (Flow::Tcp, "{PORT}")] {
                let (name, text) = peer.config(flow);
                let output = text.contains("{OUTPUT}") || text.contains("{NAME}");
                assert!(text.contains(input) && output, "{name}");
            }
        }
    }
}
