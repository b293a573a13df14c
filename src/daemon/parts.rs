//! The loops of a running service: those of the whole, and a keeper, a lane and a
//! reconcile for each account, which come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch as channel;
use tokio::task::JoinSet;

use super::clockwork::Clockwork;
use super::supervisor::Pulse;
use crate::domain::product::AccountName;
use crate::engine::{Account, Engine, Keeper, Lane, MinuteWatch, Reconcile, SecondWatch, Ticker};

pub(super) struct Parts {
    engine: Arc<Engine>,
    pub(super) clockwork: Clockwork,
    /// Each answers whether it was told to end.
    tasks: JoinSet<bool>,
    whole: Stop,
    accounts: BTreeMap<AccountName, Stop>,
    /// Of accounts that left; the last answers may still be on their way.
    leaving: BTreeMap<AccountName, Stop>,
}

/// Tells parts to end; closed once they have.
type Stop = channel::Sender<bool>;

impl Parts {
    pub(super) fn start(engine: &Arc<Engine>, clockwork: Clockwork) -> Parts {
        let whole = Stop::new(false);
        let mut parts = Parts {
            engine: Arc::clone(engine),
            clockwork,
            tasks: JoinSet::new(),
            whole: whole.clone(),
            accounts: BTreeMap::new(),
            leaving: BTreeMap::new(),
        };
        let (second, other_second) = (parts.clockwork.each_second(), parts.clockwork.each_second());
        let minute = parts.clockwork.each_minute();
        parts.spawn(&whole, None, |stop| Ticker::new(Arc::clone(engine)).run(stop, second));
        parts.spawn(&whole, None, |stop| SecondWatch::new(Arc::clone(engine)).run(stop, other_second));
        parts.spawn(&whole, None, |stop| MinuteWatch::new(Arc::clone(engine)).run(stop, minute));
        for account in engine.accounts().values() {
            parts.begin(account);
        }
        parts
    }

    /// For a service that somebody supervises.
    pub(super) fn tell_supervisor(&mut self) {
        let (pulse, second) = (Pulse::new(Arc::clone(&self.engine)), self.clockwork.each_second());
        let whole = self.whole.clone();
        self.spawn(&whole, None, |stop| pulse.run(stop, second));
    }

    /// An account comes. Where one of its name is still leaving, its work begins when that one's has ended.
    pub(super) fn begin(&mut self, account: &Arc<Account>) {
        let stop = Stop::new(false);
        let before = self.leaving.remove(&account.name);
        let work = || (Arc::clone(&self.engine), Arc::clone(account));
        let (engine, of_lane) = work();
        let lane = Lane::new(engine, of_lane);
        let (engine, of_reconcile) = work();
        let reconcile = Reconcile::new(engine, of_reconcile);
        let (engine, of_keeper) = work();
        let keeper = Keeper::new(engine, of_keeper);
        let (tick, other_tick) = (self.clockwork.each_second(), self.clockwork.each_second());
        self.spawn(&stop, before.clone(), |stop| keeper.run(stop, other_tick));
        self.spawn(&stop, before.clone(), |stop| lane.run(stop));
        self.spawn(&stop, before, |stop| reconcile.run(stop, tick));
        self.accounts.insert(account.name.clone(), stop);
    }

    /// An account leaves: what it has in hand is given back, what is being sent is recorded.
    pub(super) fn end(&mut self, account: &AccountName) {
        self.leaving.retain(|_, stop| !stop.is_closed());
        if let Some(stop) = self.accounts.remove(account) {
            stop.send_replace(true);
            self.leaving.insert(account.clone(), stop);
        }
    }

    fn spawn<F>(&mut self, stop: &Stop, before: Option<Stop>, part: impl FnOnce(channel::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (work, told) = (part(stop.subscribe()), stop.subscribe());
        self.tasks.spawn(async move {
            if let Some(before) = before {
                before.closed().await;
            }
            work.await;
            *told.borrow()
        });
    }

    /// Waits for a part that ends without being told to: only a defect does that. Going on without it would look
    /// healthy while an account's orders stand still. Answers what is known of it.
    pub(super) async fn broken(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return "it returned".to_owned(),
                Some(Err(error)) => return error.to_string(),
                None => std::future::pending().await,
            }
        }
    }

    /// Tells all to end, and the clockwork that wakes them.
    pub(super) async fn stop(&mut self) {
        for stop in std::iter::once(&self.whole).chain(self.accounts.values()) {
            stop.send_replace(true);
        }
        self.clockwork.stop().await;
    }

    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
