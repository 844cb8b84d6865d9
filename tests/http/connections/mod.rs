//! Nobody takes the gateway's connections away from others: clients at several addresses of
//! loopback, and a gateway with few places.

mod clients;
mod http2;
mod stages;
