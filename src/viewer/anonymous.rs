//! TLS without certificates, as VNC's security types `TLSNone`, `TLSVnc` and `TLSPlain` use it:
//! anonymous Diffie-Hellman of TLS 1.2 (RFC 4492, RFC 5246 appendix A.5). rustls does not implement
//! it; OpenSSL does at security level 0 only. It is supported because many VNC servers offer
//! nothing better by default, and it protects against passive listeners. It does not authenticate
//! the server, so it is never used where a certificate is expected (docs/adr/0009).

use super::stream_end::StreamEnd;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_openssl::SslStream;

/// Anonymous key exchange only, without its weak ciphers.
const CIPHERS: &str = "aNULL:!eNULL:!RC4:!3DES:!SEED:!CAMELLIA:!ARIA";
/// OpenSSL rates anonymous key exchange as security level 0, whatever the cipher.
const SECURITY_LEVEL: u32 = 0;

/// Performs an anonymous TLS handshake with a server.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    time_limit: Duration,
) -> Result<SslStream<S>, StreamEnd> {
    let session =
        anonymous_session().map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    let mut stream = SslStream::new(session, stream)
        .map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    let connected = timeout(time_limit, Pin::new(&mut stream).connect()).await;
    connected
        .map_err(|_| StreamEnd::TlsFailed(io::ErrorKind::TimedOut.into()))?
        .map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    Ok(stream)
}

fn anonymous_session() -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_security_level(SECURITY_LEVEL);
    // TLS 1.3 has no anonymous key exchange.
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_cipher_list(CIPHERS)?;
    Ssl::new(&context.build())
}
