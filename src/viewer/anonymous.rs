//! TLS without certificates, which VNC servers call `TLSNone`, `TLSVnc` and `TLSPlain`: anonymous
//! Diffie-Hellman of TLS 1.2 (RFC 4492, RFC 5246 appendix A.5). rustls has none of it, with reason;
//! OpenSSL has it at security level 0 only. It is here because VNC servers offer nothing better by
//! default, and it keeps a listener out. It proves nothing about the server, so it never stands
//! where a certificate is expected (docs/adr/0009).

use super::stream_end::StreamEnd;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_openssl::SslStream;

/// Nothing but anonymous key exchange, and of it nothing broken.
const CIPHERS: &str = "aNULL:!eNULL:!RC4:!3DES:!SEED:!CAMELLIA:!ARIA";
/// OpenSSL counts anonymous exchange as no security at all, whatever the cipher.
const SECURITY_LEVEL: u32 = 0;

/// Speaks anonymous TLS with a server.
///
/// # Errors
/// [`End::Insecure`].
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    limit: Duration,
) -> Result<SslStream<S>, StreamEnd> {
    let session =
        anonymous_session().map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    let mut stream = SslStream::new(session, stream)
        .map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    let shaken = timeout(limit, Pin::new(&mut stream).connect()).await;
    shaken
        .map_err(|_| StreamEnd::TlsFailed(io::ErrorKind::TimedOut.into()))?
        .map_err(|error| StreamEnd::TlsFailed(io::Error::other(error)))?;
    Ok(stream)
}

fn anonymous_session() -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_security_level(SECURITY_LEVEL);
    // TLS 1.3 has no anonymous exchange.
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_cipher_list(CIPHERS)?;
    Ssl::new(&context.build())
}
