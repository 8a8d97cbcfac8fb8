//! Certificates and keys from files, and what is believed.

use std::path::PathBuf;
use std::sync::Arc;

use ringmain_config::Spanned;
use ringmain_config::plan::{ClientTls, Identity, ServerTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::ConnectorError;

fn setup(message: impl Into<String>) -> ConnectorError {
    ConnectorError::setup("tls", message)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn client(plan: &ClientTls) -> Result<ClientConfig, ConnectorError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?;
    let builder = if plan.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let roots = match &plan.ca {
            Some(path) => authorities("ca", path)?,
            None => system_authorities()?,
        };
        builder.with_root_certificates(roots)
    };
    match &plan.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let (chain, key) = read(identity)?;
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| does_not_fit(identity, &error))
        }
    }
}

pub(super) fn server(plan: &ServerTls) -> Result<ServerConfig, ConnectorError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?;
    let builder = match &plan.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities("client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| setup(error.to_string()))?)
        }
    };
    let (chain, key) = read(&plan.identity)?;
    let built = builder.with_single_cert(chain, key);
    built.map_err(|error| does_not_fit(&plan.identity, &error))
}

fn read(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConnectorError> {
    let chain = certificates("cert", &identity.cert)?;
    let path = identity.key.value.display();
    let key = PrivateKeyDer::from_pem_file(&identity.key.value).map_err(|error| match error {
        pem::Error::NoItemsFound => setup(format!(
            "'{path}' has no private key; 'key' names a PEM file with one (PKCS #8, PKCS #1 or \
             SEC1, not encrypted)"
        )),
        error => unreadable("key", &identity.key, &error),
    })?;
    Ok((chain, key))
}

fn certificates(
    key: &str,
    path: &Spanned<PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, ConnectorError> {
    let unreadable = |error| unreadable(key, path, &error);
    let items = CertificateDer::pem_file_iter(&path.value).map_err(unreadable)?;
    let chain: Vec<_> = items.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        let path = path.value.display();
        return Err(setup(format!(
            "'{path}' has no certificate; '{key}' names a PEM file with at least one"
        )));
    }
    Ok(chain)
}

fn authorities(key: &str, path: &Spanned<PathBuf>) -> Result<RootCertStore, ConnectorError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| {
            let path = path.value.display();
            setup(format!("'{path}' has a certificate that cannot be an authority: {error}"))
        })?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, ConnectorError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(setup(format!(
            "this machine has no certificate authorities{why}; install the package \
             ca-certificates, or name a file with them: tls = {{ ca = \"ca.pem\" }}"
        )));
    }
    Ok(roots)
}

fn unreadable(key: &str, path: &Spanned<PathBuf>, error: &pem::Error) -> ConnectorError {
    let path = path.value.display();
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        error => format!("it is not PEM: {error}"),
    };
    setup(format!("cannot read '{path}', the '{key}' of tls: {why}"))
}

fn does_not_fit(identity: &Identity, error: &Error) -> ConnectorError {
    let (cert, key) = (identity.cert.value.display(), identity.key.value.display());
    let help = match error {
        Error::InconsistentKeys(_) => "the key belongs to another certificate",
        _ => "replace them",
    };
    setup(format!("'{cert}' and '{key}' cannot be used: {error}; {help}"))
}

/// Believes every certificate, and only checks that the other side has its
/// key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
