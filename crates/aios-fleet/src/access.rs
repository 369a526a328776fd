//! How a broker is reached: address, certificates, keep-alive.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aios_core::config::Broker;
use rumqttc::{ConnectionError, LastWill, MqttOptions, NetworkOptions, SessionMode, TlsConfiguration, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

/// Largest packet that is taken from a broker, in bytes. The broker is told, and sends no larger one.
pub const PACKET_MAX: u32 = 1 << 20;
/// Time for reaching a broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait to be sent.
const QUEUE: usize = 256;

/// A broker and what proves who is who.
#[derive(Clone)]
pub struct Access {
    broker: Broker,
    tls: Option<Arc<ClientConfig>>,
    keep_alive: Duration,
}

/// Files with certificates, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Who may vouch for the broker.
    pub ca: Option<PathBuf>,
    /// Who connects.
    pub certificate: Option<PathBuf>,
    /// The private key to it.
    pub key: Option<PathBuf>,
}

/// Why there is no way to a broker.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file can't be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS without an authority.
    #[error("mqtts:// needs a file with the certificates of who may vouch for the broker")]
    Authority,
    /// Certificate and key don't go together, or are of a kind that is not supported.
    #[error("the certificate and its key can't be used: {0}")]
    Certificate(#[from] rustls::Error),
}

impl Access {
    /// Reads the files.
    pub fn new(broker: Broker, files: &Files, keep_alive: Duration) -> Result<Access, AccessError> {
        let tls = if broker.tls { Some(Arc::new(tls(files)?)) } else { None };
        Ok(Access { broker, tls, keep_alive })
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// One connection to the broker, not yet made. Nothing of an earlier one is left in it.
    pub(crate) fn client(&self, id: &str, will: Option<LastWill>) -> (rumqttc::AsyncClient, rumqttc::EventLoop) {
        let mut options = MqttOptions::new(id, rumqttc::Broker::tcp(self.broker.host.clone(), self.broker.port));
        options.set_keep_alive(u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX));
        options.set_session_mode(SessionMode::Clean);
        options.set_max_packet_size(Some(PACKET_MAX));
        options.set_request_channel_capacity(QUEUE);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        options.set_network_options(network);
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
        }
        if let Some(will) = will {
            options.set_last_will(will);
        }
        rumqttc::AsyncClient::builder(options).build()
    }
}

/// What went wrong on the way to a broker, in one line.
pub(crate) fn told(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

fn tls(files: &Files) -> Result<ClientConfig, AccessError> {
    let mut roots = RootCertStore::empty();
    let path = files.ca.as_deref().ok_or(AccessError::Authority)?;
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(config.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| pem_error(key, error))?;
    Ok(config.with_client_auth_cert(certificates(certificate)?, private)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| pem_error(path, error))?;
    if found.is_empty() {
        return Err(content(path, "holds no certificate: it should begin with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    fs::read(path).map_err(|cause| AccessError::Read { path: path.to_owned(), cause })
}

fn pem_error(path: &Path, error: pem::Error) -> AccessError {
    content(path, format!("holds no PEM that is needed here: {error}"))
}

fn content(path: &Path, reason: impl ToString) -> AccessError {
    AccessError::Content { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let broker: Broker = "mqtts://localhost".parse().expect("an address");
        let access = |files: &Files| Access::new(broker.clone(), files, Duration::from_secs(60)).map(drop);
        assert!(matches!(access(&Files::default()), Err(AccessError::Authority)));
        let files = Files { ca: Some(path.clone()), ..Files::default() };
        assert!(matches!(access(&files), Err(AccessError::Read { .. })));
        for wrong in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, wrong).expect("written");
            let error = access(&files).expect_err(wrong).to_string();
            assert!(error.contains("ca.pem: "), "{error}");
        }
    }
}
