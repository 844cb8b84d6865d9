//! Pure codecs and handshakes of the desktop protocols: bytes in, bytes and a verdict out. No I/O, no clock.
//!
//! | file | what it speaks |
//! | --- | --- |
//! | [`rfb`] | VNC's protocol (RFC 6143): the handshake toward the desktop, and the one toward the browser |

pub mod rfb;
