//! Every error code of the vendor's tables against the class that decides what happens to the money.

use std::collections::BTreeSet;

use renewd::cloud::tencentcloud::codes::judge;
use renewd::cloud::{Cause, cause};
use renewd::domain::failure::Class;
use renewd::domain::product::Provider;

const TABLE: &str = include_str!("../replies/tencentcloud/codes.tsv");

#[test]
fn every_documented_code_gets_its_class_and_cause() {
    let mut seen = BTreeSet::new();
    for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let [code, class, expected_cause, source] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not four columns: {row}");
        };
        assert!(seen.insert(code), "{code} stands twice");
        assert_eq!(judge(code).class.as_str(), class, "{code} ({source})");
        assert_eq!(cause_name(cause(Provider::TencentCloud, code)), expected_cause, "{code} ({source})");
    }
    assert!(seen.len() >= 129, "the table shrank to {} codes", seen.len());
}

pub fn cause_name(cause: Option<Cause>) -> &'static str {
    match cause {
        None => "-",
        Some(Cause::Balance) => "balance",
        Some(Cause::UnpaidOrder) => "unpaid-order",
        Some(Cause::Rights) => "rights",
        Some(Cause::Quota) => "quota",
        Some(Cause::Processing) => "processing",
    }
}

#[test]
fn the_exact_code_goes_before_its_family_and_the_family_before_unknown() {
    assert_eq!(judge("AuthFailure.SignatureExpire").class, Class::Unavailable);
    assert_eq!(judge("AuthFailure.NewKindOfFailure").class, Class::Credential);
    assert_eq!(judge("ResourceUnavailable.InstanceDeleted").class, Class::Rejected);
    assert_eq!(judge("ResourceUnavailable.NewReason.Detail").class, Class::Unavailable);
    assert_eq!(judge("RequestLimitExceeded.NewLimit").class, Class::Throttled);
    assert_eq!(judge("SomethingElse.NewReason").class, Class::Unknown);
}

#[test]
fn what_no_table_describes_says_nothing_about_the_money() {
    for code in
        ["", ".", "InvalidRequest.NewReason", "ResourceInUseX", "requestlimitexceeded", "limitExceeded"]
    {
        assert_eq!(judge(code).class, Class::Unknown, "{code}");
    }
}

#[test]
fn an_operation_in_progress_passes_and_is_not_final() {
    assert_eq!(judge("OperationDenied.DiskResizeInProgress").class, Class::Busy);
    assert_eq!(judge("UnsupportedOperation.InstanceStateRebooting").class, Class::Busy);
    assert_eq!(judge("InvalidParameter.InstanceStateRebooting").class, Class::Rejected);
}
