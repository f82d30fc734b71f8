//! TLS 1.3 for a listener of our own, by rustls. Older versions are refused.
//!
//! Certificate and key are files in PEM. They are read again when they change: whoever renews a certificate replaces the
//! files and needs no restart. New files that do not fit each other are told of in the log, and the former go on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: no {what} can be read from it")]
    File {
        /// Which.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What was wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("{path}: there is no certificate in it")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The key is of a kind that is not supported, or is not that of the certificate.
    #[error("the key in {key} does not go with the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What was wrong.
        #[source]
        source: rustls::Error,
    },
    /// The process has no provider of cryptography, which is a fault of ours.
    #[error("no provider of cryptography is installed")]
    NoProvider,
    /// TLS 1.3 is not to be had, which is a fault of ours.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// A certificate with its key, to be presented to whoever connects. Clones share.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
    presented: Arc<Presented>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls")
            .field("certificate", &self.presented.files.certificate)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Presented {
    files: Files,
    now: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = CryptoProvider::get_default().ok_or(TlsError::NoProvider)?;
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let now = RwLock::new(Arc::new(files.read(provider)?));
        let presented = Arc::new(Presented { files, now });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&presented) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), presented })
    }

    /// Takes up files that change, until it is told to stop.
    pub(super) async fn follow_files(self, stop: CancellationToken) {
        let mut seen = self.presented.files.changed_at();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let files = self.presented.files.clone();
            let changed_at = files.changed_at();
            if changed_at != seen {
                seen = changed_at;
                self.take_up();
            }
        }
    }

    fn take_up(&self) {
        let read = CryptoProvider::get_default().ok_or(TlsError::NoProvider);
        match read.and_then(|provider| self.presented.files.read(provider)) {
            Ok(new) => {
                *self.presented.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!("took up a new certificate");
            }
            Err(error) => tracing::error!(%error, "a new certificate cannot be used; the former one goes on"),
        }
    }
}

impl Files {
    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let Self { certificate, key } = self;
        let file = |path: &PathBuf, what, source| TlsError::File { path: path.clone(), what, source };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| file(certificate, "certificate", source))?;
        if chain.is_empty() {
            return Err(TlsError::Empty { path: certificate.clone() });
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|source| file(key, "private key", source))?;
        CertifiedKey::from_der(chain, private, provider).map_err(|source| TlsError::Mismatch {
            certificate: certificate.clone(),
            key: key.clone(),
            source,
        })
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|path| path.metadata().and_then(|file| file.modified()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn files_that_do_not_fit_are_told_by_name_and_never_replace_those_that_do() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = made(folder.path(), "one");
        let (_, other_key) = made(folder.path(), "other");
        let tls = Tls::load(&certificate, &key).unwrap();
        let told = |certificate: &Path, key: &Path| Tls::load(certificate, key).unwrap_err().to_string();
        assert!(told(&certificate, &other_key).contains("other.key does not go with"));
        assert!(told(&key, &key).contains("no certificate in it"));
        assert!(told(&certificate, &certificate).contains("no private key can be read"));
        assert!(told(&folder.path().join("absent"), &key).contains("absent: no certificate"));

        let presented = || Arc::clone(&tls.presented.now.read().unwrap());
        let first = presented();
        std::fs::write(&key, "no key").unwrap();
        tls.take_up();
        assert!(Arc::ptr_eq(&first, &presented()), "the former goes on");
        made(folder.path(), "one");
        tls.take_up();
        assert_ne!(first.cert, presented().cert, "renewed");
    }
}
