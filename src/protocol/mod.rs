//! Pure codecs and handshakes of what is relayed: bytes in, bytes and a verdict out. No I/O, no
//! clock.
//!
//! | file | what it speaks |
//! | --- | --- |
//! | [`rfb`] | VNC's protocol (RFC 6143): the handshake toward the desktop, the one toward the browser, and what policy takes out of the stream between |
//! | [`rdp`] | Windows' protocol (MS-RDPBCGR): the negotiation, the edits of the client's early PDUs, and the filter of what policy forbids |
//! | [`http1`] | the web's protocol (RFC 9112): the answers of applications |

pub mod http1;
pub mod rdp;
pub mod rfb;
