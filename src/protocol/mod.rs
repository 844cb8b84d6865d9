//! Pure codecs, handshakes and filters of the relayed protocols. No I/O, no clock.
//!
//! | file | protocol |
//! | --- | --- |
//! | [`rfb`] | RFB (RFC 6143): the handshakes with desktop and browser, and the filter of the stream between |
//! | [`rdp`] | RDP (MS-RDPBCGR): the negotiation, the edits of the client's early PDUs, and the filter of the stream |
//! | [`http1`] | HTTP/1.1 (RFC 9112): responses of applications |

pub mod http1;
pub mod rdp;
pub mod rfb;
