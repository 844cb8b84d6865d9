//! RDP desktops: real servers with a real client through RDCleanPath, and servers that send false
//! data.

mod clipboard;
mod failures;
mod harness;
mod nla;
mod replay;
mod shadow;
mod xrdp;

use super::harness::lease_to;
use portcullis::domain::OrganizationId;
use portcullis::domain::upstream::ProtocolSettings;
use portcullis::domain::workspace::WorkspaceKind;

#[test]
fn the_browsers_keyboard_layout_is_for_servers_that_the_workspace_names_none_for() {
    let layout = |of_workspace| {
        let protocol = ProtocolSettings::Rdp { keyboard_layout: of_workspace };
        let server = portcullis::domain::upstream::Upstream { protocol, ..harness::server(None) };
        let mut lease = lease_to(OrganizationId::new(), WorkspaceKind::Rdp, server);
        lease.prefer_keyboard_layout(0x407);
        lease.upstream().protocol.clone()
    };
    assert_eq!(layout(None), ProtocolSettings::Rdp { keyboard_layout: Some(0x407) });
    assert_eq!(layout(Some(0x40c)), ProtocolSettings::Rdp { keyboard_layout: Some(0x40c) });
}
