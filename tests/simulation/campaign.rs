//! Lists by the hundred: drawn from seeds, played, and made small when one breaks a promise.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::fleet::policies;
use crate::life::Broken;
use crate::operation::{Operation, draw};
use crate::play::play;
use crate::stage::Stage;

const THREADS: usize = 2;
const LISTS_A_LINE: u64 = 1000;
/// Without an order for more, or for a time.
const DEFAULT_LISTS: u64 = 200;
const FIRST_SEED: u64 = 1;
/// Of real time: no list takes a tenth of it on a machine that has nothing else to do.
const LIST_LONGEST: Duration = Duration::from_secs(40);
/// Of a campaign that goes on for hours beside other work.
const LIST_LONGEST_OF_MANY: Duration = Duration::from_secs(900);

#[test]
fn no_list_of_mishaps_breaks_a_promise() {
    if let Some(seed) = number("RENEWD_SIM_SEED") {
        let list = draw(seed);
        eprintln!("{}", told(&list));
        if let Err(broken) = run(seed, &list) {
            panic!("{}", complaint(seed, &list, &broken));
        }
        return;
    }
    let time = number("RENEWD_SIM_SECONDS").map(Duration::from_secs);
    let lists = number("RENEWD_SIM_LISTS").unwrap_or(DEFAULT_LISTS);
    let first = number("RENEWD_SIM_FIRST").unwrap_or(FIRST_SEED);
    let begun = Instant::now();
    let (next, played) = (AtomicU64::new(first), AtomicU64::new(0));
    let sum = Mutex::new(Tally::default());
    let broken: Mutex<Vec<(u64, Broken)>> = Mutex::new(Vec::new());
    let is_to_be_played = |seed| match time {
        Some(time) => begun.elapsed() < time,
        None => seed < first + lists,
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (next, played, sum, broken, is_to_be_played) =
                (&next, &played, &sum, &broken, &is_to_be_played);
            scope.spawn(move || {
                stay_on_one_core(thread);
                while broken.lock().unwrap().len() < 3 {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if !is_to_be_played(seed) {
                        break;
                    }
                    match run(seed, &draw(seed)) {
                        Ok(tally) => sum.lock().unwrap().add(tally),
                        Err(what) => {
                            eprintln!("seed {seed}: {what}");
                            broken.lock().unwrap().push((seed, what));
                        }
                    }
                    let so_far = played.fetch_add(1, Ordering::SeqCst) + 1;
                    if so_far.is_multiple_of(LISTS_A_LINE) {
                        eprintln!("{so_far} lists in {:.0?}", begun.elapsed());
                    }
                }
            });
        }
    });
    let (played, seconds) = (played.into_inner(), begun.elapsed().as_secs_f64());
    let sum = sum.into_inner().unwrap();
    eprintln!("{played} lists in {seconds:.1} s: {sum:?}");
    let broken = broken.into_inner().unwrap();
    let complaints: Vec<String> =
        broken.iter().map(|(seed, what)| complaint(*seed, &draw(*seed), what)).collect();
    assert!(broken.is_empty(), "{}", complaints.join("\n\n"));
    assert!(sum.charges > 0 && sum.doubtful > 0, "nothing happened: {sum:?}");
}

/// Each statement hops to SQLite's thread and back: over two cores most of the time goes by waking them up. Threads
/// that are begun from here on stay there as well. Where it is not allowed, lists are slower.
pub fn stay_on_one_core(number: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(core) = cores.get(number % cores.len().max(1)) else { return };
    let mut only = CpuSet::new();
    only.set(*core);
    let _ = sched_setaffinity(None, &only);
}

/// What happened in a list: figures that are all zero would prove nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub operations: usize,
    pub charges: usize,
    pub orders: usize,
    /// Orders of which nobody could say for a while whether they were charged.
    pub doubtful: usize,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.operations += other.operations;
        self.charges += other.charges;
        self.orders += other.orders;
        self.doubtful += other.doubtful;
    }
}

/// Plays a list to its end and through the calm after it.
pub fn run(seed: u64, list: &[Operation]) -> Result<Tally, Broken> {
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let longest =
                if number("RENEWD_SIM_LISTS").is_some() { LIST_LONGEST_OF_MANY } else { LIST_LONGEST };
            let story = tokio::time::timeout(longest, story(seed, list));
            story.await.unwrap_or_else(|_| Err(format!("the list does not end in {longest:?}")))
        })
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("a panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without words")))
    })
}

async fn story(seed: u64, list: &[Operation]) -> Result<Tally, Broken> {
    let mut stage = Stage::open(seed, policies()).await?;
    for (at, operation) in list.iter().enumerate() {
        let at_operation = |broken: Broken| format!("at operation {} {operation:?}: {broken}", at + 1);
        play(&mut stage, operation).await.map_err(at_operation)?;
    }
    // What the last operation queued is taken up before the books are closed.
    let closed = async {
        stage.turn(true).await?;
        stage.check_books().await
    };
    closed.await.map_err(|broken| format!("after the list: {broken}"))?;
    stage.calm(policies()).await.map_err(|broken| format!("in the calm after it: {broken}"))?;
    let (orders, doubtful) = stage.count_orders().await?;
    Ok(Tally { operations: list.len(), charges: stage.cloud.ledger().len(), orders, doubtful })
}

/// Leaves out whatever it breaks without.
fn shrink(seed: u64, list: &[Operation]) -> (Vec<Operation>, Option<Broken>) {
    let deadline = Instant::now() + LIST_LONGEST;
    let (mut list, mut found) = (list.to_vec(), None);
    let mut at = list.len();
    while at > 0 && Instant::now() < deadline {
        at -= 1;
        let mut shorter = list.clone();
        shorter.remove(at);
        if let Err(broken) = run(seed, &shorter) {
            (list, found) = (shorter, Some(broken));
            at = at.min(list.len());
        }
    }
    (list, found)
}

fn complaint(seed: u64, list: &[Operation], broken: &str) -> String {
    let (small, what) = shrink(seed, list);
    format!(
        "seed {seed} (again by RENEWD_SIM_SEED={seed}) breaks a promise: {broken}\nthe same in short: {}\n{}",
        what.as_deref().unwrap_or("not shrunk"),
        told(&small)
    )
}

fn told(list: &[Operation]) -> String {
    let lines: Vec<String> = list.iter().map(|operation| format!("    {operation:?},")).collect();
    format!("[\n{}\n]", lines.join("\n"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
