//! Which connections occupy a pool's slots, by client, and which one is closed for another.
//!
//! When a client has as many as one may, its own oldest idle connection is closed for its next one.
//! When the pool is full, the oldest idle connection of the client that has most is. Where all of
//! that client's are in use, the next client's are looked at, and then the oldest connection on
//! which nobody has authenticated. Nobody is closed for a client that has as many.

use super::client::Client;
use super::connection::{ClientShare, Connection};
use super::metrics::CloseReason;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Clients that are looked at for a connection to close.
const SEARCH_MAX: usize = 64;

/// Limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct PoolLimits {
    /// Slots.
    pub(in crate::http) total: usize,
    /// Slots of one client, unless it is a proxy.
    pub(in crate::http) per_client: usize,
    /// Slots that only known clients get.
    pub(in crate::http) reserved: usize,
}

/// Whether a client is known, as of its latest connection or request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Unknown,
    Known,
}

#[derive(Debug)]
struct ClientConnections {
    class: Class,
    /// The number of its first connection.
    since: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
    share: Arc<ClientShare>,
}

impl ClientConnections {
    fn key(&self, client: Client) -> ByCount {
        (self.by_number.len(), Reverse(self.since), client)
    }

    /// The connection to close for another. `in_use`: of those that are not idle.
    fn candidate(&self, in_use: bool) -> Option<u64> {
        let rank = |connection: &Connection| match (connection.idle_since(), in_use) {
            (Some(since), false) => Some(since),
            (None, true) if !connection.is_authenticated.load(Ordering::Acquire) => {
                Some(connection.opened_at)
            }
            _ => None,
        };
        let ranked = self.by_number.iter().filter_map(|(number, c)| Some((rank(c)?, *number)));
        ranked.min().map(|(_, number)| number)
    }
}

/// The last is the client with most connections, of several the one that came first.
type ByCount = (usize, Reverse<u64>, Client);

#[derive(Debug, Default)]
struct OfClass {
    connections: usize,
    clients: BTreeSet<ByCount>,
}

/// A connection that is to close.
#[derive(Debug)]
pub(super) struct Eviction {
    pub(super) connection: Arc<Connection>,
    pub(super) reason: CloseReason,
}

/// A connection that got a slot.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
    /// The one that is closed for it.
    pub(super) evicted: Option<Eviction>,
}

/// The connections of a pool.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    next: u64,
    by_client: HashMap<Client, ClientConnections>,
    unknown: OfClass,
    known: OfClass,
}

impl Occupancy {
    pub(super) fn len(&self) -> usize {
        self.unknown.connections + self.known.connections
    }

    /// Gives a new connection of a client a slot.
    ///
    /// # Errors
    /// The limit that leaves none.
    pub(super) fn insert(
        &mut self,
        client: Client,
        is_known: bool,
        limits: PoolLimits,
        now: u64,
    ) -> Result<Accepted, CloseReason> {
        self.set_known(client, is_known);
        let class = if is_known { Class::Known } else { Class::Unknown };
        let victim = self.find_victim(client, class, limits)?;
        let evicted = victim.and_then(|(client, number, reason)| {
            self.remove(client, number).map(|connection| Eviction { connection, reason })
        });
        let number = self.next;
        self.next += 1;
        let connection = self.update(client, class, |connections| {
            let share = Arc::clone(&connections.share);
            let connection = Arc::new(Connection::new(client, share, now));
            connections.by_number.insert(number, Arc::clone(&connection));
            connection
        });
        Ok(Accepted { number, connection, evicted })
    }

    /// Removes a connection, unless it was closed for another.
    pub(super) fn remove(&mut self, client: Client, number: u64) -> Option<Arc<Connection>> {
        let class = self.by_client.get(&client)?.class;
        self.update(client, class, |connections| connections.by_number.remove(&number))
    }

    /// Moves a client to the known or unknown ones.
    pub(super) fn set_known(&mut self, client: Client, is_known: bool) {
        let class = if is_known { Class::Known } else { Class::Unknown };
        if self.by_client.get(&client).is_some_and(|connections| connections.class != class) {
            self.update(client, class, |_| ());
        }
    }

    /// Changes a client's connections; keeps the counts.
    fn update<T>(
        &mut self,
        client: Client,
        class: Class,
        change: impl FnOnce(&mut ClientConnections) -> T,
    ) -> T {
        let next = self.next;
        let connections = self.by_client.entry(client).or_insert_with(|| ClientConnections {
            class,
            since: next,
            by_number: BTreeMap::new(),
            share: Arc::default(),
        });
        let (before, before_key) = (connections.class, connections.key(client));
        let result = change(connections);
        connections.class = class;
        let after_key = connections.key(client);
        let of_class = self.of_class(before);
        of_class.clients.remove(&before_key);
        of_class.connections -= before_key.0;
        let of_class = self.of_class(class);
        of_class.connections += after_key.0;
        if after_key.0 == 0 {
            self.by_client.remove(&client);
        } else {
            of_class.clients.insert(after_key);
        }
        result
    }

    fn of_class(&mut self, class: Class) -> &mut OfClass {
        match class {
            Class::Unknown => &mut self.unknown,
            Class::Known => &mut self.known,
        }
    }

    /// The connection to close for a new one; `None`: there is a free slot.
    fn find_victim(
        &self,
        client: Client,
        class: Class,
        limits: PoolLimits,
    ) -> Result<Option<(Client, u64, CloseReason)>, CloseReason> {
        let own = self.by_client.get(&client);
        let own_count = own.map_or(0, |connections| connections.by_number.len());
        if let (Client::Network(_), Some(own)) = (client, own)
            && own_count >= limits.per_client
        {
            let reason = CloseReason::ClientLimit;
            let number = own.candidate(false).or_else(|| own.candidate(true)).ok_or(reason)?;
            return Ok(Some((client, number, reason)));
        }
        let is_full = self.len() >= limits.total;
        let unknown_max = limits.total.saturating_sub(limits.reserved);
        let unknown_full = class == Class::Unknown && self.unknown.connections >= unknown_max;
        if !is_full && !unknown_full {
            return Ok(None);
        }
        let classes: &[&OfClass] =
            if unknown_full { &[&self.unknown] } else { &[&self.unknown, &self.known] };
        for in_use in [false, true] {
            for of_class in classes {
                let most = of_class.clients.iter().rev().take(SEARCH_MAX);
                let larger =
                    most.take_while(|(count, _, other)| *count > own_count || *other == client);
                for (_, _, other) in larger {
                    let connections = self.by_client.get(other);
                    if let Some(number) = connections.and_then(|c| c.candidate(in_use)) {
                        return Ok(Some((*other, number, CloseReason::Full)));
                    }
                }
            }
        }
        Err(CloseReason::Full)
    }
}

#[cfg(test)]
mod tests;
