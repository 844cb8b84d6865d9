//! RDP desktops: real servers with a real client through RDCleanPath, and servers that lie.

mod faults;
mod rig;
mod shadow;
mod xrdp;
