//! Lists that are read while they change.

use renewd::store::{Filter, RunRecord};

use crate::stage::{Stage, days, policy, start};

#[tokio::test]
async fn what_comes_between_two_pages_neither_doubles_nor_hides_a_row() {
    let stage = Stage::open().await;
    stage.begin().await;
    let ids: Vec<String> = (0..1_500).map(|number| format!("crs-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.apply(&[policy("big", &ids)], start()).await;
    stage.fire(start() + days(1)).await;
    let whole: Vec<i64> = stage.runs().await.iter().map(|run| run.id).collect();
    assert_eq!(whole.len(), 1_500);

    let mut pages = stage.store.pages::<RunRecord>(Filter::default());
    let mut read: Vec<i64> = Vec::new();
    let mut lengths = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        lengths.push(page.len());
        read.extend(page.iter().map(|run| run.id));
        stage.fire(start() + days(1 + i64::try_from(lengths.len()).unwrap())).await;
    }

    assert_eq!(read, whole, "as it was when it was begun");
    assert_eq!(lengths, [1_000, 500]);
    assert_eq!(stage.runs().await.len(), 4_500);
}
