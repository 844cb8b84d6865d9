//! Attaching a browser to its desktop: lease, handshake, relay, cut.
