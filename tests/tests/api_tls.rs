//! The API over TLS: its certificate is renewed while it serves.

use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Driver, Job, until};

/// A certificate for this machine that is its own authority, and its key.
fn identity() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_certificate_is_renewed_while_it_serves_and_a_bad_one_changes_nothing() {
    let port = free_port();
    let (first, second, third) = (identity(), identity(), identity());
    let job = Job::new(Driver::Auto)
        .file("cert.pem", &first.0)
        .file("key.pem", &first.1)
        .file("first.pem", &first.0)
        .file("second.pem", &second.0)
        .shards(&format!(
            "[api]\nlisten = \"127.0.0.1:{port}\"\n\
             tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n"
        ));
    let daemon = job.start();
    drop(connect(port));
    let url = format!("https://127.0.0.1:{port}");
    let call = |ca: &str| job.call(&["flows", "list", "--api", &url, "--ca", ca]);
    assert!(call("first.pem").status.success(), "{:?}", call("first.pem"));
    let foreign = call("second.pem");
    assert!(!foreign.status.success(), "it is not signed by that one");
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("no answer from https://"));
    job.write("key.pem", &second.1);
    job.write("cert.pem", &second.0);
    until("the new certificate is shown", || call("second.pem").status.success());
    assert!(!call("first.pem").status.success(), "the old one is shown no more");
    // A key that does not belong to it.
    job.write("key.pem", &third.1);
    until("it is told", || daemon.said().contains("the old certificate stays in use"));
    assert!(call("second.pem").status.success());
    let nothing = job.call(&["flows", "list", "--api", &url, "--ca", "key.pem"]);
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("--ca key.pem: there is no certificate in it"), "{said}");
    assert_eq!(daemon.drain().status.code(), Some(0));
}
