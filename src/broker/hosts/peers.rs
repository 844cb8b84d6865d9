//! Standard WireGuard peers as hosts: a kernel, wireguard-go or Windows, without an agent.
//!
//! An administrator adds a peer by its public key. Its private key never leaves the peer; the
//! preshared key is the gateway's, stored sealed, and shown only in the peer's configuration file,
//! which is audited each time. The tunnel lets the peer reach the gateway's inner address and
//! nothing else.

use crate::auth::random_bytes;
use crate::broker::core::answers::HOST;
use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::core::validate;
use crate::broker::hosts::gateway_identity::GatewayIdentityStore;
use crate::broker::model::{GatewayIdentity, HostSlots, HostView, NewPeer};
use crate::broker::ports::host_fleet::{HostFleet, HostPeer};
use crate::domain::audit::{Action, Reason};
use crate::domain::destination::{NoDestination, no_destination};
use crate::domain::host::{Host, HostKind};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::route::{HOST_NETWORK, gateway_v6};
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::user::RequestSource;
use crate::domain::{Error, HostId, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// PersistentKeepalive of a peer, in seconds.
const KEEPALIVE: u16 = 25;

#[derive(Clone)]
pub struct Peers {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) identity: GatewayIdentityStore,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) session_network: (Ipv4Addr, u8),
    /// See [`crate::broker::core::settings::Settings::local_endpoints`].
    pub(in crate::broker) local_endpoints: bool,
}

impl Peers {
    /// Adds a standard peer as a host and opens its tunnel.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid`; `Conflict` when the key or the address is another host's.
    pub async fn add(
        &self,
        source: &RequestSource,
        caller: &Principal,
        new: NewPeer,
    ) -> Result<HostView> {
        let tried = self.store.entry(source, Action::AddPeer).on_named("host", Some(&new.name));
        let organization_id =
            self.store.permit_act(source, caller, PolicyAction::ManageHosts, tried).await?;
        let name = validate::name(&new.name)?;
        let public_key = self.identity.validate_peer_key(&new.public_key).await?;
        let endpoint = match new.endpoint {
            Some(endpoint) => Some(self.validate_endpoint(endpoint).await?),
            None => None,
        };
        let asked = new.address.map(|address| self.validate_address(address)).transpose()?;
        let (id, now) = (HostId::new(), self.store.now());
        let psk = SecretBytes::new(random_bytes::<32>().to_vec());
        let sealed = self.sealer.seal(SealingPurpose::HostPresharedKey(id), psk.expose());
        let entry = self.store.entry(source, Action::AddPeer).by_caller(caller);
        let host = self
            .store
            .write(move |tx| {
                let address = match asked {
                    Some(address) => address,
                    None => tx.next_host_address(HOST_NETWORK)?,
                };
                let (name, public_key) = (name.clone(), public_key.clone());
                let (kind, version, last_seen_at) = (HostKind::Peer, String::new(), None);
                let host = Host {
                    id,
                    organization_id,
                    kind,
                    name,
                    public_key,
                    address,
                    endpoint,
                    version,
                    enrolled_at: now,
                    last_seen_at,
                    drained_at: None,
                };
                tx.insert_host(&host, &sealed)?;
                let entry = entry
                    .clone()
                    .on_host(&host)
                    .with("public_key", host.public_key.clone())
                    .with("address", host.address.to_string());
                tx.add_entry(&entry.with("endpoint", host.endpoint.map(|e| e.to_string())));
                Ok(host)
            })
            .await?;
        // The command line has no tunnels: the running gateway finds the host in the store.
        if !self.fleet.identity().public_key.is_empty() {
            let peer = HostPeer { host: host.clone(), preshared_key: psk };
            self.fleet.add_host(peer).map_err(|e| {
                Error::unavailable("The host's tunnel could not be opened. It is tried again.")
                    .caused_by(e)
            })?;
        }
        self.changes.publish(Some(organization_id), &[Topic::Hosts]);
        Ok(HostView {
            tunnel: self.fleet.host(id),
            capabilities: None,
            sessions: 0,
            used: HostSlots::default(),
            failure: None,
            host,
        })
    }

    /// A standard peer's `wg-quick` file without its private key. It contains the preshared key, so
    /// each access is audited.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Conflict` for a host with an agent, or when no gateway has started
    /// on this data yet.
    pub async fn config(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: HostId,
    ) -> Result<SecretString> {
        let tried = self.store.entry(source, Action::ShowHostConfig).on_host_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageHosts, tried).await?;
        let gateway = self.identity.get().await?;
        let entry = self.store.entry(source, Action::ShowHostConfig).by_caller(caller);
        let (host, sealed) = self
            .store
            .transact(move |tx| {
                let found = tx.host_with_key(id)?;
                let Some((host, sealed)) =
                    found.filter(|(host, _)| host.organization_id == organization)
                else {
                    let entry = entry.clone().access_denied().on_host_id(id);
                    return tx.deny(&entry.denied(Reason::Unknown), Error::not_found(HOST));
                };
                if host.kind != HostKind::Peer {
                    let error =
                        Error::conflict("This host runs our agent, which got its keys when it enrolled; only standard peers have a file.");
                    return tx.deny(&entry.clone().on_host(&host).denied(Reason::Agent), error);
                }
                tx.add_entry(&entry.clone().on_host(&host));
                Ok(Decision::Allowed((host, sealed)))
            })
            .await?;
        let psk = self.sealer.unseal(SealingPurpose::HostPresharedKey(host.id), &sealed)?;
        Ok(SecretString::new(wg_quick(&host, &gateway, &STANDARD.encode(psk.expose()))))
    }

    /// Validates the UDP address at which a peer is called: another machine's, and not the gateway's
    /// own.
    async fn validate_endpoint(&self, endpoint: SocketAddr) -> Result<SocketAddr> {
        if endpoint.port() == 0 {
            return Err(Error::invalid(
                "endpoint must be ADDRESS:PORT, the UDP address at which the peer can be called; no peer listens on port 0.",
            ));
        }
        let refused = |why: &str| {
            Error::invalid(format!(
                "endpoint must be the address of another machine; {} {why}.",
                endpoint.ip()
            ))
        };
        match no_destination(endpoint.ip()) {
            Some(NoDestination::Never(why)) => return Err(refused(why)),
            Some(NoDestination::Local(why)) if !self.local_endpoints => return Err(refused(why)),
            Some(NoDestination::Local(_)) | None => {}
        }
        let endpoint = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
        // On the command line, before the first start, there is no gateway yet.
        let published =
            self.identity.get().await.ok().and_then(|gateway| gateway.endpoint.parse().ok());
        if published == Some(endpoint) || self.fleet.is_own_endpoint(endpoint) {
            return Err(Error::invalid(
                "endpoint is the gateway's own UDP address. It must be the peer's.",
            ));
        }
        Ok(endpoint)
    }

    /// Validates an inner address chosen by an administrator: one that the gateway gives to nobody
    /// else.
    fn validate_address(&self, address: IpAddr) -> Result<IpAddr> {
        let usable = match address {
            IpAddr::V4(v4) => self.is_usable_v4(v4)?,
            // The gateway's own address is unknown to who does not know its key, and its tunnel
            // refuses it.
            IpAddr::V6(v6) => is_usable_v6(v6),
        };
        if usable {
            Ok(address)
        } else {
            Err(Error::invalid("address must be one that a single host can have."))
        }
    }

    fn is_usable_v4(&self, v4: Ipv4Addr) -> Result<bool> {
        let (network, prefix) = self.session_network;
        let inside = |(network, prefix): (Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            u32::from(v4) & mask == u32::from(network) & mask
        };
        if inside((network, prefix)) {
            return Err(Error::invalid(format!(
                "address must lie outside {network}/{prefix}, which is the sessions' own."
            )));
        }
        let first = u32::from(HOST_NETWORK.0) + 1 >= u32::from(v4) && inside(HOST_NETWORK);
        Ok(no_destination(v4.into()).is_none() && !first)
    }
}

/// A unicast address beyond one link that does not embed an IPv4 address (RFC 4291, section 2.5).
fn is_usable_v6(v6: Ipv6Addr) -> bool {
    no_destination(v6.into()).is_none() && v6.to_ipv4().is_none()
}

/// The file as `wg-quick` reads it. Names are comments there and contain no line breaks.
fn wg_quick(host: &Host, gateway: &GatewayIdentity, preshared_key: &str) -> String {
    let (gateway_address, only) = match host.address {
        IpAddr::V4(_) => (gateway.address, 32),
        IpAddr::V6(_) => (gateway_v6(&gateway.public_key).into(), 128),
    };
    let listen = host
        .endpoint
        .map_or_else(String::new, |endpoint| format!("ListenPort = {}\n", endpoint.port()));
    format!(
        "# {name}: a workspace host of Portcullis. Keep this file to yourself: it holds a key.\n\
         [Interface]\n\
         # The key whose public half is {key}. It stays on this machine: replace the word, or\n\
         # remove the line and write instead:  PostUp = wg set %i private-key /etc/wireguard/%i.key\n\
         PrivateKey = REPLACE_WITH_THE_PRIVATE_KEY\n\
         Address = {address}/{only}\n\
         {listen}\
         MTU = 1420\n\
         \n\
         [Peer]\n\
         # The gateway. It reaches this machine at its address above; this machine reaches only the gateway.\n\
         PublicKey = {gateway_key}\n\
         PresharedKey = {preshared_key}\n\
         Endpoint = {endpoint}\n\
         AllowedIPs = {gateway_address}/{only}\n\
         PersistentKeepalive = {KEEPALIVE}\n",
        name = host.name,
        key = host.public_key,
        address = host.address,
        gateway_key = gateway.public_key,
        endpoint = gateway.endpoint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{OrganizationId, Timestamp};

    #[test]
    fn peer_config_allows_only_the_gateway() {
        let host = Host {
            id: HostId::new(),
            organization_id: OrganizationId::new(),
            kind: HostKind::Peer,
            name: "rack 7".into(),
            public_key: "their-key".into(),
            address: "10.63.0.5".parse().unwrap(),
            endpoint: None,
            version: String::new(),
            enrolled_at: Timestamp(0),
            last_seen_at: None,
            drained_at: None,
        };
        let gateway = GatewayIdentity {
            public_key: "our-key".into(),
            endpoint: "desk.example:51820".into(),
            address: "10.64.0.1".parse().unwrap(),
        };
        let text = wg_quick(&host, &gateway, "shared");
        for line in [
            "Address = 10.63.0.5/32",
            "PublicKey = our-key",
            "PresharedKey = shared",
            "Endpoint = desk.example:51820",
            "AllowedIPs = 10.64.0.1/32",
            "PersistentKeepalive = 25",
            "PrivateKey = REPLACE_WITH_THE_PRIVATE_KEY",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}: {text}");
        }
        assert!(!text.contains("ListenPort"));
        let newer = Host { address: "2001:db8::7".parse().unwrap(), ..host.clone() };
        let text = wg_quick(&newer, &gateway, "shared");
        assert!(text.contains("\nAddress = 2001:db8::7/128\n"), "{text}");
        assert!(
            text.contains(&format!("\nAllowedIPs = {}/128\n", gateway_v6("our-key")))
                && gateway_v6("our-key").is_unique_local(),
            "{text}"
        );
        let called = Host { endpoint: Some("192.0.2.1:51900".parse().unwrap()), ..host };
        assert!(wg_quick(&called, &gateway, "shared").contains("\nListenPort = 51900\n"));
    }
}
