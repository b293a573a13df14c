use super::*;
use crate::domain::observation::{ChargeType, Lower, Observation};
use crate::domain::policy::{OnUnknown, Renew};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub(super) struct Case {
    refused_yet_moved: Option<OrderRow>,
    due_at: Timestamp,
    pub(super) terms: Terms,
    known: Known,
    next_firing: Option<Timestamp>,
    firing_after_next: Option<Timestamp>,
    foreign_order_at: Option<Timestamp>,
    again: bool,
    price: Price,
    skew: SignedDuration,
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Prepaid, running, auto-renew off, observed just now, expiring in so many days; window 15 days.
pub(super) fn case(expires_in_days: i64) -> Case {
    let facts = Facts {
        expires_at: Some(now() + days(expires_in_days)),
        state: InstanceState::Running,
        charge: ChargeType::Prepaid,
        auto_renew: AutoRenew::Off,
        renew_flag: None,
        spec: None,
        latest_operation: None,
    };
    let observation = Observation {
        instance: InstanceId::parse("crs-1").unwrap(),
        observed_at: now(),
        presence: Presence::Visible(facts),
    };
    Case {
        terms: Terms {
            action: Action::Renew(Renew { months: 1, when: RenewWhen::WithinDays(15) }),
            max_price: None,
            on_auto_renew: OnAutoRenew::Skip,
            unknown: OnUnknown::Person,
            renew_data_disks: false,
        },
        known: Known {
            observation: Some(observation),
            cycle: 1,
            expiry_high: Some(now() + days(expires_in_days)),
            lower: None,
            invisible_looks: 0,
        },
        due_at: now() - SignedDuration::from_secs(90),
        next_firing: Some(now() + days(1)),
        firing_after_next: None,
        refused_yet_moved: None,
        foreign_order_at: None,
        again: false,
        price: Price::NotNeeded,
        skew: SignedDuration::ZERO,
    }
}

impl Case {
    pub(super) fn facts(mut self, change: impl FnOnce(&mut Facts)) -> Case {
        if let Some(Observation { presence: Presence::Visible(facts), .. }) = &mut self.known.observation {
            change(facts);
        }
        self
    }

    fn observed(mut self, ago: SignedDuration) -> Case {
        if let Some(observation) = &mut self.known.observation {
            observation.observed_at = now() - ago;
        }
        self
    }

    fn decide(&self) -> Decision {
        self.judged(Provider::TencentCloud).decision
    }

    pub(super) fn judged(&self, provider: Provider) -> Verdict {
        let (account, region) = (AccountName::parse("shop").unwrap(), Region::parse("ap-guangzhou").unwrap());
        let instance = InstanceId::parse("crs-1").unwrap();
        judge(&Question {
            account: &account,
            provider,
            region: &region,
            instance: &instance,
            terms: &self.terms,
            known: &self.known,
            now: now(),
            due_at: self.due_at,
            look_after: self.due_at,
            refused_yet_moved: self.refused_yet_moved,
            next_firing: self.next_firing,
            firing_after_next: self.firing_after_next,
            foreign_order_at: self.foreign_order_at,
            again: self.again,
            price: self.price.clone(),
            skew: self.skew,
            settle: SignedDuration::from_hours(6),
            look_again: SignedDuration::from_secs(20),
        })
    }
}

fn is_skip(decision: &Decision) -> bool {
    matches!(decision, Decision::Skip { .. })
}

fn failed_with(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Fail { failure, .. } => Some(&failure.code),
        _ => None,
    }
}

fn waits(decision: &Decision) -> bool {
    matches!(decision, Decision::Wait { .. })
}

#[test]
fn due_is_within_the_window_or_before_the_firing_after_it_is_too_late() {
    assert_eq!(case(15).decide(), Decision::Order);
    assert!(is_skip(&case(16).decide()));
    let mut monthly = case(32);
    monthly.next_firing = Some(now() + days(30));
    assert_eq!(monthly.decide(), Decision::Order);
    monthly.next_firing = Some(now() + days(29));
    assert!(is_skip(&monthly.decide()));
}

#[test]
fn an_old_look_decides_nothing_not_even_that_it_is_not_due() {
    assert!(is_skip(&case(40).observed(SignedDuration::from_secs(60)).decide()));
    assert_eq!(case(40).observed(SignedDuration::from_secs(61)).decide(), Decision::Observe);
    assert_eq!(case(5).observed(SignedDuration::from_secs(61)).decide(), Decision::Observe);
    assert_eq!(case(5).observed(SignedDuration::from_secs(60)).decide(), Decision::Order);
}

#[test]
fn a_look_made_before_the_run_was_claimed_decides_nothing() {
    let mut case = case(40).observed(SignedDuration::from_secs(3));
    case.due_at = now() - SignedDuration::from_secs(2);
    assert_eq!(case.decide(), Decision::Observe);
    case.due_at = now() - SignedDuration::from_secs(3);
    assert!(is_skip(&case.decide()));
}

#[test]
fn a_run_whose_instant_is_still_to_come_waits_for_it() {
    let mut case = case(5);
    case.due_at = now() + days(3650);
    let Decision::Wait { until, failure: None, .. } = case.decide() else { panic!("{:?}", case.decide()) };
    assert_eq!(until, case.due_at);
    // Clocks differ by a little: that is no reason to wait, only to look again.
    case.due_at = now() + SignedDuration::from_secs(60);
    assert_eq!(case.decide(), Decision::Observe);
}

#[test]
fn a_look_from_the_future_is_not_fresh() {
    assert_eq!(case(5).observed(SignedDuration::from_secs(-5)).decide(), Decision::Observe);
    assert_eq!(case(40).observed(SignedDuration::from_secs(-5)).decide(), Decision::Observe);
}

#[test]
fn isolated_past_its_expiry_is_renewed_and_before_it_never() {
    let isolated = |days| case(days).facts(|facts| facts.state = InstanceState::Isolated);
    assert_eq!(isolated(-2).decide(), Decision::Order);
    assert_eq!(failed_with(&isolated(2).decide()), Some("Returned"));
    let gone = case(2).facts(|facts| facts.state = InstanceState::Gone);
    assert_eq!(failed_with(&gone.decide()), Some("Gone"));
    assert!(waits(&case(2).facts(|facts| facts.state = InstanceState::Busy).decide()));
    let unheard_of = case(2).facts(|facts| facts.state = InstanceState::Other("37".to_owned()));
    assert_eq!(unheard_of.decide(), Decision::Order);
}

#[test]
fn what_is_not_prepaid_is_never_ordered() {
    let postpaid = case(2).facts(|facts| facts.charge = ChargeType::Postpaid);
    assert_eq!(failed_with(&postpaid.decide()), Some("NotPrepaid"));
    let unheard_of = case(2).facts(|facts| facts.charge = ChargeType::Other("9".to_owned()));
    assert_eq!(failed_with(&unheard_of.decide()), Some("NotPrepaid"));
}

#[test]
fn an_instance_out_of_sight_waits_and_then_fails() {
    let mut hidden = case(2);
    if let Some(observation) = &mut hidden.known.observation {
        observation.presence = Presence::NotVisible;
    }
    hidden.known.invisible_looks = 2;
    assert!(waits(&hidden.decide()));
    hidden.known.invisible_looks = 3;
    assert_eq!(failed_with(&hidden.decide()), Some("NotVisible"));
}

#[test]
fn what_is_waited_for_is_looked_at_again_when_the_wait_is_over() {
    let busy = || case(2).facts(|facts| facts.state = InstanceState::Busy);
    let dateless = || case(2).facts(|facts| facts.expires_at = None);
    let hidden = || {
        let mut hidden = case(2);
        if let Some(observation) = &mut hidden.known.observation {
            observation.presence = Presence::NotVisible;
        }
        hidden
    };
    let skewed = || Case { skew: SignedDuration::from_secs(-61), ..case(2) };
    for case in [busy, dateless, hidden, skewed] {
        assert!(waits(&case().observed(SignedDuration::from_secs(19)).decide()));
        assert_eq!(case().observed(SignedDuration::from_secs(20)).decide(), Decision::Observe);
    }
}

#[test]
fn an_expiry_that_went_back_is_believed_only_after_looks_over_the_settling_time() {
    let lower = |looks, hours| {
        let mut case = case(2);
        case.known.expiry_high = Some(now() + days(32));
        case.known.lower = Some(Lower { since: now() - SignedDuration::from_hours(hours), looks });
        case.decide()
    };
    assert!(waits(&lower(3, 5)));
    assert!(waits(&lower(2, 7)));
    assert_eq!(lower(3, 6), Decision::Order);
}

#[test]
fn auto_renew_on_is_skipped_or_renewed_only_well_before_its_debit_day() {
    let on = |days| case(days).facts(|facts| facts.auto_renew = AutoRenew::On);
    assert!(is_skip(&on(5).decide()));
    let renew =
        |days| Case { terms: Terms { on_auto_renew: OnAutoRenew::Renew, ..case(1).terms }, ..on(days) };
    assert_eq!(renew(2).decide(), Decision::Order);
    assert!(waits(&renew(1).decide()));
    let unreadable = |days| case(days).facts(|facts| facts.auto_renew = AutoRenew::Unreadable);
    assert_eq!(unreadable(2).decide(), Decision::Order);
    assert!(waits(&unreadable(1).decide()));
}

#[test]
fn every_fire_orders_far_from_its_expiry_but_not_right_after_another_revision() {
    let mut every = case(300);
    every.terms.action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    every.due_at = now();
    every.next_firing = Some(now() + days(30));
    assert_eq!(every.decide(), Decision::Order);
    every.foreign_order_at = Some(now() - days(14));
    assert!(is_skip(&every.decide()));
    every.foreign_order_at = Some(now() - days(15));
    assert_eq!(every.decide(), Decision::Order);
}

#[test]
fn a_firing_of_every_fire_is_made_up_for_through_a_whole_day_and_no_longer() {
    let mut every = case(300);
    every.terms.action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    every.next_firing = Some(now() + days(30));
    every.due_at = now() - EVERY_FIRE_CATCH_UP;
    assert_eq!(every.decide(), Decision::Order);
    every.due_at -= SignedDuration::from_secs(1);
    assert!(is_skip(&every.decide()));
}

#[test]
fn what_only_time_stands_in_the_way_of_is_too_early_and_nothing_else_is() {
    let early = case(100).judged(Provider::TencentCloud);
    assert!(early.is_too_early());
    assert_eq!(early.due_words(), Some("expires in 100 days, window 15 days"));
    let due = case(2).judged(Provider::TencentCloud);
    assert!(!due.is_too_early());
    assert_eq!(due.due_words(), Some("expires in 2 days, window 15 days"));
    let mut dear = case(2);
    dear.price = Price::Known(Fen::new(200));
    dear.terms.max_price = Some(Fen::new(100));
    assert!(!dear.judged(Provider::TencentCloud).is_too_early());
    let mut followed = case(300);
    followed.terms.action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    followed.foreign_order_at = Some(now());
    assert!(followed.judged(Provider::TencentCloud).is_too_early());
}

fn triggered() -> Case {
    let mut every = case(300);
    every.terms.action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    every.due_at = now();
    every
}

#[test]
fn a_trigger_just_before_a_firing_is_measured_by_the_whole_interval_of_the_schedule() {
    let mut every = triggered();
    every.next_firing = Some(now() + SignedDuration::from_secs(60));
    every.firing_after_next = Some(now() + days(30));
    every.foreign_order_at = Some(now() - days(14));
    assert!(is_skip(&every.decide()));
    every.foreign_order_at = Some(now() - days(15));
    assert_eq!(every.decide(), Decision::Order);
}

#[test]
fn an_order_made_after_the_firing_stands_for_it_however_long_ago() {
    let mut every = triggered();
    every.due_at = now() - SignedDuration::from_hours(20);
    every.next_firing = Some(now() + SignedDuration::from_hours(1));
    every.firing_after_next = Some(now() + SignedDuration::from_hours(2));
    every.foreign_order_at = Some(every.due_at + SignedDuration::from_secs(1));
    assert!(is_skip(&every.decide()));
}

#[test]
fn a_skip_says_whether_the_last_order_came_before_or_after_the_firing() {
    let mut every = triggered();
    every.next_firing = Some(now() + days(30));
    let second = SignedDuration::from_secs(1);
    let before = "less than half the interval of its schedule before this firing";
    for (ago, words) in
        [(second, before), (SignedDuration::ZERO, before), (-second, "since this firing was due")]
    {
        let last = every.due_at - ago;
        every.foreign_order_at = Some(last);
        let Decision::Skip { reason } = every.decide() else { panic!("ordered again: {last}") };
        assert!(reason.starts_with(&format!("the instance was ordered at {last}, {words};")), "{reason}");
    }
}

#[test]
fn a_schedule_without_an_interval_lets_nothing_follow_an_order() {
    let mut every = triggered();
    every.next_firing = None;
    every.foreign_order_at = Some(now() - days(400));
    assert!(is_skip(&every.decide()));
}

#[test]
fn again_overrides_the_last_order_and_nothing_else() {
    let mut every = triggered();
    every.foreign_order_at = Some(now());
    every.again = true;
    assert_eq!(every.decide(), Decision::Order);
    every.due_at = now() - SignedDuration::from_hours(25);
    assert!(is_skip(&every.decide()), "its firing is too old");
    let mut far = case(40);
    far.again = true;
    assert!(is_skip(&far.decide()), "not due");
}

#[test]
fn a_clock_off_the_clouds_holds_orders() {
    let mut skewed = case(2);
    skewed.skew = SignedDuration::from_secs(-61);
    assert!(waits(&skewed.decide()));
    skewed.skew = SignedDuration::from_secs(-60);
    assert_eq!(skewed.decide(), Decision::Order);
}

#[test]
fn a_price_is_asked_compared_and_never_guessed() {
    let priced = |price, cap| {
        let mut case = case(2);
        case.price = price;
        case.terms.max_price = cap;
        case.decide()
    };
    let cap = Some(Fen::new(10_000));
    assert_eq!(priced(Price::NotAsked, cap), Decision::AskPrice);
    assert_eq!(priced(Price::Known(Fen::new(10_000)), cap), Decision::Order);
    assert_eq!(failed_with(&priced(Price::Known(Fen::new(10_001)), cap)), Some("PriceAboveCap"));
    let unreadable = Price::Unreadable(Failure::ours(Class::Blocked, "NoRight", "no"));
    assert!(waits(&priced(unreadable, cap)));
}

#[test]
fn a_firing_whose_refused_order_moved_the_term_all_the_same_does_not_pay_again() {
    let mut case = case(5);
    case.terms.action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    assert_eq!(case.decide(), Decision::Order);
    case.refused_yet_moved = Some(OrderRow(7));
    assert_eq!(failed_with(&case.decide()), Some("RefusedYetMoved"));
}

/// What `why` shows of each test, in the order of the tests.
fn told(case: &Case) -> Vec<String> {
    let tests = case.judged(Provider::TencentCloud).tests;
    tests.iter().map(|test| format!("{}: {}", test.test, test.value)).collect()
}

#[test]
fn each_test_is_told_with_what_it_looked_at() {
    let mut case = case(3).observed(SignedDuration::from_secs(7));
    case.price = Price::Known(Fen::new(12_345));
    case.terms.max_price = Some(Fen::new(20_000));
    case.skew = SignedDuration::from_secs(-3);
    case.foreign_order_at = Some(now() - days(40));
    case.again = true;
    let all = [
        "observed: 7 s ago",
        "visible: yes",
        "prepaid: prepaid",
        "expiry: 2026-06-04T00:00:00Z",
        "due: expires in 3 days, window 15 days",
        "refused order: none that took effect",
        "state: running",
        "auto-renew: off",
        "firing: 2026-05-31T23:58:30Z",
        "last order: 2026-04-22T00:00:00Z, ordered again by a person's wish",
        "clock: 3 s off the cloud's",
        "price: 123.45 CNY, cap 200.00 CNY",
    ];
    assert_eq!(told(&case), all);
}

#[test]
fn what_is_past_or_never_was_is_told_as_that() {
    let mut case = case(-2).facts(|facts| facts.state = InstanceState::Isolated);
    case.refused_yet_moved = Some(OrderRow(9));
    let told_of =
        |case: &Case, test: &str| told(case).into_iter().find(|line| line.starts_with(test)).unwrap();
    assert_eq!(told_of(&case, "due"), "due: expired 2 days ago, window 15 days");
    assert_eq!(told_of(&case, "refused order"), "refused order: row 9");
    case.refused_yet_moved = None;
    assert_eq!(told_of(&case, "last order"), "last order: none by another revision or by hand");
    assert_eq!(told_of(&case, "price"), "price: not asked: no cap and no money budget");
    case.price = Price::NotAsked;
    assert_eq!(told_of(&case, "price"), "price: to be asked");
    case.price = Price::Unreadable(Failure::ours(Class::Unknown, "Garbled", "unreadable"));
    assert!(told_of(&case, "price").starts_with("price: unreadable: "), "{}", told_of(&case, "price"));
}

#[test]
fn a_span_is_told_to_its_two_largest_units() {
    let told = |seconds| words(SignedDuration::from_secs(seconds));
    assert_eq!(told(0), "0 s");
    assert_eq!(told(59), "59 s");
    assert_eq!(told(60), "1 minute");
    assert_eq!(told(2 * 60 + 59), "2 minutes");
    assert_eq!(told(3_600 + 61), "1 hour 1 minute");
    assert_eq!(told(2 * 86_400 - 1), "1 day 23 hours");
    assert_eq!(told(3 * 86_400 + 59), "3 days");
    assert_eq!(told(86_400 + 120), "1 day");
    assert_eq!(told(-5), "0 s");
}

#[test]
fn an_expiry_in_this_very_second_is_past() {
    let isolated = case(0).facts(|facts| facts.state = InstanceState::Isolated);
    assert_eq!(isolated.decide(), Decision::Order);
}

#[test]
fn auto_renew_is_stood_aside_for_from_the_vendors_debit_day_and_a_day_before() {
    let with = |days| {
        let mut case = case(days).facts(|facts| facts.auto_renew = AutoRenew::On);
        case.terms.on_auto_renew = OnAutoRenew::Renew;
        case
    };
    let near = Decision::Wait {
        until: now() + SignedDuration::from_secs(80),
        reason: "the console's auto-renew is on and may debit at any moment this close to the expiry: an order now \
                 could pay twice; turn auto-renew off, or renew by hand"
            .to_owned(),
        failure: None,
    };
    let decided = |days, provider| match with(days).judged(provider).decision {
        Decision::Wait { until, reason, failure } => {
            assert_eq!(failure.map(|failure| failure.code), Some("AutoRenewNear".to_owned()));
            Decision::Wait { until, reason, failure: None }
        }
        other => other,
    };
    assert_eq!(decided(1, Provider::TencentCloud), near);
    assert_eq!(decided(2, Provider::TencentCloud), Decision::Order);
    assert_eq!(decided(8, Provider::Volcengine), near);
    assert_eq!(decided(9, Provider::Volcengine), Decision::Order);
}

#[test]
fn a_price_that_cannot_be_read_is_asked_again_a_while_later() {
    let mut case = case(3);
    let failure = Failure::ours(Class::Unavailable, "Maintenance", "later");
    case.price = Price::Unreadable(failure.clone());
    let Decision::Wait { until, failure: found, .. } = case.decide() else { panic!("{:?}", case.decide()) };
    assert_eq!((until, found), (now() + SignedDuration::from_secs(80), Some(failure)));
}

#[test]
fn an_expiry_that_went_back_is_looked_at_again_after_a_third_of_the_settling_time() {
    let mut case = case(3);
    case.known.lower = Some(Lower { since: now(), looks: 1 });
    let Decision::Wait { until, .. } = case.decide() else { panic!("{:?}", case.decide()) };
    assert_eq!(until, now() + SignedDuration::from_hours(2));
}
