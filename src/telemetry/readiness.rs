//! Whether the service can do its work: its database takes changes, and its scheduler looks for what is due.

use std::sync::Arc;
use std::time::Duration;

use super::http::Answer;
use crate::engine::Engine;

/// Schedules are looked at each second, and runs of a firing queued in chunks of far less than this.
pub const TICK_MAX: Duration = Duration::from_secs(15);
/// A change of ours waits no longer than this for the database.
const PROOF_MAX: Duration = Duration::from_secs(3);
/// A proof is a small commit: whoever asks in between gets the answer of the last.
const GOOD_FOR: Duration = Duration::from_secs(1);

pub(super) struct Readiness {
    engine: Arc<Engine>,
}

/// Why not, in words.
pub(super) type Ready = Result<(), String>;

impl Readiness {
    pub(super) fn new(engine: Arc<Engine>) -> Readiness {
        Readiness { engine }
    }

    async fn judge(&self) -> Ready {
        if self.engine.is_stopping() {
            return Err("the service is stopping".to_owned());
        }
        match self.engine.since_tick() {
            None => return Err("the scheduler has not looked for due policies yet".to_owned()),
            Some(since) if since > TICK_MAX => {
                return Err(format!(
                    "the scheduler has not looked for due policies for {} s",
                    since.as_secs()
                ));
            }
            Some(_) => {}
        }
        match tokio::time::timeout(PROOF_MAX, self.engine.store.prove_writable()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the database has not taken a change for {} s", PROOF_MAX.as_secs())),
        }
    }
}

impl Answer for Readiness {
    type Value = Ready;

    async fn work_out(&mut self) -> (Ready, Duration) {
        (self.judge().await, GOOD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scheduler_that_has_not_looked_yet_or_not_for_long_is_not_ready_and_neither_is_a_stop() {
        let folder = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let (engine, clock, _lock) = Engine::alone(folder.path()).await;
        let readiness = Readiness::new(Arc::clone(&engine));

        let why = async || readiness.judge().await.unwrap_err();
        assert!(why().await.contains("has not looked for due policies yet"));
        engine.fire_due().await.unwrap();
        clock.advance(TICK_MAX);
        assert_eq!(readiness.judge().await, Ok(()));
        clock.advance(second);
        assert!(why().await.contains("has not looked for due policies for 16 s"));
        engine.fire_due().await.unwrap();
        assert_eq!(readiness.judge().await, Ok(()));

        engine.store.close().await;
        assert!(why().await.contains("writer has stopped"));
        engine.stop_reading();
        assert_eq!(why().await, "the service is stopping");
    }
}
