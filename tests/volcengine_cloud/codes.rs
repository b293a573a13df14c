//! Every error code of the vendor's tables against the class that decides what happens to the money.

use std::collections::BTreeSet;

use renewd::cloud::volcengine::codes::judge;
use renewd::cloud::{Cause, cause};
use renewd::domain::failure::Class;
use renewd::domain::product::Provider;

const TABLE: &str = include_str!("../replies/volcengine/codes.tsv");

#[test]
fn every_documented_code_gets_its_class_and_cause() {
    let mut seen = BTreeSet::new();
    for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let [code, class, expected_cause, source] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not four columns: {row}");
        };
        assert!(seen.insert(code), "{code} stands twice");
        assert_eq!(judge(code).class.as_str(), class, "{code} ({source})");
        let cause = match cause(Provider::Volcengine, code) {
            None => "-",
            Some(Cause::Balance) => "balance",
            Some(Cause::Rights) => "rights",
            Some(Cause::Processing) => "processing",
            Some(other) => panic!("{code}: no code of this provider means {other:?}"),
        };
        assert_eq!(cause, expected_cause, "{code} ({source})");
    }
    assert!(seen.len() >= 44, "the table shrank to {} codes", seen.len());
}

#[test]
fn the_exact_code_goes_before_what_stands_before_its_dot_and_that_before_unknown() {
    assert_eq!(judge("OperationDenied.ResourceLocked").class, Class::Busy);
    assert_eq!(judge("OperationDenied.SomethingNew").class, Class::Unknown);
    assert_eq!(judge("MissingParameter.Period").class, Class::Rejected);
    assert_eq!(judge("InvalidPeriod.TooLong.ForThisType").class, Class::Rejected);
    assert_eq!(judge("AccessDenied.NewReason").class, Class::Blocked);
    assert_eq!(judge("InvalidInstance.NewReason").class, Class::Unknown);
}

#[test]
fn of_codes_about_a_token_only_the_one_at_work_may_be_asked_again() {
    let judged = |code| (judge(code).class, cause(Provider::Volcengine, code));
    assert_eq!(judged("IdempotentProcessing"), (Class::Unknown, Some(Cause::Processing)));
    assert_eq!(judged("IdempotentParameterMismatch"), (Class::Unknown, None));
    assert_eq!(judged("InvalidIdempotency"), (Class::Unknown, None));
}

#[test]
fn a_code_that_ends_as_the_gateways_throttle_is_one() {
    assert_eq!(judge("ServiceFlowLimitExceeded").class, Class::Throttled);
    assert_eq!(judge("FlowLimitExceeded.Renew").class, Class::Throttled);
    assert_eq!(judge("FlowLimitExceededNot").class, Class::Unknown);
}

#[test]
fn what_no_table_describes_says_nothing_about_the_money() {
    for code in
        ["", ".", "internalerror", "Insufficient", "Insufficient.Stock", "InvalidClientToken", "100014"]
    {
        assert_eq!(judge(code).class, Class::Unknown, "{code}");
    }
}
