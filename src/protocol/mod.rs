//! Pure codecs and handshakes of the desktop protocols: bytes in, bytes and a verdict out. No I/O, no clock.
//!
//! | file | what it speaks |
//! | --- | --- |
//! | [`rfb`] | VNC's protocol (RFC 6143): the handshake toward the desktop, the one toward the browser, and what policy takes out of the stream between |

pub mod rfb;
