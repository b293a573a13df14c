//! Renewals of a fleet that is due all at once, measured by the ledger.

use std::time::{Duration, Instant};

use renewd::sandbox::Running;
use renewd::store::{Filter, Store};

use crate::service::{Service, practice_cloud};

const RENEW: &str = "redis:RenewInstance";
const ACCOUNTS: [&str; 1] = ["shop"];
/// Of the documented 20 a second, what renewd uses unless told otherwise.
const PACE: f64 = 18.0;
const CLOUD_LIMIT: usize = 20;
const RENEWALS_DEFAULT: usize = 60;
/// From here on one late wake-up of a busy machine no longer decides the figure.
const LONG_FORM: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_due_at_once_is_renewed_at_the_configured_pace_and_never_faster() {
    let renewals =
        std::env::var("RENEWD_PACE_RENEWALS").map_or(RENEWALS_DEFAULT, |text| text.parse().unwrap());
    let seed = format!(
        "[[instances]]\nprefix = \"crs-fleet-\"\ncount = {renewals}\nexpires_in_days = 3\n\
         [balances]\nAKIDsandboxshop = 10000000\n"
    );
    let cloud = practice_cloud(&seed).await;
    let mut service = Service::new(&cloud, &ACCOUNTS, "", &policy(renewals));
    let mut life = service.start(&ACCOUNTS);
    let deadline = Instant::now()
        + Duration::from_secs(30)
        + Duration::from_millis(100) * u32::try_from(renewals).unwrap();
    while cloud.ledger().len() < renewals {
        life.assert_alive();
        let renewed = cloud.ledger().len();
        assert!(Instant::now() < deadline, "{renewed} of {renewals} renewed, see {}", life.log().display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    life.stop();
    let store = Store::open_for_command(&service.folder().join("renewd.db")).await.unwrap();
    assert_eq!(store.orders(&Filter::default()).await.unwrap().len(), renewals, "one order an instance");

    let count = cloud.requests()[RENEW].clone();
    let pace = pace_of(&cloud);
    eprintln!(
        "{renewals} renewals: {pace:.2} a second ({:.1} % of {PACE}), at most {} in one second, answers {:?}",
        100.0 * pace / PACE,
        count.max_in_one_second,
        count.by_code
    );
    assert_eq!(count.by_code.get("ok").copied(), u64::try_from(renewals).ok(), "{:?}", count.by_code);
    assert_eq!(count.by_code.len(), 1, "{:?}", count.by_code);
    assert!(count.max_in_one_second <= CLOUD_LIMIT, "{} in one second", count.max_in_one_second);
    let least = if renewals >= LONG_FORM { 0.95 } else { 0.85 };
    assert!(pace >= least * PACE, "{pace:.2} a second is below {least} of {PACE}");
}

/// Of the charges between the first and the last.
fn pace_of(cloud: &Running) -> f64 {
    let ledger = cloud.ledger();
    let [first, .., last] = &ledger[..] else { panic!("fewer than two charges") };
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    f64::from(u32::try_from(ledger.len() - 1).unwrap()) / seconds
}

fn policy(renewals: usize) -> String {
    let ids: Vec<String> = (1..=renewals).map(|id| format!("\"crs-fleet-{id}\"")).collect();
    format!(
        "[policy.fleet]\naccount = \"shop\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\ninstances = [{}]\n\
         schedule = \"*/2 * * * * *\"\nrenew = {{ months = 1 }}\n",
        ids.join(", ")
    )
}
