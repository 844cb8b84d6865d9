//! Initiations from known and unknown sources, genuine, replayed and damaged, in any order and at
//! any rate: what the gate accepts is genuine and within its limits, and nothing is unaccounted for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};

use super::counters::Counters;
use super::endpoints::Endpoints;
use super::initiation_gate::{GateOutcome, INITIATION_LEN, InitiationGate};
use crate::tunnel::keys::{PrivateKey, PublicKey};
use crate::tunnel::packets::Choices;

const INITIATORS: usize = 6;
/// Of a message, what its mac1 covers, and mac1: the rest is mac2.
const AUTHENTICATED: usize = 132;
/// At most so many cookie replies, and initiations decrypted, in one call.
const REPLIES_PER_CALL: usize = 8;
const DECRYPTED_PER_CALL: usize = 1;

type Message = [u8; INITIATION_LEN];

struct Initiator {
    tunn: Tunn,
    public: PublicKey,
    message: Message,
}

impl Initiator {
    fn new(responder: &PrivateKey) -> Self {
        let key = PrivateKey::generate().expect("randomness");
        let tunn = Tunn::new(key.secret(), responder.public_key().x25519(), None, None, 1, None);
        let mut initiator = Self { tunn, public: key.public_key(), message: [0; INITIATION_LEN] };
        initiator.renew();
        initiator
    }

    fn renew(&mut self) {
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        self.message.copy_from_slice(message);
    }
}

/// Kept between runs, since keys and messages take long to make.
struct Pool {
    key: PrivateKey,
    initiators: Vec<Initiator>,
    /// The senders of all genuine messages, by what mac1 covers.
    genuine: HashMap<Vec<u8>, PublicKey>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool::new());
}

impl Pool {
    fn new() -> Self {
        let key = PrivateKey::generate().expect("randomness");
        let initiators: Vec<_> = (0..INITIATORS).map(|_| Initiator::new(&key)).collect();
        let mut pool = Self { key, initiators, genuine: HashMap::new() };
        (0..INITIATORS).for_each(|n| pool.record(n));
        pool
    }

    fn record(&mut self, n: usize) {
        let Initiator { public, message, .. } = &self.initiators[n];
        self.genuine.insert(message[..AUTHENTICATED].to_vec(), *public);
    }
}

fn address(choice: u8) -> SocketAddr {
    let ip: IpAddr = match choice >> 2 & 3 {
        0 => [192, 0, 2, choice >> 4].into(),
        1 => [198, 51, 100, choice >> 4].into(),
        2 => [0x2001, 0xdb8, 0, u16::from(choice >> 6), 0, 0, 0, u16::from(choice >> 4)].into(),
        _ => [192, 0, 2, 1].into(),
    };
    (ip, 1000 + u16::from(choice & 3)).into()
}

/// An address, or its /64.
fn prefix(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    }
}

#[derive(Default)]
struct Seen {
    enqueued: u64,
    decrypted: u64,
    decrypted_unknown: u64,
    by_prefix: HashMap<Vec<u8>, u64>,
    replies: u64,
    by_address: HashMap<SocketAddr, u64>,
}

pub fn run(input: &[u8]) {
    POOL.with_borrow_mut(|pool| play(pool, &mut Choices(input)));
}

fn play(pool: &mut Pool, choices: &mut Choices<'_>) {
    let began = Instant::now();
    let (endpoints, counters) = (Arc::<Endpoints>::default(), Arc::<Counters>::default());
    let mut gate = InitiationGate::new(endpoints.clone(), counters.clone(), began);
    gate.add_key(&pool.key);
    let (mut known, mut ever_known) = (Vec::<SocketAddr>::new(), Vec::new());
    let (mut now, mut seen) = (began, Seen::default());
    while !choices.is_empty() {
        match choices.byte() % 8 {
            0..=2 => {
                let (from, n) = (address(choices.byte()), usize::from(choices.byte()) % INITIATORS);
                let mut message = pool.initiators[n].message;
                let damage = choices.word();
                if damage & 0x8000 != 0 {
                    let bit = usize::from(damage & 0x7fff) % (INITIATION_LEN * 8);
                    message[bit / 8] ^= 1 << (bit % 8);
                }
                for _ in 0..=choices.byte() % 64 {
                    gate.enqueue(from, &message);
                    seen.enqueued += 1;
                }
            }
            3 | 4 => {
                now += Duration::from_millis(u64::from(choices.byte()));
                let calls = choices.byte() % 32;
                (0..calls).for_each(|_| process(pool, &mut gate, now, &ever_known, &mut seen));
            }
            5 => {
                let at = address(choices.byte());
                endpoints.update(None, Some(at));
                known.push(at);
                ever_known.push(at);
            }
            6 => {
                if let Some(at) = known.pop() {
                    endpoints.update(Some(at), None);
                }
            }
            _ => {
                // Renewed messages carry the cookie that the initiator has got, if any.
                let n = usize::from(choices.byte()) % INITIATORS;
                pool.initiators[n].renew();
                pool.record(n);
            }
        }
        let elapsed = now.duration_since(began).as_secs() + 1;
        assert!(seen.replies <= 1000 + 10_000 * elapsed);
        assert!(seen.by_address.values().all(|&count| count <= 5 + 5 * elapsed));
        assert!(seen.decrypted_unknown <= 500 + 200 + 1000 * elapsed);
        assert!(seen.by_prefix.values().all(|&count| count <= 300 + 300 * elapsed));
    }
    while !gate.is_empty() {
        process(pool, &mut gate, now, &ever_known, &mut seen);
    }
    let counted = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(seen.replies, counted(&counters.cookies));
    assert_eq!(
        seen.enqueued,
        seen.decrypted + seen.replies + counted(&counters.limited) + counted(&counters.unknown)
    );
    // A key that no tunnel uses any more decrypts nothing.
    gate.remove_key(&pool.key.public_key());
    gate.enqueue(address(0), &pool.initiators[0].message);
    gate.process(now, |_| panic!("there is no key"));
    if pool.genuine.len() > 4096 {
        *pool = Pool::new();
    }
}

fn process(
    pool: &mut Pool,
    gate: &mut InitiationGate,
    now: Instant,
    ever_known: &[SocketAddr],
    seen: &mut Seen,
) {
    let (mut decrypted, mut replies) = (0, Vec::new());
    gate.process(now, |outcome| match outcome {
        GateOutcome::Decrypted { own, peer, from, message } => {
            decrypted += 1;
            assert_eq!(own, pool.key.public_key());
            assert_eq!(pool.genuine.get(&message[..AUTHENTICATED]), Some(&peer), "a forgery");
            seen.decrypted += 1;
            if !ever_known.contains(&from) {
                seen.decrypted_unknown += 1;
                *seen.by_prefix.entry(prefix(from.ip())).or_default() += 1;
            }
        }
        GateOutcome::CookieReply { to, reply } => {
            seen.replies += 1;
            *seen.by_address.entry(to).or_default() += 1;
            replies.push(reply);
        }
    });
    assert!(decrypted <= DECRYPTED_PER_CALL && replies.len() <= REPLIES_PER_CALL);
    for reply in replies {
        // Only its addressee can use it; for the others it is not authentic.
        for initiator in &mut pool.initiators {
            let _ = initiator.tunn.decapsulate(None, &reply, &mut [0; 256]);
        }
    }
}
