//! Faults, on the real thing: gateway and host as processes of their own, killed, frozen, starved
//! and lied to.

mod processes;
mod stack;

mod database_file;
mod demo;
mod disk;
mod flood;
mod gateway_lease;
mod hosts;
mod restart;
mod revocation;
mod secrets;
