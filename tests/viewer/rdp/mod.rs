//! RDP desktops: real servers with a real client through RDCleanPath, and servers that send false
//! data.

mod clipboard;
mod failures;
mod harness;
mod nla;
mod replay;
mod shadow;
mod xrdp;
