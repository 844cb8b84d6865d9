//! Parts of a [`super::app::TestApp`]: a desktop, the users' password, settings, a certificate.

use super::app::APPS_DOMAIN;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portcullis::broker::Settings;
use portcullis::broker::core::settings::Limits;
use portcullis::domain::lease::Lease;
use portcullis::domain::secret::SecretString;
use portcullis::domain::session_times::SessionTimes;
use portcullis::viewer::{Dial, Duplex};
use std::io;
use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::time::Duration;

/// A desktop that accepts connections and sends nothing.
pub struct SilentDesktop;

impl Dial for SilentDesktop {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        let (near, far) = tokio::io::duplex(1024);
        async move {
            // Open as long as the near end.
            tokio::spawn(async move {
                tokio::io::copy(&mut tokio::io::BufReader::new(far), &mut tokio::io::sink()).await
            });
            Ok(Box::new(near) as Box<dyn Duplex>)
        }
        .boxed()
    }
}

/// The password of all users, and its hash.
pub fn password() -> &'static (String, String) {
    static ONE: OnceLock<(String, String)> = OnceLock::new();
    ONE.get_or_init(|| {
        let text = format!("pw-{}-Aa1", uuid::Uuid::new_v4());
        let hash = portcullis::auth::password::hash(&SecretString::new(text.clone())).unwrap();
        (text, hash)
    })
}

/// A random WireGuard key in base64.
pub fn wireguard_key() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(portcullis::auth::random_bytes::<32>())
}

pub fn broker_settings() -> Settings {
    let s = Duration::from_secs;
    Settings {
        mfa_required: true,
        issuer: "Portcullis".to_owned(),
        access_ttl: s(600),
        refresh_ttl: s(7 * 24 * 3600),
        mfa_ttl: s(300),
        ticket_ttl: s(30),
        session_times: SessionTimes::of_installation(s(8 * 3600), s(12 * 3600), None),
        grace: s(600),
        launch_timeout: s(15),
        session_network: (Ipv4Addr::new(10, 64, 0, 0), 10),
        local_endpoints: false,
        web_applications: true,
        max_viewers: 4,
        limits: Limits::default(),
    }
}

/// A self-signed certificate for localhost: server configuration, client configuration, root.
pub fn certificate() -> (rustls::ServerConfig, rustls::ClientConfig, reqwest::Certificate) {
    let made = rcgen::generate_simple_self_signed(vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        format!("*.{APPS_DOMAIN}"),
    ])
    .unwrap();
    let der = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der.clone()).unwrap();
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (server, client, reqwest::Certificate::from_der(&der).unwrap())
}
