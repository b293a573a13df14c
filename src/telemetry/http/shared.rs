//! An answer that many ask for and one works out: who asks while it is worked on, or within the moment that it is good
//! for, gets the same one. However many ask, the work behind it is done once a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;

/// Works out an answer.
pub(in crate::telemetry) trait Answer: Send + 'static {
    type Value: Clone + Send + 'static;

    /// The answer, and how long it is good for.
    fn work_out(&mut self) -> impl Future<Output = (Self::Value, Duration)> + Send;
}

pub(in crate::telemetry) struct Shared<V> {
    askers: mpsc::Sender<oneshot::Sender<V>>,
}

impl<V> Clone for Shared<V> {
    fn clone(&self) -> Shared<V> {
        Shared { askers: self.askers.clone() }
    }
}

/// More of them wait outside.
const ASKERS_MAX: usize = 256;

impl<V: Clone + Send + 'static> Shared<V> {
    /// On a task of its own, which ends with the last who can ask.
    pub(in crate::telemetry) fn start(answer: impl Answer<Value = V>, clock: Arc<dyn Clock>) -> Shared<V> {
        let (askers, inbox) = mpsc::channel(ASKERS_MAX);
        tokio::spawn(serve(answer, inbox, clock));
        Shared { askers }
    }

    /// None when it could not be worked out: only a defect does that.
    pub(in crate::telemetry) async fn ask(&self) -> Option<V> {
        let (asker, answer) = oneshot::channel();
        self.askers.send(asker).await.ok()?;
        answer.await.ok()
    }
}

async fn serve<A: Answer>(
    mut answer: A,
    mut inbox: mpsc::Receiver<oneshot::Sender<A::Value>>,
    clock: Arc<dyn Clock>,
) {
    let mut asking = Vec::new();
    let mut kept: Option<(A::Value, Duration)> = None;
    while inbox.recv_many(&mut asking, ASKERS_MAX).await > 0 {
        let value = match &kept {
            Some((value, until)) if clock.monotonic() < *until => value.clone(),
            _ => {
                let (value, good_for) = answer.work_out().await;
                kept = Some((value.clone(), clock.monotonic() + good_for));
                value
            }
        };
        for asker in asking.drain(..) {
            // One that no longer waits has gone away.
            let _ = asker.send(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    struct Counting(u32);

    impl Answer for Counting {
        type Value = u32;

        async fn work_out(&mut self) -> (u32, Duration) {
            self.0 += 1;
            tokio::task::yield_now().await;
            (self.0, Duration::from_secs(2))
        }
    }

    #[tokio::test]
    async fn who_asks_together_or_within_the_moment_gets_the_same_answer_and_later_a_new_one() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let shared = Shared::start(Counting(0), clock.clone());
        let ask = || {
            let shared = shared.clone();
            tokio::spawn(async move { shared.ask().await })
        };
        let together: Vec<_> = (0..1000).map(|_| ask()).collect();
        for asked in together {
            assert_eq!(asked.await.unwrap(), Some(1));
        }
        clock.advance(Duration::from_millis(1999));
        assert_eq!(ask().await.unwrap(), Some(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(ask().await.unwrap(), Some(2));
    }
}
