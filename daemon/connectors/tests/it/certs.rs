//! Certificates that are made for a test.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use ringmain_config::Spanned;
use ringmain_config::plan::{ClientTls, Identity, ServerTls};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

use crate::rig::spanned;

/// An authority with a folder for what it signs.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    pub fn ca(&self) -> Spanned<PathBuf> {
        spanned(self.dir.path().join("ca.pem"))
    }

    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |suffix: &str| self.dir.path().join(format!("{name}.{suffix}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        Identity { cert: spanned(path("pem")), key: spanned(path("key")) }
    }

    pub fn server(&self, name: &str) -> ServerTls {
        ServerTls { identity: self.identity(name), client_ca: None }
    }

    pub fn client(&self) -> ClientTls {
        ClientTls { ca: Some(self.ca()), ..ClientTls::default() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca().value).unwrap()).unwrap();
        roots
    }

    /// For the other side of a test.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// For the other side of a test; with `ask` it wants certificates.
    pub fn server_config(&self, name: &str, ask: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()),
            provider,
        );
        let builder = match ask {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        let identity = self.identity(name);
        let chain = vec![CertificateDer::from_pem_file(&identity.cert.value).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&identity.key.value).unwrap();
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }
}
