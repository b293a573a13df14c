//! What can happen in a list, and how lists are drawn from a seed.

use std::time::Duration;

use fastrand::Rng;
use renewd::sandbox::faults::{Effect, Spoilt};
use renewd::sandbox::instance::State;

use crate::fleet::{ACCOUNTS, INSTANCES, SCHEDULES};

/// Numbers choose among what there is when the operation comes: a shrunk list stays a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Time passes and the daemon works.
    Advance {
        seconds: u64,
    },
    /// Time passes and the daemon does not run.
    Outage {
        seconds: u64,
    },
    Suspend {
        seconds: u64,
    },
    /// The machine's wall clock alone.
    JumpClock {
        seconds: i64,
    },
    SetClockRight,
    Spoil {
        api: &'static str,
        effect: Effect,
        spoilt: Spoilt,
        times: u32,
    },
    Lag {
        api: &'static str,
        seconds: u64,
        times: u32,
    },
    /// A round in which answers come while other parts go on.
    Unsettled,
    FireTwice,
    Retire {
        policy: usize,
    },
    /// All that is retired comes back.
    Return,
    Edit {
        policy: usize,
        edit: Edit,
    },
    EmptyFolder {
        seconds: u64,
    },
    Pause {
        scope: Scope,
        hours: Option<i64>,
    },
    Resume {
        scope: Scope,
    },
    /// A person settles every open order, truthfully or by a coin's side.
    Resolve {
        truthful: bool,
    },
    /// A person fires a policy, for all of its instances or one.
    Trigger {
        policy: usize,
        instance: Option<usize>,
        again: bool,
    },
    /// A person has a failed run made anew.
    Retry {
        run: usize,
    },
    Balance {
        account: usize,
        cny: i64,
    },
    /// In `renewd.toml`, while the daemon works.
    Budget {
        account: usize,
        orders_per_day: Option<u32>,
        cny_per_day: Option<i64>,
    },
    Price {
        instance: usize,
        cny: i64,
    },
    AutoRenew {
        instance: usize,
        on: bool,
    },
    MoveExpiry {
        instance: usize,
        hours: i64,
    },
    RenewByHand {
        instance: usize,
        months: i64,
    },
    /// The latest charge is taken back.
    Refund {
        instance: usize,
    },
    Set {
        instance: usize,
        state: State,
    },
    /// Wherever the daemon stands after so many waits; then it is away for a while.
    Crash {
        waits: u32,
        seconds: u64,
    },
    CrashBetweenCommitAndSend {
        steps: u32,
        seconds: u64,
    },
    StopBetweenCommitAndSend {
        steps: u32,
        seconds: u64,
    },
    Restart,
    /// Another process on the same database, past the lock.
    SecondDaemon,
    /// The first of two ends.
    EndFirst,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    WithinDays(u32),
    Months(u32),
    MaxPrice(Option<i64>),
    Schedule(&'static str),
    Enabled(bool),
    RenewOverAutoRenew(bool),
    Resend(bool),
    OtherAccount,
    OtherSpelling,
    Memory(u32),
    Rename,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Account(usize),
    Policy(usize),
}

const PURCHASES: [&str; 5] = [
    "redis:RenewInstance",
    "redis:UpgradeInstance",
    "cvm:RenewInstances",
    "cvm-v2:RenewInstance",
    "ecs:RenewInstance",
];
const READS: [&str; 8] = [
    "redis:DescribeInstances",
    "cvm:DescribeInstances",
    "cvm-v2:DescribeInstances",
    "ecs:DescribeInstances",
    "billing:ListAvailableInstances",
    "billing:DescribeDealsByCond",
    "billing:ListOrders",
    "billing:ListOrderProductDetails",
];
const SHOWN_BY: [&str; 4] = [READS[0], READS[1], READS[2], READS[3]];
/// Of definite refusals: before the charge only, or the cloud itself would be lying.
const REFUSALS: [&str; 10] = [
    "RequestLimitExceeded.IPLimitExceeded",
    "ResourceInsufficient",
    "ResourceUnavailable.InstanceLockedError",
    "ResourceUnavailable.AccountBalanceNotEnough",
    "InvalidAccount.UnpaidOrder",
    "AuthFailure.UnauthorizedOperation",
    "AuthFailure.SecretIdNotFound",
    "UnauthorizedOperation",
    "InvalidParameter",
    "OperationDenied.ResourceLocked",
];
const DOUBTFUL: [&str; 3] = ["InternalError", "FailedOperation", "NobodyListsThis"];
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const STEPS_OF_TIME: [u64; 12] =
    [1, 30, 2 * MINUTE, 11 * MINUTE, HOUR, 3 * HOUR, 7 * HOUR, DAY, DAY, 2 * DAY, 7 * DAY, 19 * DAY];
const AWAY: [u64; 6] = [1, 10, 5 * MINUTE, 2 * HOUR, 30 * HOUR, 9 * DAY];
const LIST_SHORTEST: usize = 8;
const LIST_LONGEST: usize = 26;

/// The list of a seed.
pub fn draw(seed: u64) -> Vec<Operation> {
    let mut rng = Rng::with_seed(seed);
    let length = rng.usize(LIST_SHORTEST..=LIST_LONGEST);
    // Most lists keep the clock and the daemon single: what they check is sharper.
    let (jumps, seconds) = (rng.u8(..5) == 0, rng.u8(..5) == 0);
    let mut list = vec![Operation::Advance { seconds: rng.u64(..DAY) }];
    while list.len() < length {
        let drawn = draw_one(&mut rng);
        let fits = match drawn {
            Operation::JumpClock { .. } | Operation::SetClockRight => jumps,
            Operation::SecondDaemon | Operation::EndFirst => seconds,
            _ => true,
        };
        if fits {
            list.push(drawn);
        }
    }
    list
}

fn draw_one(rng: &mut Rng) -> Operation {
    let instance = rng.usize(..INSTANCES.len());
    let policy = rng.usize(..64);
    let account = rng.usize(..ACCOUNTS.len());
    match rng.u8(..106) {
        0..30 => Operation::Advance { seconds: pick(rng, &STEPS_OF_TIME) },
        30..42 => draw_fault(rng),
        42..46 => Operation::Lag {
            api: if rng.bool() { pick(rng, &PURCHASES) } else { pick(rng, &SHOWN_BY) },
            seconds: pick(rng, &[1, 40, 10 * MINUTE, 90 * MINUTE]),
            times: rng.u32(1..4),
        },
        46..49 => Operation::Unsettled,
        49 => Operation::FireTwice,
        50..52 => Operation::Retire { policy },
        52..54 => Operation::Return,
        54..60 => Operation::Edit { policy, edit: draw_edit(rng) },
        60 => Operation::EmptyFolder { seconds: pick(rng, &[1, 90, DAY]) },
        61..64 => Operation::Pause { scope: draw_scope(rng), hours: rng.bool().then(|| rng.i64(1..60)) },
        64..66 => Operation::Resume { scope: draw_scope(rng) },
        66..69 => Operation::Resolve { truthful: rng.u8(..6) > 0 },
        69..72 => Operation::Balance { account, cny: pick(rng, &[0, 150, 350, 100_000]) },
        72..74 => Operation::Budget {
            account,
            orders_per_day: rng.bool().then(|| rng.u32(0..4)),
            cny_per_day: rng.bool().then(|| pick(rng, &[50, 150, 1_000])),
        },
        74 => Operation::Price { instance, cny: pick(rng, &[0, 90, 100, 250]) },
        75..77 => Operation::AutoRenew { instance, on: rng.bool() },
        77..79 => Operation::MoveExpiry { instance, hours: rng.i64(-30..30) },
        79 => Operation::RenewByHand { instance, months: rng.i64(1..3) },
        80..82 => Operation::Refund { instance },
        82..84 => Operation::Set {
            instance,
            state: pick(rng, &[State::Busy, State::Running, State::Running, State::Isolated, State::Gone]),
        },
        84..89 => Operation::Crash { waits: rng.u32(..60) * rng.u32(1..8), seconds: pick(rng, &AWAY) },
        89 => Operation::CrashBetweenCommitAndSend { steps: rng.u32(..4), seconds: pick(rng, &AWAY) },
        90 => Operation::StopBetweenCommitAndSend {
            steps: rng.u32(..4),
            seconds: pick(rng, &[20, 70, 4 * MINUTE, 9 * HOUR]),
        },
        91 => Operation::Restart,
        92 => Operation::Outage { seconds: pick(rng, &AWAY) },
        93 => Operation::Suspend { seconds: pick(rng, &[30, 2 * HOUR, 3 * DAY]) },
        94 | 95 => Operation::SecondDaemon,
        96 => Operation::EndFirst,
        97 => Operation::SetClockRight,
        98..102 => Operation::Trigger {
            policy,
            instance: rng.bool().then(|| rng.usize(..4)),
            again: rng.u8(..4) == 0,
        },
        102..104 => Operation::Retry { run: rng.usize(..8) },
        _ => Operation::JumpClock { seconds: draw_jump(rng) },
    }
}

fn draw_fault(rng: &mut Rng) -> Operation {
    let is_purchase = rng.u8(..3) > 0;
    let api = if is_purchase { pick(rng, &PURCHASES) } else { pick(rng, &READS) };
    let effect = if is_purchase && rng.bool() { Effect::After } else { Effect::Before };
    let spoilt = match rng.u8(..12) {
        0..3 => Spoilt::Drop,
        3 => Spoilt::Garbage,
        4 => Spoilt::Truncate,
        5 => Spoilt::Http(pick(rng, &[500, 502, 503, 504, 429])),
        6 => Spoilt::Code(pick(rng, &DOUBTFUL).to_owned()),
        // Late, and now and then too late.
        7 => Spoilt::Stall(Duration::from_millis(if rng.u8(..8) == 0 { 2_000 } else { 15 })),
        _ if effect == Effect::After => Spoilt::Drop,
        _ => Spoilt::Code(pick(rng, &REFUSALS).to_owned()),
    };
    Operation::Spoil { api, effect, spoilt, times: rng.u32(1..4) }
}

fn draw_edit(rng: &mut Rng) -> Edit {
    match rng.u8(..12) {
        0 => Edit::WithinDays(rng.u32(1..25)),
        1 => Edit::Months(pick(rng, &[1, 2, 3])),
        2 | 3 => Edit::MaxPrice(rng.bool().then(|| pick(rng, &[95, 100, 300]))),
        4 => Edit::Schedule(pick(rng, &SCHEDULES)),
        5 | 6 => Edit::Enabled(rng.bool()),
        7 => Edit::RenewOverAutoRenew(rng.bool()),
        8 => Edit::Resend(rng.bool()),
        9 => Edit::OtherAccount,
        10 => {
            if rng.bool() {
                Edit::OtherSpelling
            } else {
                Edit::Memory(1024 * rng.u32(1..6))
            }
        }
        _ => Edit::Rename,
    }
}

fn draw_scope(rng: &mut Rng) -> Scope {
    match rng.u8(..3) {
        0 => Scope::All,
        1 => Scope::Account(rng.usize(..ACCOUNTS.len())),
        _ => Scope::Policy(rng.usize(..64)),
    }
}

fn draw_jump(rng: &mut Rng) -> i64 {
    let size = pick(rng, &[40, HOUR, DAY, 3650 * DAY]);
    let size = i64::try_from(size).expect("ten years fit");
    if rng.bool() { size } else { -size }
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())].clone()
}
