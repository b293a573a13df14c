use super::*;
use crate::domain::policy::ScheduleText;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hourly(watermark: &str) -> DueSchedule {
    DueSchedule {
        id: 1,
        text: ScheduleText { expression: "0 * * * *".to_owned(), zone: "UTC".to_owned() },
        watermark: at(watermark),
        next_due: at(watermark),
        joined_at: Vec::new(),
        has_every_fire: false,
    }
}

fn counts(firing: &Firing) -> Vec<(Origin, String, u32, Option<bool>)> {
    firing
        .rows
        .iter()
        .map(|row| (row.origin, row.due_at.to_string(), row.missed_count, row.every_fire))
        .collect()
}

#[test]
fn an_instant_of_this_life_fires_for_itself_however_late_within_a_minute() {
    let due = hourly("2026-06-01T00:30:00Z");
    let (firing, missed) = plan(&due, at("2026-06-01T00:45:00Z"), at("2026-06-01T01:00:59Z"));
    assert_eq!(counts(&firing), [(Origin::Schedule, "2026-06-01T01:00:00Z".to_owned(), 0, None)]);
    assert_eq!(firing.watermark, at("2026-06-01T01:00:59Z"));
    assert_eq!(firing.next_due, Some(at("2026-06-01T02:00:00Z")));
    assert_eq!(missed, None);
}

#[test]
fn instants_before_this_life_fold_into_one_catch_up_that_counts_them() {
    let due = hourly("2026-06-01T00:30:00Z");
    let (firing, _) = plan(&due, at("2026-06-01T05:10:00Z"), at("2026-06-01T06:00:00Z"));
    let catch_up = (Origin::CatchUp, "2026-06-01T05:00:00Z".to_owned(), 5, None);
    let on_time = (Origin::Schedule, "2026-06-01T06:00:00Z".to_owned(), 0, None);
    assert_eq!(counts(&firing), [catch_up, on_time]);
}

#[test]
fn a_policy_that_joined_later_is_owed_only_what_came_after_it() {
    let mut due = hourly("2026-06-01T00:30:00Z");
    due.joined_at = vec![at("2026-06-01T03:30:00Z")];
    let (firing, _) = plan(&due, at("2026-06-01T05:10:00Z"), at("2026-06-01T05:30:00Z"));
    let [old, joined] = &firing.rows[..] else { panic!("{:?}", firing.rows) };
    assert_eq!((old.missed_count, old.active_after, old.active_through), (5, None, due.watermark));
    assert_eq!((joined.missed_count, joined.active_through), (2, due.joined_at[0]));
    assert!(joined.active_after.unwrap() < due.joined_at[0]);
}

#[test]
fn every_fire_makes_up_for_a_day_and_the_rest_is_recorded_as_missed() {
    let mut due = hourly("2026-06-01T00:30:00Z");
    due.has_every_fire = true;
    let (firing, missed) = plan(&due, at("2026-06-03T00:10:00Z"), at("2026-06-03T00:30:00Z"));
    let last = "2026-06-03T00:00:00Z".to_owned();
    let with_test = (Origin::CatchUp, last.clone(), 48, Some(false));
    assert_eq!(counts(&firing), [with_test, (Origin::CatchUp, last, 24, Some(true))]);
    assert_eq!(missed.map(|missed| missed.count), Some(24));
}

#[test]
fn nothing_is_owed_twice_when_the_same_time_is_planned_again() {
    let due = hourly("2026-06-01T05:30:00Z");
    let (firing, missed) = plan(&due, at("2026-06-01T05:10:00Z"), at("2026-06-01T05:30:00Z"));
    assert_eq!((counts(&firing), missed), (Vec::new(), None));
}
