//! The gateway over real TLS, on a loopback port.

mod openapi;
