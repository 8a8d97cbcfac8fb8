//! The listener's certificate, which may be renewed while it serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ringmain_config::TlsPlan;
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificate and key, read again when either file changes.
#[derive(Debug)]
pub(crate) struct Certificates {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<(Arc<CertifiedKey>, Option<Changed>)>,
}

type Changed = (SystemTime, SystemTime);

impl Certificates {
    pub(crate) fn load(plan: &TlsPlan) -> Result<Self, String> {
        let (cert, key) = (plan.cert.clone(), plan.key.clone());
        let changed = changed(&cert, &key);
        let now = read(&cert, &key)?;
        Ok(Self { cert, key, now: RwLock::new((now, changed)) })
    }

    /// A server's side that always shows the newest.
    pub(crate) fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, String> {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("[api] tls: {error}"))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reads the files again if they have changed. Bad ones change nothing.
    pub(crate) fn refresh(&self) {
        let changed = changed(&self.cert, &self.key);
        let seen = self.now.read().unwrap_or_else(PoisonError::into_inner).1;
        if changed.is_none() || changed == seen {
            return;
        }
        let fresh = read(&self.cert, &self.key);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.1 = changed;
        match fresh {
            Ok(fresh) => {
                now.0 = fresh;
                tracing::info!("[api] tls: the new certificate is in use");
            }
            Err(error) => tracing::error!("{error}; the old certificate stays in use"),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

fn changed(cert: &Path, key: &Path) -> Option<Changed> {
    let at = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    Some((at(cert)?, at(key)?))
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let bad = |path: &Path, why: String| format!("[api] tls: {}: {why}", path.display());
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(cert, "there is no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
    let signer = any_supported_type(&private).map_err(|e| bad(key, e.to_string()))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Some keys cannot tell; the handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(error) => Err(bad(key, format!("it is not the key of the certificate: {error}"))),
    }
}
