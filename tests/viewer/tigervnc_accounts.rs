//! TigerVNC servers with certificates and accounts, and upstreams that match them.

use super::desktop::Desktop;
use super::harness::{PASSWORD, server};
use super::recording_audit::RecordingAudit;
use portcullis::domain::secret::SecretString;
use portcullis::domain::upstream::{Credential, TrustRule, Upstream, UpstreamTrust};
use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(super) const ACCOUNT: (&str, &str) = ("ada", "Plain-Pass-1");
/// x11vnc forks for each connection before it answers, also for the probe of its port: slow on a
/// busy machine.
pub(super) const SERVER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);

/// The PAM module with accounts from a file, of the package libpam-wrapper.
fn pam_matrix() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|place| place.unwrap().path().join("pam_wrapper/pam_matrix.so"));
    places.into_iter().find(|path| path.exists()).expect("libpam-wrapper is installed")
}

/// Writes a new certificate into a directory.
fn write_certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["desk.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// A desktop that offers these types, with a certificate and one account.
pub(super) async fn offering(types: &str) -> Desktop {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    offering_in(folder, types).await
}

pub(super) async fn offering_in(folder: TempDir, types: &str) -> Desktop {
    let service = folder.path().join("pam");
    std::fs::create_dir_all(&service).unwrap();
    std::fs::write(folder.path().join("accounts"), format!("{}:{}:desk\n", ACCOUNT.0, ACCOUNT.1))
        .unwrap();
    let module = format!(
        "required {} passdb={}",
        pam_matrix().display(),
        folder.path().join("accounts").display()
    );
    std::fs::write(service.join("desk"), format!("auth {module}\naccount {module}\n")).unwrap();
    let variables = [
        ("LD_PRELOAD", "libpam_wrapper.so"),
        ("PAM_WRAPPER", "1"),
        ("PAM_WRAPPER_SERVICE_DIR", "{}/pam"),
    ];
    let files = [
        "-X509Cert",
        "{}/cert.pem",
        "-X509Key",
        "{}/key.pem",
        "-PAMService",
        "desk",
        "-PlainUsers",
        ACCOUNT.0,
    ];
    let options = [&["-SecurityTypes", types][..], &files].concat();
    Desktop::start_in(folder, &variables, &options).await
}

/// An upstream with this credential.
pub(super) fn with(username: &str, password: &str) -> Upstream {
    let credential = Credential {
        username: username.into(),
        domain: String::new(),
        password: SecretString::new(password.into()),
    };
    Upstream { credential: Some(credential), ..server() }
}

pub(super) fn pinned(server: Upstream, audit: &RecordingAudit) -> Upstream {
    Upstream { trust: UpstreamTrust { rule: TrustRule::FirstUse, pin: audit.pin() }, ..server }
}

/// The upstream with the credential that the type needs.
pub(super) fn server_for(kind: &str) -> Upstream {
    match kind {
        kind if kind.ends_with("Plain") => with(ACCOUNT.0, ACCOUNT.1),
        "VncAuth" | "TLSVnc" | "X509Vnc" => with("", PASSWORD),
        _ => with("", ""),
    }
}
