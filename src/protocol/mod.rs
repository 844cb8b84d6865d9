//! Pure codecs and handshakes of the desktop protocols.
