use super::*;
use crate::domain::order::{ListedKind, Standing};

const SETTLE: Duration = Duration::from_secs(600);

fn before() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn question(state: OrderState) -> Question<'static> {
    Question {
        state,
        order_id: None,
        request_id: Some("request-1"),
        goal: Goal::Term { months: 1, expiry_before: Some(before()) },
        on_unknown: OnUnknown::Person,
        settle: SETTLE,
        age: SignedDuration::from_secs(60),
        list_was_late: false,
    }
}

fn look(at_seconds: u64, expiry: Timestamp, list: ListSeen) -> (Duration, Evidence) {
    let effect = EffectSeen::Expiry(expiry);
    (Duration::from_secs(at_seconds), Evidence { effect, list, operation: None, repeat: None })
}

fn listed_order(standing: Standing) -> ListedOrder {
    ListedOrder {
        order_id: OrderId("20260601".to_owned()),
        standing,
        kind: ListedKind::Renewal,
        months: Some(1),
        amount: Some(Fen::new(10_000)),
        created_at: None,
    }
}

fn a_month_later() -> Timestamp {
    before() + SignedDuration::from_hours(24 * 30)
}

#[test]
fn a_placed_order_is_confirmed_by_a_whole_term_and_not_by_hours() {
    let placed = question(OrderState::Placed);
    let moved = judge(&placed, &[look(1, a_month_later(), ListSeen::NotAsked)]);
    assert!(matches!(moved, Verdict::Confirmed { .. }), "{moved:?}");
    let hours =
        judge(&placed, &[look(1, before() + SignedDuration::from_hours(26 * 24), ListSeen::NotAsked)]);
    assert!(matches!(hours, Verdict::KeepWatching { .. }), "{hours:?}");
}

#[test]
fn a_list_that_stays_unreadable_does_not_hide_for_ever_that_the_term_has_moved() {
    let unread = [look(1, a_month_later(), ListSeen::Unread { why: "HTTP 500".to_owned() })];
    let mut unknown = question(OrderState::Unknown);
    let early = judge(&unknown, &unread);
    assert!(matches!(early, Verdict::KeepWatching { .. }), "{early:?}");
    unknown.age = SignedDuration::try_from(SETTLE).unwrap();
    let late = judge(&unknown, &unread);
    assert!(matches!(late, Verdict::Confirmed { order_id: None, .. }), "{late:?}");
}

#[test]
fn an_unknown_order_in_the_list_is_placed_and_only_the_expiry_confirms_it() {
    let ours = ListSeen::Ours(listed_order(Standing::Standing));
    let placed = judge(&question(OrderState::Unknown), &[look(1, before(), ours.clone())]);
    assert!(matches!(placed, Verdict::Placed { .. }), "{placed:?}");
    let confirmed = judge(&question(OrderState::Unknown), &[look(1, a_month_later(), ours)]);
    assert!(matches!(confirmed, Verdict::Confirmed { order_id: Some(_), .. }), "{confirmed:?}");
}

#[test]
fn not_ordered_takes_three_looks_apart_over_the_whole_settling_time() {
    let unknown = question(OrderState::Unknown);
    let at = |seconds| look(seconds, before(), ListSeen::Nothing);
    let verdict = |looks: &[_]| judge(&unknown, looks);
    assert!(matches!(verdict(&[at(0)]), Verdict::KeepWatching { .. }));
    assert!(matches!(verdict(&[at(0), at(200), at(400)]), Verdict::KeepWatching { .. }));
    assert!(matches!(verdict(&[at(0), at(1), at(600)]), Verdict::KeepWatching { .. }));
    assert!(matches!(verdict(&[at(0), at(200), at(400), at(600)]), Verdict::NotOrdered { .. }));
    assert!(matches!(verdict(&[at(5), at(300), at(605)]), Verdict::NotOrdered { .. }));
}

#[test]
fn one_look_that_disagrees_starts_the_count_anew() {
    let unknown = question(OrderState::Unknown);
    let at = |seconds| look(seconds, before(), ListSeen::Nothing);
    let unread = look(400, before(), ListSeen::Unread { why: "busy".to_owned() });
    let verdict = judge(&unknown, &[at(0), at(200), unread, at(600)]);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
    let moved = look(400, before() + SignedDuration::from_hours(3), ListSeen::Nothing);
    let verdict = judge(&unknown, &[at(0), at(200), moved, at(600)]);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
}

#[test]
fn without_the_right_to_the_list_a_person_decides_unless_the_policy_accepts_the_risk() {
    let forbidden = || ListSeen::Forbidden { why: "no right".to_owned() };
    let looks: Vec<_> = [0, 200, 400, 600].map(|at| look(at, before(), forbidden())).into();
    let mut unknown = Question { age: SignedDuration::from_secs(601), ..question(OrderState::Unknown) };
    assert!(matches!(judge(&unknown, &looks), Verdict::AskPerson { .. }));
    unknown.on_unknown = OnUnknown::Resend;
    assert!(matches!(judge(&unknown, &looks), Verdict::NotOrdered { .. }));
    assert!(matches!(judge(&unknown, &looks[..3]), Verdict::AskPerson { .. }));
}

#[test]
fn an_unpaid_or_undelivered_order_asks_a_person_and_a_void_one_does_not_stand() {
    let verdict = |standing| {
        judge(&question(OrderState::Unknown), &[look(1, before(), ListSeen::Ours(listed_order(standing)))])
    };
    assert!(matches!(verdict(Standing::Unpaid), Verdict::AskPerson { .. }));
    assert!(matches!(verdict(Standing::Undelivered), Verdict::AskPerson { .. }));
    assert!(matches!(verdict(Standing::Void), Verdict::Void { .. }));
    assert!(matches!(verdict(Standing::Unclear), Verdict::KeepWatching { .. }));
}

#[test]
fn a_term_that_moved_without_an_order_of_ours_was_renewed_elsewhere() {
    let unknown = question(OrderState::Unknown);
    let at = |seconds| look(seconds, a_month_later(), ListSeen::Nothing);
    assert!(matches!(judge(&unknown, &[at(0)]), Verdict::KeepWatching { .. }));
    let looks = [at(0), at(200), at(400), at(600)];
    assert!(matches!(judge(&unknown, &looks), Verdict::DoneElsewhere { .. }));
}

#[test]
fn a_placed_order_that_never_moves_the_expiry_is_a_persons() {
    let old = Question { age: SignedDuration::from_secs(601), ..question(OrderState::Placed) };
    let verdict = judge(&old, &[look(601, before(), ListSeen::Ours(listed_order(Standing::Standing)))]);
    assert!(matches!(verdict, Verdict::AskPerson { .. }), "{verdict:?}");
}

#[test]
fn looks_are_soon_at_first_and_a_third_of_the_settling_time_apart_later() {
    let age = |seconds| next_look_in(OrderState::Unknown, SignedDuration::from_secs(seconds), SETTLE);
    assert_eq!(age(0), SOONEST_LOOK);
    assert_eq!(age(20), Duration::from_secs(10));
    assert_eq!(age(10_000), SETTLE / 3);
    let placed = |seconds| {
        next_look_in(OrderState::Placed, SignedDuration::from_secs(seconds), Duration::from_secs(6 * 3600))
    };
    assert_eq!((placed(100), placed(10_000)), (Duration::from_secs(50), PLACED_LOOK));
}

fn operation(request_id: &str, state: &str) -> Option<Operation> {
    let (request_id, state) = (Some(request_id.to_owned()), Some(state.to_owned()));
    Some(Operation { name: "RenewInstances".to_owned(), request_id, state })
}

#[test]
fn while_the_cloud_is_at_work_on_a_renewal_an_empty_list_proves_nothing() {
    let mut looks: Vec<_> = [1, 300, 601].map(|at| look(at, before(), ListSeen::Nothing)).into();
    let mut unknown = question(OrderState::Unknown);
    unknown.age = SignedDuration::from_secs(602);
    assert!(matches!(judge(&unknown, &looks), Verdict::NotOrdered { .. }));
    looks[1].1.operation = operation("request-2", "OPERATING");
    assert!(matches!(judge(&unknown, &looks), Verdict::KeepWatching { .. }));
    looks[1].1.operation = operation("request-2", "SUCCESS");
    assert!(matches!(judge(&unknown, &looks), Verdict::NotOrdered { .. }));
    looks[2].1.repeat = Some(Repeat::AtWork);
    assert!(matches!(judge(&unknown, &looks), Verdict::KeepWatching { .. }));
}

#[test]
fn a_request_sent_again_without_an_answer_begins_the_settling_time_anew() {
    let unknown = question(OrderState::Unknown);
    let mut looks: Vec<_> =
        [0, 300, 600, 900, 1_200].map(|seconds| look(seconds, before(), ListSeen::Nothing)).into();
    looks[1].1.repeat = Some(Repeat::Lost { why: "no answer".to_owned() });
    let verdict = judge(&unknown, &looks[..4]);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
    let verdict = judge(&unknown, &looks);
    assert!(matches!(verdict, Verdict::NotOrdered { .. }), "{verdict:?}");
    looks[4].1.repeat = Some(Repeat::Lost { why: "no answer".to_owned() });
    let verdict = judge(&unknown, &looks);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
    looks[1].1.repeat = None;
    looks[4].1.repeat = Some(Repeat::Failed { why: "refused".to_owned() });
    let verdict = judge(&unknown, &looks);
    assert!(matches!(verdict, Verdict::NotOrdered { .. }), "{verdict:?}");
}

#[test]
fn a_failed_operation_of_this_very_request_is_a_persons_and_of_another_says_nothing() {
    let judged = |request_id| {
        let mut look = look(1, before(), ListSeen::NotAsked);
        look.1.operation = operation(request_id, "FAILED");
        judge(&question(OrderState::Placed), &[look])
    };
    assert!(matches!(judged("request-1"), Verdict::AskPerson { .. }));
    assert!(matches!(judged("request-2"), Verdict::KeepWatching { .. }));
}

#[test]
fn the_answer_to_the_repeated_request_names_the_order_and_only_the_expiry_confirms_it() {
    let judged = |expiry| {
        let mut look = look(1, expiry, ListSeen::NotAsked);
        look.1.repeat = Some(Repeat::Order(OrderId("Order7".to_owned())));
        judge(&question(OrderState::Unknown), &[look])
    };
    assert!(matches!(judged(before()), Verdict::Placed { .. }));
    assert!(matches!(judged(a_month_later()), Verdict::Confirmed { order_id: Some(_), .. }));
}

#[test]
fn a_person_is_asked_only_once_looks_that_were_going_to_agree_have_had_their_time() {
    let at = |seconds, hours| look(seconds, before() + SignedDuration::from_hours(hours), ListSeen::Nothing);
    // The expiry moved by hours, and the count began anew.
    let restless = [at(0, 0), at(500, 1), at(900, 2)];
    let mut unknown = question(OrderState::Unknown);
    unknown.age = SignedDuration::from_secs(1_300);
    assert!(matches!(judge(&unknown, &restless), Verdict::KeepWatching { .. }));
    let just_as_long = [at(0, 0), at(500, 1), at(900, 2), at(1_200, 3)];
    assert!(matches!(judge(&unknown, &just_as_long), Verdict::KeepWatching { .. }));
    let still_restless = [at(0, 0), at(500, 1), at(900, 2), at(1_300, 3)];
    assert!(matches!(judge(&unknown, &still_restless), Verdict::AskPerson { .. }));
    // Lives of the service that each ended before they had looked long enough.
    unknown.age = SignedDuration::try_from(SETTLE).unwrap() * SETTLINGS_MAX;
    assert!(matches!(judge(&unknown, &[at(0, 0)]), Verdict::KeepWatching { .. }));
    unknown.age += SignedDuration::from_secs(1);
    assert!(matches!(judge(&unknown, &[at(0, 0)]), Verdict::AskPerson { .. }));
}

#[test]
fn a_list_that_was_late_before_proves_nothing_by_what_it_does_not_show() {
    let late = Question { list_was_late: true, ..question(OrderState::Unknown) };
    let at = |seconds, expiry| look(seconds, expiry, ListSeen::Nothing);
    for expiry in [before(), a_month_later()] {
        let looks: Vec<_> = [0, 300, 600, 900].map(|seconds| at(seconds, expiry)).into();
        assert!(matches!(judge(&late, &looks), Verdict::KeepWatching { .. }), "{expiry}");
        let longer: Vec<_> = [0, 600, 1_201].map(|seconds| at(seconds, expiry)).into();
        assert!(matches!(judge(&late, &longer), Verdict::AskPerson { .. }), "{expiry}");
    }
    let listed = [look(1, a_month_later(), ListSeen::Ours(listed_order(Standing::Standing)))];
    assert!(matches!(judge(&late, &listed), Verdict::Confirmed { .. }));
}

fn why(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::KeepWatching { why } | Verdict::AskPerson { why } | Verdict::NotOrdered { why } => why,
        _ => panic!("{verdict:?} has no reason"),
    }
}

fn settle() -> SignedDuration {
    SignedDuration::try_from(SETTLE).unwrap()
}

#[test]
fn an_instance_that_cannot_be_looked_at_leaves_the_list_to_speak() {
    let unread_at = |at, list| {
        let effect = EffectSeen::Unread { why: "HTTP 502".to_owned() };
        (Duration::from_secs(at), Evidence { effect, list, operation: None, repeat: None })
    };
    let unread = |list| [unread_at(0, list)];
    let mut unknown = question(OrderState::Unknown);
    let placed = judge(&unknown, &unread(ListSeen::Ours(listed_order(Standing::Standing))));
    assert!(matches!(placed, Verdict::Placed { .. }), "{placed:?}");
    let unpaid = judge(&unknown, &unread(ListSeen::Ours(listed_order(Standing::Unpaid))));
    assert!(matches!(unpaid, Verdict::AskPerson { .. }), "{unpaid:?}");
    let watched = judge(&unknown, &unread(ListSeen::Nothing));
    assert!(matches!(watched, Verdict::KeepWatching { .. }), "{watched:?}");
    assert_eq!(why(&watched), "the instance could not be looked at: HTTP 502");
    unknown.age = settle();
    let after_a_start = judge(&unknown, &unread(ListSeen::Nothing));
    assert!(matches!(after_a_start, Verdict::KeepWatching { .. }), "one failed look: {after_a_start:?}");
    let over = |last| [unread_at(7, ListSeen::Nothing), unread_at(last, ListSeen::Nothing)];
    assert!(matches!(judge(&unknown, &over(606)), Verdict::KeepWatching { .. }));
    assert!(matches!(judge(&unknown, &over(607)), Verdict::AskPerson { .. }), "this life's settling time");
    unknown.age = settle() * 8;
    assert!(matches!(judge(&unknown, &over(8)), Verdict::KeepWatching { .. }));
    unknown.age += SignedDuration::from_secs(1);
    assert!(matches!(judge(&unknown, &over(8)), Verdict::AskPerson { .. }), "many lives, each too short");
}

#[test]
fn a_term_is_27_days_a_month_and_a_size_is_the_size_itself() {
    let year = Goal::Term { months: 12, expiry_before: Some(before()) };
    let after = |days: i64| EffectSeen::Expiry(before() + SignedDuration::from_hours(24 * days));
    assert!(!is_reached(year, &after(323)));
    assert!(is_reached(year, &after(324)));
    assert!(!is_reached(Goal::Term { months: 1, expiry_before: None }, &after(400)));
    let memory = Goal::Size { dimension: Dimension::MemSizeMb, target: 4096 };
    assert!(is_reached(memory, &EffectSeen::Size(4096)));
    assert!(!is_reached(memory, &EffectSeen::Size(8192)));
    assert!(!is_reached(memory, &after(400)));
    assert_eq!(said(year, &after(0)), "the expiry moved to 2026-06-01T00:00:00Z");
    assert_eq!(said(memory, &EffectSeen::Size(4096)), format!("{} is 4096", Dimension::MemSizeMb));
}

#[test]
fn a_moved_term_of_an_account_without_right_to_the_list_confirms_the_order() {
    let forbidden = ListSeen::Forbidden { why: "no right".to_owned() };
    let verdict = judge(&question(OrderState::Unknown), &[look(1, a_month_later(), forbidden)]);
    assert!(matches!(verdict, Verdict::Confirmed { order_id: None, .. }), "{verdict:?}");
}

#[test]
fn a_placed_order_without_a_number_waits_the_settling_time_for_the_list_to_name_it() {
    let moved = [look(1, a_month_later(), ListSeen::Nothing)];
    let mut placed = question(OrderState::Placed);
    placed.age = settle() - SignedDuration::from_secs(1);
    let verdict = judge(&placed, &moved);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
    assert!(why(&verdict).ends_with("waiting for the order's number"), "{verdict:?}");
    placed.age = settle();
    assert!(matches!(judge(&placed, &moved), Verdict::Confirmed { order_id: None, .. }));
    let number = OrderId("20260601".to_owned());
    let numbered = Question { order_id: Some(&number), ..question(OrderState::Placed) };
    assert!(matches!(judge(&numbered, &moved), Verdict::Confirmed { order_id: Some(_), .. }));
}

#[test]
fn what_the_cloud_has_accepted_is_never_called_not_ordered() {
    let nothing: Vec<_> = [0, 200, 400, 601, 900].map(|at| look(at, before(), ListSeen::Nothing)).into();
    let mut placed = question(OrderState::Placed);
    let verdict = judge(&placed, &nothing);
    assert!(matches!(verdict, Verdict::KeepWatching { .. }), "{verdict:?}");
    assert_eq!(why(&verdict), "the order is placed and the expiry has not moved yet");
    placed.age = settle();
    assert!(matches!(judge(&placed, &nothing), Verdict::AskPerson { .. }));
    let forbidden: Vec<_> = [0, 200, 400, 601]
        .map(|at| look(at, before(), ListSeen::Forbidden { why: "no right".to_owned() }))
        .into();
    placed.on_unknown = OnUnknown::Resend;
    assert!(matches!(judge(&placed, &forbidden), Verdict::AskPerson { .. }));
}

#[test]
fn each_reason_names_what_was_not_seen() {
    let judged = |list| judge(&question(OrderState::Unknown), &[look(1, before(), list)]);
    let unread = judged(ListSeen::Unread { why: "HTTP 500".to_owned() });
    assert_eq!(why(&unread), "the order list could not be read: HTTP 500");
    let goal = Goal::Size { dimension: Dimension::MemSizeMb, target: 4096 };
    let grown = Question { goal, ..question(OrderState::Unknown) };
    let size = |at| {
        let effect = EffectSeen::Size(1024);
        (Duration::from_secs(at), Evidence { effect, list: ListSeen::Nothing, operation: None, repeat: None })
    };
    let vanished = judge(&grown, &[size(0), size(300), size(600)]);
    let start = format!("{} is not 4096 and the order list shows no order", Dimension::MemSizeMb);
    assert!(why(&vanished).starts_with(&start), "{vanished:?}");
}

#[test]
fn a_person_is_told_whether_the_list_or_the_instance_kept_the_evidence_short() {
    let looks = [look(0, before(), ListSeen::Nothing), look(1_201, before(), ListSeen::Nothing)];
    for (list_was_late, cause) in
        [(false, "looks at the instance do not agree"), (true, "raise settle_seconds")]
    {
        let asked = judge(&Question { list_was_late, ..question(OrderState::Unknown) }, &looks);
        assert!(matches!(&asked, Verdict::AskPerson { why } if why.contains(cause)), "{asked:?}");
    }
}
