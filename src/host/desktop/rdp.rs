//! What an RDP desktop has that another has not: a certificate of its own, programs that may not be
//! installed, and another greeting.
//!
//! xrdp is joined directly to the Xorg of the same sandbox, without its session manager: nobody
//! logs in to anything, so no root, no PAM and no system user are needed, and any name and password
//! are taken. What keeps others out is that nobody else can reach the socket: it is in a folder of
//! the session's user, behind the session's tunnel. What proves the desktop to the gateway is its
//! certificate, made for it and told to the gateway inside the host tunnel (docs/adr/0007).

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
/// How long a certificate is good: longer than the longest session.
const VALIDITY: Duration = Duration::from_secs(400 * 86_400);
/// Certificates are valid a little before they are made: clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Files without which there is no RDP desktop, and the packages they are in.
const REQUIRED_FILES: &[(&[&str], &str)] = &[
    (&["/usr/sbin/xrdp", "/usr/sbin/xrdp-chansrv"], "xrdp"),
    (&["/usr/lib/xorg/modules/libxorgxrdp.so"], "xorgxrdp"),
    (&["/usr/lib/xorg/Xorg"], "xserver-xorg-core"),
];

/// X.224 Connection Request with an RDP Negotiation Request for TLS ([MS-RDPBCGR] 2.2.1.1).
const CONNECTION_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];
/// Where a Connection Confirm says that a negotiation response follows, and which protocol was
/// chosen: TLS ([MS-RDPBCGR] 2.2.1.2).
const CONNECTION_CONFIRM: u8 = 0xd0;
const NEGOTIATION_RESPONSE: u8 = 2;
const PROTOCOL_TLS: u8 = 1;

/// The packages that would have to be installed; none: RDP desktops can be started.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let there = |files: &[&str]| files.iter().all(|file| Path::new(file).exists());
    REQUIRED_FILES.iter().filter(|(files, _)| !there(files)).map(|(_, package)| *package).collect()
}

/// A desktop's certificate.
#[derive(Debug)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PKCS #8, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// SHA-256 of the certificate in DER, in hexadecimal.
    pub fingerprint: String,
}

/// A fresh certificate with a fresh key (ECDSA P-256).
///
/// # Errors
/// When there is no randomness, or `now` is beyond what certificates can say.
pub fn generate_identity(
    now: SystemTime,
) -> Result<Identity, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name.push(DnType::CommonName, "Portcullis desktop");
    (wanted.not_before, wanted.not_after) =
        (OffsetDateTime::from(now) - BACKDATE, OffsetDateTime::from(now) + VALIDITY);
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let made = wanted.self_signed(&key)?;
    let fingerprint = hex::encode(Sha256::digest(made.der()));
    Ok(Identity {
        certificate: made.pem(),
        key: Zeroizing::new(key.serialize_pem().into_bytes()),
        fingerprint,
    })
}

/// Whether an RDP server is there: it agrees to speak TLS. It listens only once its display and its
/// clipboard do.
///
/// # Errors
/// When the connection ends before it answered.
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
    fn every_desktop_has_another_certificate() {
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
    async fn a_greeting_is_an_agreement_to_tls() {
        let mut agreed = [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 1, 0, 0, 0];
        for (at, value, good) in
            [(0, 3, true), (11, 3, false), (15, 2, false), (5, 0xe0, false), (0, 22, false)]
        {
            let before = agreed[at];
            agreed[at] = value;
            let server = tokio_test_stream(&agreed);
            assert_eq!(negotiates_tls(server).await.unwrap(), good, "{at}: {value}");
            agreed[at] = before;
        }
        assert!(negotiates_tls(tokio_test_stream(&agreed[..10])).await.is_err());
    }

    /// A stream that has said `said` and then ends.
    fn tokio_test_stream(said: &[u8]) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let (near, mut far) = tokio::io::duplex(256);
        let said = said.to_vec();
        tokio::spawn(async move {
            let mut asked = [0; CONNECTION_REQUEST.len()];
            let _ = far.read_exact(&mut asked).await;
            let _ = far.write_all(&said).await;
        });
        near
    }
}
