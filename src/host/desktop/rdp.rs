//! What is specific to RDP desktops: a certificate, required programs, and the greeting.
//!
//! xrdp is connected directly to the Xorg of the same sandbox, without its session manager: there
//! is no login, so no root, no PAM and no system user are needed, and any name and password are
//! accepted. Access is limited by the socket, which is in a folder of the session's user, behind
//! the session's tunnel. The gateway authenticates the desktop by its certificate, which is
//! generated for it and reported inside the host tunnel (docs/adr/0007).

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Name of the certificate's file, in the session's folder and in the sandbox's `/run`.
pub const CERTIFICATE: &str = "rdp.crt";
/// Name of its key's file there.
pub const KEY: &str = "rdp.key";
/// Validity of a certificate: longer than the longest session.
const VALIDITY: Duration = Duration::from_secs(400 * 86_400);
/// Certificates are valid from before their creation, since clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Required files and the packages that contain them.
const REQUIRED_FILES: &[(&[&str], &str)] = &[
    (&["/usr/sbin/xrdp", "/usr/sbin/xrdp-chansrv"], "xrdp"),
    (&["/usr/lib/xorg/modules/libxorgxrdp.so"], "xorgxrdp"),
    (&["/usr/lib/xorg/Xorg"], "xserver-xorg-core"),
];

/// X.224 Connection Request with an RDP Negotiation Request for TLS ([MS-RDPBCGR] 2.2.1.1).
const CONNECTION_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];
/// X.224 Connection Confirm, RDP Negotiation Response, and the selected protocol TLS
/// ([MS-RDPBCGR] 2.2.1.2).
const CONNECTION_CONFIRM: u8 = 0xd0;
const NEGOTIATION_RESPONSE: u8 = 2;
const PROTOCOL_TLS: u8 = 1;

/// The required packages that are not installed.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let exist = |files: &[&str]| files.iter().all(|file| Path::new(file).exists());
    REQUIRED_FILES.iter().filter(|(files, _)| !exist(files)).map(|(_, package)| *package).collect()
}

/// Certificate and key of a desktop.
#[derive(Debug)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PKCS #8, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// SHA-256 of the certificate in DER, hexadecimal.
    pub fingerprint: String,
}

/// Generates a self-signed certificate (ECDSA P-256).
///
/// # Errors
/// When there is no randomness, or `now` cannot be represented in a certificate.
pub fn generate_identity(
    now: SystemTime,
) -> Result<Identity, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Portcullis desktop");
    (params.not_before, params.not_after) =
        (OffsetDateTime::from(now) - BACKDATE, OffsetDateTime::from(now) + VALIDITY);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let made = params.self_signed(&key)?;
    let fingerprint = hex::encode(Sha256::digest(made.der()));
    Ok(Identity {
        certificate: made.pem(),
        key: Zeroizing::new(key.serialize_pem().into_bytes()),
        fingerprint,
    })
}

/// Whether an RDP server answers and selects TLS. It listens only once its display and clipboard
/// run.
///
/// # Errors
/// When the connection ends before the answer.
pub async fn negotiates_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<bool> {
    stream.write_all(&CONNECTION_REQUEST).await?;
    let mut answer = [0; CONNECTION_REQUEST.len()];
    stream.read_exact(&mut answer).await?;
    Ok((answer[0], answer[5], answer[11], answer[15])
        == (3, CONNECTION_CONFIRM, NEGOTIATION_RESPONSE, PROTOCOL_TLS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn every_desktop_has_its_own_certificate() {
        let [one, two] = [
            generate_identity(SystemTime::now()).unwrap(),
            generate_identity(SystemTime::now()).unwrap(),
        ];
        assert_ne!(one.fingerprint, two.fingerprint);
        let der = CertificateDer::from_pem_slice(one.certificate.as_bytes()).unwrap();
        assert_eq!(one.fingerprint, hex::encode(Sha256::digest(&der)));
        assert!(!one.certificate.contains("PRIVATE"));
    }

    #[tokio::test]
    async fn a_greeting_selects_tls() {
        let mut confirm = [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 1, 0, 0, 0];
        for (at, value, good) in
            [(0, 3, true), (11, 3, false), (15, 2, false), (5, 0xe0, false), (0, 22, false)]
        {
            let before = confirm[at];
            confirm[at] = value;
            let server = server_with_reply(&confirm);
            assert_eq!(negotiates_tls(server).await.unwrap(), good, "{at}: {value}");
            confirm[at] = before;
        }
        assert!(negotiates_tls(server_with_reply(&confirm[..10])).await.is_err());
    }

    /// A stream that sends `reply` to a request and then ends.
    fn server_with_reply(reply: &[u8]) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let (near, mut far) = tokio::io::duplex(256);
        let reply = reply.to_vec();
        tokio::spawn(async move {
            let mut request = [0; CONNECTION_REQUEST.len()];
            let _ = far.read_exact(&mut request).await;
            let _ = far.write_all(&reply).await;
        });
        near
    }
}
