//! Keys of `tls`.

use super::Kind::{Bool, Text};
use super::{Schema, def, opt, req};

pub(crate) static CLIENT_TLS: Schema = Schema {
    title: "tls of a component that connects",
    header: "tls = { ... } (connecting)",
    about: "TLS 1.3 or 1.2. An empty table, `tls = {}`, trusts the authorities of the system. \
            Paths are relative to the working directory.",
    parents: &[],
    keys: &[
        opt("ca", Text, "those of the system", "PEM file with the authorities that are trusted."),
        opt("cert", Text, "none is shown", "PEM file with this side's certificate chain."),
        opt("key", Text, "none", "PEM file with the private key of `cert`."),
        opt(
            "server_name",
            Text,
            "the host of the address",
            "The name that the other side's certificate must have.",
        ),
        def(
            "insecure_skip_verify",
            Bool,
            "false",
            "Believe whoever answers. Only for trials: anyone between can read and change \
             everything.",
        ),
    ],
};

pub(crate) static SERVER_TLS: Schema = Schema {
    title: "tls of a component that listens",
    header: "tls = { ... } (listening)",
    about: "TLS 1.3 or 1.2. Paths are relative to the working directory.",
    parents: &[],
    keys: &[
        req("cert", Text, "PEM file with the certificate chain that peers are shown."),
        req("key", Text, "PEM file with the private key of `cert`."),
        opt(
            "client_ca",
            Text,
            "peers need no certificate",
            "PEM file with the authorities of which peers must show a certificate.",
        ),
    ],
};
