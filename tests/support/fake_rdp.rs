//! Parts of an RDP server: each step of a connection separately, so that a test can
//! omit or alter any of them.

use sspi::credssp::{
    CredSspServer, CredentialsProxy, NStatusCode, ServerMode, ServerState, TsRequest,
};
use sspi::ntlm::NtlmConfig;
use sspi::{AuthIdentity, Username};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode;

/// Selected protocols, \[MS-RDPBCGR\] 2.2.1.2.1.
pub const RDP: u32 = 0;
pub const TLS: u32 = 1;
pub const HYBRID: u32 = 2;

/// A certificate and its key.
pub struct Identity {
    pub certificate: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl Identity {
    pub fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.into()]).unwrap().self_signed(&key).unwrap();
        Self::with(vec![certificate.der().to_vec()], key.serialize_der())
    }

    /// A chain, the server's own certificate first, and its key (PKCS #8).
    pub fn with(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        let certificate = chain[0].clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                chain.into_iter().map(Into::into).collect(),
                PrivateKeyDer::Pkcs8(key.into()),
            )
            .unwrap();
        Self { certificate, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }

    /// The public key that CredSSP binds to.
    fn public_key(&self) -> Vec<u8> {
        let certificate = x509_cert::Certificate::from_der(&self.certificate).unwrap();
        certificate
            .tbs_certificate()
            .subject_public_key_info()
            .subject_public_key
            .raw_bytes()
            .to_vec()
    }
}

/// One TPKT packet.
pub async fn read_tpkt(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet).await?;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    packet.resize(length.max(4), 0);
    stream.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// An X.224 Connection Confirm that selects a protocol.
pub fn confirm(protocol: u32) -> Vec<u8> {
    answer(2, protocol)
}

/// An X.224 Connection Confirm with a failure code, \[MS-RDPBCGR\] 2.2.1.2.2.
pub fn failure(code: u32) -> Vec<u8> {
    answer(3, code)
}

fn answer(kind: u8, value: u32) -> Vec<u8> {
    let mut packet = vec![3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, kind, 0x1f, 8, 0];
    packet.extend_from_slice(&value.to_le_bytes());
    if kind == 3 {
        packet[12] = 0;
    }
    packet
}

/// Reads the gateway's X.224 request and sends `reply`; the protocols it asked for.
pub async fn negotiate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    reply: &[u8],
) -> io::Result<u32> {
    let request = read_tpkt(stream).await?;
    stream.write_all(reply).await?;
    stream.flush().await?;
    let asked = request.last_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
    Ok(u32::from_le_bytes(*asked))
}

struct Account {
    username: String,
    password: String,
}

impl CredentialsProxy for Account {
    type AuthenticationData = AuthIdentity;

    fn auth_data_by_user(&mut self, username: &Username) -> io::Result<AuthIdentity> {
        if username.account_name() != self.username {
            return Err(io::Error::other("no such user"));
        }
        Ok(AuthIdentity { username: username.clone(), password: self.password.clone().into() })
    }

    fn auth_data(&mut self) -> io::Result<Vec<AuthIdentity>> {
        let username = Username::parse(&self.username).map_err(io::Error::other)?;
        Ok(vec![AuthIdentity { username, password: self.password.clone().into() }])
    }
}

/// The result of CredSSP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Login {
    /// The name and password that were delegated.
    In(String, String),
    /// It was refused.
    Refused,
}

/// The server's part of CredSSP. A wrong password is answered with `status`, or by closing the
/// connection when there is none.
pub async fn credssp(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    identity: &Identity,
    account: (&str, &str),
    status: Option<u32>,
) -> io::Result<Login> {
    let account = Account { username: account.0.into(), password: account.1.into() };
    let mode = ServerMode::Ntlm(NtlmConfig::new("fake".into()));
    let mut server =
        CredSspServer::new(identity.public_key(), account, mode).map_err(io::Error::other)?;
    loop {
        let request = read_ts_request(stream).await?;
        match server.process(request).resolve_to_result() {
            Ok(ServerState::ReplyNeeded(reply)) => write_ts_request(stream, &reply).await?,
            Ok(ServerState::Finished(identity)) => {
                return Ok(Login::In(
                    identity.username.account_name().into(),
                    identity.password.as_ref().clone(),
                ));
            }
            Err(_) => {
                if let Some(status) = status {
                    refuse(stream, status).await?;
                }
                stream.shutdown().await?;
                return Ok(Login::Refused);
            }
        }
    }
}

/// A TSRequest with an error code.
pub async fn refuse(stream: &mut (impl AsyncWrite + Unpin), status: u32) -> io::Result<()> {
    write_ts_request(
        stream,
        &TsRequest { error_code: Some(NStatusCode(status)), ..TsRequest::default() },
    )
    .await
}

async fn write_ts_request(
    stream: &mut (impl AsyncWrite + Unpin),
    request: &TsRequest,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    request.encode_ts_request(&mut bytes)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read_ts_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<TsRequest> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await?);
        // Its length is known after 2 to 4 bytes.
        if let Ok(length) = TsRequest::read_length(&bytes[..]) {
            let head = bytes.len();
            bytes.resize(length, 0);
            stream.read_exact(&mut bytes[head..]).await?;
            return TsRequest::from_buffer(&bytes);
        }
        if bytes.len() > 4 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
