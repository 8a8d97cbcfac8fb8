use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use ringmain_config::Spanned;
use ringmain_config::plan::{ClientTls, Identity, ServerTls};
use tempfile::TempDir;

use super::*;

struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn at(path: &Path) -> Spanned<PathBuf> {
    Spanned::new(path.to_owned(), Default::default())
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> Spanned<PathBuf> {
        at(&self.dir.path().join("ca.pem"))
    }

    fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let cert = self.dir.path().join(format!("{name}.pem"));
        let key_path = self.dir.path().join(format!("{name}.key"));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        Identity { cert: at(&cert), key: at(&key_path) }
    }

    fn server(&self, name: &str) -> ServerTls {
        ServerTls { identity: self.identity(name, |_| {}), client_ca: None }
    }

    fn client(&self) -> ClientTls {
        ClientTls { ca: Some(self.ca()), ..ClientTls::default() }
    }
}

struct Pair {
    client: Session,
    server: Session,
    got_by_client: Vec<u8>,
    got_by_server: Vec<u8>,
}

impl Pair {
    fn new(client: &ClientTls, server: &ServerTls, host: &str) -> Self {
        Self {
            client: Client::new(client, host, &[]).unwrap().session().unwrap(),
            server: Server::new(server, &[]).unwrap().session().unwrap(),
            got_by_client: Vec::new(),
            got_by_server: Vec::new(),
        }
    }

    /// Carries bytes to and fro, in pieces of `piece`, until nobody has any.
    fn settle(&mut self, piece: usize) -> Result<(), TlsError> {
        loop {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            self.client.output(&mut up);
            self.server.output(&mut down);
            if up.is_empty() && down.is_empty() {
                return Ok(());
            }
            for bytes in up.chunks(piece) {
                self.server.receive(bytes, &mut self.got_by_server)?;
            }
            for bytes in down.chunks(piece) {
                self.client.receive(bytes, &mut self.got_by_client)?;
            }
        }
    }

    /// How it fails; the client may have to be told.
    fn fails(mut self) -> (String, String) {
        let first = self.settle(usize::MAX).unwrap_err().to_string();
        let second = self.settle(usize::MAX).err().map(|e| e.to_string()).unwrap_or_default();
        (first, second)
    }
}

#[test]
fn what_is_sent_arrives_however_the_bytes_are_cut() {
    let authority = Authority::new("a");
    let server = authority.server("m1.example");
    for piece in [1, 2, 5, 4_096, usize::MAX] {
        let mut pair = Pair::new(&authority.client(), &server, "m1.example");
        pair.settle(piece).unwrap();
        assert!(pair.client.is_ready() && pair.server.is_ready());
        let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut wire = Vec::new();
        pair.client.send(&text, &mut wire);
        pair.client.close(&mut wire);
        for bytes in wire.chunks(piece) {
            let before = pair.got_by_server.len();
            pair.server.receive(bytes, &mut pair.got_by_server).unwrap();
            assert!(pair.got_by_server.len() - before <= (16 << 10) + bytes.len());
        }
        assert_eq!(pair.got_by_server, text);
        assert!(pair.server.is_peer_closed() && !pair.client.is_peer_closed());
    }
}

#[test]
fn a_certificate_must_be_of_a_known_authority_valid_and_for_the_name() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let good = authority.server("m1.example");
    let past = ServerTls {
        identity: authority.identity("past.example", |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }),
        client_ca: None,
    };
    let cases = [
        (&other.client(), &good, "m1.example", "of an authority that is not trusted", "UnknownCA"),
        (&authority.client(), &good, "m2.example", "for another name", "BadCertificate"),
        (&authority.client(), &past, "past.example", "has expired", "CertificateExpired"),
    ];
    for (client, server, host, here, there) in cases {
        let (first, second) = Pair::new(client, server, host).fails();
        assert!(first.contains(here), "{first}");
        assert!(second.contains(there), "{second}");
    }
    // The name that is expected can be another than the address.
    let named = Spanned::new("m1.example".to_owned(), Default::default());
    let client = ClientTls { server_name: Some(named), ..authority.client() };
    Pair::new(&client, &good, "10.0.0.1").settle(usize::MAX).unwrap();
    // Only where it is asked for by name is anyone believed.
    let client = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
    Pair::new(&client, &past, "any.example").settle(usize::MAX).unwrap();
}

#[test]
fn a_server_that_asks_for_certificates_takes_those_of_its_authority_only() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let server = ServerTls { client_ca: Some(authority.ca()), ..authority.server("m1.example") };
    let with = |identity| ClientTls { identity: Some(identity), ..authority.client() };
    let own = with(authority.identity("device-7", |_| {}));
    Pair::new(&own, &server, "m1.example").settle(usize::MAX).unwrap();
    let (first, _) = Pair::new(&authority.client(), &server, "m1.example").fails();
    assert!(first.contains("showed no certificate"), "{first}");
    let foreign = with(other.identity("device-7", |_| {}));
    let (first, _) = Pair::new(&foreign, &server, "m1.example").fails();
    assert!(first.contains("not trusted"), "{first}");
}

#[test]
fn a_peer_that_speaks_something_else_is_an_error_and_never_plaintext() {
    let authority = Authority::new("a");
    let server = Server::new(&authority.server("m1.example"), &[]).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"{\"n\":1}\n{\"n\":2}\n", &[0xff; 100_000]] {
        let mut session = server.session().unwrap();
        let mut plain = Vec::new();
        let error = session.receive(garbage, &mut plain).unwrap_err().to_string();
        assert!(error.contains("does not speak TLS") || error.contains("TLS failed"), "{error}");
        assert!(plain.is_empty() && !session.is_ready());
        // Nothing more is looked at.
        session.receive(garbage, &mut plain).unwrap();
    }
}

#[test]
fn files_that_do_not_fit_say_which_and_why() {
    let authority = Authority::new("a");
    let (one, other) = (authority.server("one.example"), authority.server("other.example"));
    let says = |plan: &ServerTls, text: &str| {
        let error = Server::new(plan, &[]).err().unwrap();
        assert_eq!(error.key, "tls");
        assert!(error.message.contains(text), "{}", error.message);
    };
    let with = |cert: &Spanned<PathBuf>, key: &Spanned<PathBuf>| ServerTls {
        identity: Identity { cert: cert.clone(), key: key.clone() },
        client_ca: None,
    };
    let (good, key) = (&one.identity.cert, &one.identity.key);
    says(&with(good, &other.identity.key), "the key belongs to another certificate");
    says(&with(good, good), "has no private key");
    says(&with(key, key), "has no certificate");
    says(&with(&at(Path::new("missing.pem")), key), "cannot read 'missing.pem', the 'cert'");
    let error = Client::new(&authority.client(), "not a name", &[]).err().unwrap();
    assert!(error.message.contains("set 'server_name'"), "{}", error.message);
}

#[test]
fn hosts_are_told_from_ports() {
    for (address, host) in [("h:1", "h"), ("10.0.0.1:5", "10.0.0.1"), ("[::1]:5140", "::1")] {
        assert_eq!(host_of(address), host);
    }
}
