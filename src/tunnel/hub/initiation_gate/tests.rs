//! Tests of the initiation gate.

use super::*;
use boringtun::noise::Tunn;

const FLOOD: &str = "192.0.2.66:1000";

fn addr(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// An initiator that knows our public key.
struct Initiator {
    tunn: Tunn,
    public: PublicKey,
}

impl Initiator {
    fn new(responder: &PrivateKey) -> Self {
        let key = PrivateKey::generate().unwrap();
        Self {
            tunn: Tunn::new(key.secret(), responder.public_key().x25519(), None, None, 1, None),
            public: key.public_key(),
        }
    }

    fn initiation(&mut self) -> [u8; INITIATION_LEN] {
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        <[u8; INITIATION_LEN]>::try_from(&*message).unwrap()
    }

    fn handle_cookie_reply(&mut self, cookie: &[u8]) {
        assert!(
            matches!(self.tunn.decapsulate(None, cookie, &mut [0; 256]), TunnResult::Done),
            "not a cookie reply"
        );
    }
}

struct Outcomes {
    decrypted: Vec<(PublicKey, SocketAddr)>,
    cookies: Vec<(SocketAddr, [u8; COOKIE_REPLY_LEN])>,
}

/// Processes until the queues are empty. No time passes in these tests.
fn process_all(gate: &mut InitiationGate) -> Outcomes {
    let mut outcomes = Outcomes { decrypted: Vec::new(), cookies: Vec::new() };
    while !gate.is_empty() {
        gate.process(gate.epoch, |outcome| match outcome {
            GateOutcome::Decrypted { peer, from, .. } => outcomes.decrypted.push((peer, from)),
            GateOutcome::CookieReply { to, reply } => outcomes.cookies.push((to, reply)),
        });
    }
    outcomes
}

fn gate() -> (InitiationGate, PrivateKey, Arc<Endpoints>) {
    let (endpoints, key) = (Arc::<Endpoints>::default(), PrivateKey::generate().unwrap());
    let mut gate = InitiationGate::new(endpoints.clone(), Arc::default(), Instant::now());
    gate.add_key(&key);
    (gate, key, endpoints)
}

/// Exhausts the limits of one source, cookie replies included.
fn exhaust_limits(gate: &mut InitiationGate, key: &PrivateKey) -> [u8; INITIATION_LEN] {
    let message = Initiator::new(key).initiation();
    for _ in 0..3 {
        (0..QUEUE_MAX.1).for_each(|_| gate.enqueue(addr(FLOOD), &message));
        process_all(gate);
    }
    message
}

#[test]
fn an_unknown_source_at_a_floods_address_is_accepted_with_a_cookie() {
    let (mut gate, key, _) = gate();
    let message = exhaust_limits(&mut gate, &key);
    let mut initiator = Initiator::new(&key);
    let from = addr("192.0.2.66:2000");
    gate.enqueue(from, &initiator.initiation());
    let cookie =
        process_all(&mut gate).cookies.pop().expect("a cookie reply: this port has had none yet");
    assert_eq!(cookie.0, from);
    initiator.handle_cookie_reply(&cookie.1);
    (0..100).for_each(|_| gate.enqueue(addr(FLOOD), &message));
    gate.enqueue(from, &initiator.initiation());
    assert!(process_all(&mut gate).decrypted.contains(&(initiator.public, from)));
    assert!(gate.counters.limited.load(Ordering::Relaxed) > 2000);
}

#[test]
fn a_cookie_is_not_valid_for_another_address() {
    let (mut gate, key, _) = gate();
    exhaust_limits(&mut gate, &key);
    let mut initiator = Initiator::new(&key);
    gate.enqueue(addr("192.0.2.66:2000"), &initiator.initiation());
    initiator.handle_cookie_reply(&process_all(&mut gate).cookies[0].1);
    let message = initiator.initiation();
    // Another address that has exhausted its limits.
    for n in 0..300 {
        gate.enqueue(addr("192.0.2.77:1"), &Initiator::new(&key).initiation());
        if n % 100 == 0 {
            process_all(&mut gate);
        }
    }
    process_all(&mut gate);
    gate.enqueue(addr("192.0.2.77:1"), &message);
    assert!(process_all(&mut gate).decrypted.is_empty());
}

#[test]
fn an_unknown_source_at_another_address_is_not_affected_by_a_flood() {
    let (mut gate, key, _) = gate();
    exhaust_limits(&mut gate, &key);
    let mut initiator = Initiator::new(&key);
    gate.enqueue(addr("198.51.100.1:1"), &initiator.initiation());
    assert_eq!(process_all(&mut gate).decrypted, [(initiator.public, addr("198.51.100.1:1"))]);
}

#[test]
fn a_known_source_goes_first_and_needs_no_cookie() {
    let (mut gate, key, endpoints) = gate();
    let known = addr("192.0.2.66:3000");
    endpoints.update(None, Some(known));
    let message = exhaust_limits(&mut gate, &key);
    (0..QUEUE_MAX.1).for_each(|_| gate.enqueue(addr(FLOOD), &message));
    let mut initiator = Initiator::new(&key);
    gate.enqueue(known, &initiator.initiation());
    let mut first = None;
    gate.process(gate.epoch, |outcome| {
        if let GateOutcome::Decrypted { peer, .. } = outcome {
            first.get_or_insert(peer);
        }
    });
    assert_eq!(first, Some(initiator.public));
    assert!(!gate.is_empty(), "the flood is still queued");
    // An address is known only while a tunnel's peer has it.
    endpoints.update(Some(known), None);
    process_all(&mut gate);
    gate.enqueue(known, &initiator.initiation());
    assert!(process_all(&mut gate).decrypted.is_empty());
}

#[test]
fn messages_with_a_wrong_mac1_use_up_no_limit() {
    let (mut gate, key, _) = gate();
    for _ in 0..3 {
        (0..QUEUE_MAX.1).for_each(|_| gate.enqueue(addr(FLOOD), &[1; INITIATION_LEN]));
        process_all(&mut gate);
    }
    let mut initiator = Initiator::new(&key);
    gate.enqueue(addr(FLOOD), &initiator.initiation());
    assert_eq!(process_all(&mut gate).decrypted, [(initiator.public, addr(FLOOD))]);
    assert_eq!(gate.counters.unknown.load(Ordering::Relaxed), 3 * QUEUE_MAX.1 as u64);
}
