//! The practice cloud: one address that plays every provider as its documents say, keeps a charging ledger and
//! fails on demand.
//!
//! ```text
//! http ──► admin                                  the person or test at the controls
//!   ├────► metadata                              what a machine with a role asks for its keys
//!   ├────► tencentcloud ─┐                        signature and parameters
//!   ├────► volcengine ───┤
//!   └────────────────────┴─► desk ──► pace, faults, world    then quota, then fault, then the act
//! ```
//!
//! A provider's folder turns bytes into calls on the [`world::World`] and back; a further provider is a further folder
//! and one arm in `http`.
//!
//! Invariant: [`world`] reads no clock and knows no HTTP.
//! Invariant: every charge is in the ledger before its answer is made, so a spoilt answer never hides one.

pub mod faults;
pub mod instance;
pub mod pace;
pub mod seed;
pub mod tencentcloud;
pub mod tokens;
pub mod volcengine;
pub mod world;

mod admin;
mod delivery;
mod desk;
mod http;
mod metadata;
mod replays;
mod roles;
mod upgrade;
mod yuan;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::cloud::canonical::sha256_hex;
use crate::domain::money::Fen;
use crate::sandbox::faults::{Fault, FaultQueue};
use crate::sandbox::instance::{Family, Instance, InstanceChange, UnknownProduct};
use crate::sandbox::pace::{ApiCount, Counters, Pace};
use crate::sandbox::replays::Replays;
pub use crate::sandbox::roles::Role;
use crate::sandbox::roles::Roles;
use crate::sandbox::seed::Seed;
use crate::sandbox::world::{Charge, World};

/// The secret of every key id the practice cloud knows.
pub const SECRET_KEY: &str = "sandbox-secret-key";
/// Every Tencent key id that begins so is an account of its own.
pub const TENCENT_KEY_PREFIX: &str = "AKIDsandbox";
/// Every Volcengine key id that begins so is an account of its own.
pub const VOLCENGINE_KEY_PREFIX: &str = "AKLTsandbox";

pub struct Options {
    /// Port 0 takes a free one; [`Running::address`] says which.
    pub listen: SocketAddr,
    pub seed: Option<Seed>,
    /// Decides expiries, the signature window and the quota windows. Waits of `stall` faults are real time.
    pub clock: Arc<dyn Clock>,
}

/// A practice cloud that answers. Dropping it ends it as [`Running::stop`] does, without waiting.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

/// All that the practice cloud remembers.
pub(crate) struct Memory {
    pub world: World,
    pub faults: FaultQueue,
    pub pace: Pace,
    pub counters: Counters,
    pub request_ids: RequestIds,
    pub replays: Replays,
    pub roles: Roles,
}

/// Differ from one life of the practice cloud to the next, and repeat when the clock does.
pub(crate) struct RequestIds {
    stem: String,
    given: u64,
}

/// Binds and begins to answer.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(options: Options) -> io::Result<Running> {
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared::new(options.seed.unwrap_or_default(), options.clock));
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(http::serve(listener, Arc::clone(&shared), stopped));
    Ok(Running { address, shared, stop, server })
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an account's `endpoint` setting takes.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The charges that took effect, oldest first.
    pub fn ledger(&self) -> Vec<Charge> {
        self.shared.lock().world.ledger().to_vec()
    }

    /// Calls so far, by API.
    pub fn requests(&self) -> BTreeMap<String, ApiCount> {
        self.shared.lock().counters.snapshot()
    }

    /// Queues faults behind those that still wait.
    pub fn inject(&self, faults: Vec<Fault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// Takes back the faults that still wait.
    pub fn forget_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Changes an instance, or makes it when there is none of that id.
    ///
    /// # Errors
    /// When there is none and the id does not tell of which product one should be made.
    pub fn set_instance(&self, id: &str, change: InstanceChange) -> Result<(), UnknownProduct> {
        let now = self.shared.clock.now();
        self.shared.lock().world.set_instance(id, change, now).map(|_| ())
    }

    /// As it is, whatever readers still see.
    pub fn instance(&self, id: &str) -> Option<Instance> {
        let family = Family::of_id(id).ok()?;
        self.shared.lock().world.instance(family, id).cloned()
    }

    pub fn set_balance(&self, key_id: &str, balance: Fen) {
        self.shared.lock().world.set_balance(key_id, balance);
    }

    /// What the machine's role is from now on; keys that were handed out stay as they are.
    pub fn set_role(&self, role: Role) {
        self.shared.lock().roles.role = role;
    }

    /// Ends all temporary keys handed out so far.
    pub fn revoke_role_keys(&self) {
        self.shared.lock().roles.revoke();
    }

    /// Adds instances; one of the same id is replaced.
    pub fn add_instances(&self, instances: impl IntoIterator<Item = Instance>) {
        self.shared.lock().world.add_instances(instances);
    }

    /// Closes the address and cuts every connection, answered or not.
    pub async fn stop(self) {
        drop(self.stop);
        // The server ends by its own loop; a panic in it has nobody left to serve.
        let _ = self.server.await;
    }
}

impl Shared {
    fn new(seed: Seed, clock: Arc<dyn Clock>) -> Shared {
        let now = clock.now();
        let mut world = World::new(now);
        world.add_instances(seed.instances(now));
        for (key_id, balance) in seed.balances() {
            world.set_balance(key_id, balance);
        }
        let mut faults = FaultQueue::default();
        faults.extend(seed.into_faults());
        let memory = Memory {
            world,
            faults,
            pace: Pace::default(),
            counters: Counters::default(),
            request_ids: RequestIds { stem: now.to_string(), given: 0 },
            replays: Replays::default(),
            roles: Roles::new(&now.to_string()),
        };
        Shared { clock, memory: Mutex::new(memory) }
    }

    /// A panic elsewhere leaves the state as it was between two statements: still the best there is to show.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestIds {
    /// In the shape of a random UUID.
    fn next(&mut self) -> String {
        self.given += 1;
        let hash = sha256_hex(format!("{} {}", self.stem, self.given).as_bytes());
        format!("{}-{}-4{}-a{}-{}", &hash[..8], &hash[8..12], &hash[12..15], &hash[15..18], &hash[18..30])
    }
}
