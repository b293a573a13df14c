use crate::domain::observation::{Facts, InstanceState, Spec};
use crate::domain::policy::{Action, Upgrade};
use crate::domain::product::Provider;
use crate::guard::tests::{Case, case};
use crate::guard::{Decision, Verdict};

const HAS: Spec = Spec { mem_size_mb: 2048, shards: 3, replicas: 1 };

fn wants(mem_size_mb: u32, shards: Option<u32>) -> Case {
    let mut case = case(300).facts(|facts| facts.spec = Some(HAS));
    case.terms.action = Action::Upgrade(Upgrade { mem_size_mb, shards, replicas: None, allow_shrink: false });
    case
}

fn shrinking(mut case: Case) -> Case {
    if let Action::Upgrade(upgrade) = &mut case.terms.action {
        upgrade.allow_shrink = true;
    }
    case
}

fn judged(case: &Case) -> Verdict {
    case.judged(Provider::TencentCloud)
}

fn code(verdict: &Verdict) -> Option<&str> {
    match &verdict.decision {
        Decision::Fail { failure, .. } | Decision::Wait { failure: Some(failure), .. } => Some(&failure.code),
        _ => None,
    }
}

fn value<'a>(verdict: &'a Verdict, name: &str) -> Option<&'a str> {
    verdict.tests.iter().find(|test| test.test == name).map(|test| test.value.as_str())
}

#[test]
fn what_is_larger_than_the_instance_is_ordered_and_what_it_has_is_skipped() {
    let grows = judged(&wants(4096, None));
    assert_eq!(grows.decision, Decision::Order);
    assert_eq!(value(&grows, "size").map(|size| size.contains("2048") && size.contains("4096")), Some(true));
    let has = judged(&wants(2048, Some(3)));
    assert!(matches!(&has.decision, Decision::Skip { reason } if reason == "it has the wanted size already"));
    assert_eq!(value(&has, "size"), Some("as the policy wants it"));
}

#[test]
fn nothing_shrinks_unasked_not_even_beside_what_grows() {
    for smaller in [wants(1024, None), wants(4096, Some(2))] {
        let unasked = judged(&smaller);
        assert_eq!(code(&unasked), Some("ShrinkNotAllowed"), "{unasked:?}");
        assert_eq!(value(&unasked, "shrinking"), Some("allow_shrink = false"));
        let asked = judged(&shrinking(smaller));
        assert_eq!(asked.decision, Decision::Order);
        assert_eq!(value(&asked, "shrinking"), Some("allow_shrink = true"));
    }
    assert_eq!(judged(&shrinking(wants(4096, None))).decision, Decision::Order);
}

#[test]
fn only_what_runs_and_shows_its_size_is_upgraded() {
    let in_state = |state: InstanceState| judged(&wants(4096, None).facts(|facts| facts.state = state));
    assert_eq!(in_state(InstanceState::Other("odd".to_owned())).decision, Decision::Order);
    assert!(matches!(in_state(InstanceState::Busy).decision, Decision::Wait { .. }));
    assert!(matches!(in_state(InstanceState::Gone).decision, Decision::Fail { .. }));
    assert_eq!(code(&in_state(InstanceState::Isolated)), Some("Isolated"));
    let unreadable = judged(&wants(4096, None).facts(|facts: &mut Facts| facts.spec = None));
    assert_eq!(code(&unreadable), Some("NoSize"));
}
