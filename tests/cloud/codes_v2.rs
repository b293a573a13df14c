//! Every error code of the legacy v2 tables against its class.

use renewd::cloud::cause;
use renewd::cloud::tencentcloud::codes_v2::judge;
use renewd::domain::failure::Class;
use renewd::domain::product::Provider;

use crate::codes::cause_name;

const TABLE: &str = include_str!("../replies/tencentcloud/codes_v2.tsv");

#[test]
fn every_documented_code_gets_its_class_and_cause() {
    let mut count = 0;
    for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let [code, class, expected_cause, source] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not four columns: {row}");
        };
        let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
        let (word, judged) =
            if is_number { judge(None, Some(code)) } else { judge(Some(code), Some("5100")) };
        assert_eq!((word, judged.class.as_str()), (Some(code), class), "{code} ({source})");
        assert_eq!(cause_name(cause(Provider::TencentCloud, code)), expected_cause, "{code} ({source})");
        count += 1;
    }
    assert!(count >= 36, "the table shrank to {count} codes");
}

#[test]
fn the_exact_word_goes_before_its_prefixes_and_they_before_unknown() {
    let class = |word| judge(Some(word), None).1.class;
    assert_eq!(class("NotSupport.SharedInstance"), Class::Rejected);
    assert_eq!(class("NotSupport.SharedInstance.InThisZone.Now"), Class::Rejected);
    assert_eq!(class("OperationConstraints.AccountBalanceNotEnough.Arrears"), Class::Blocked);
    for novel in
        ["NotSupport", "NotSupport.Other", "OperationConstraints.Other", "NotSupport.SharedInstances"]
    {
        assert_eq!(class(novel), Class::Unknown, "{novel}");
    }
    let (word, judged) = judge(Some("NotSupport.SharedInstance.Now"), Some("4400"));
    assert_eq!((word, judged.class), (Some("NotSupport.SharedInstance.Now"), Class::Rejected));
}

#[test]
fn the_word_goes_before_the_number_and_a_word_nobody_knows_leaves_it_to_the_number() {
    let balance = "OperationConstraints.AccountBalanceNotEnough";
    assert_eq!(judge(Some(balance), Some("4000")).1.class, Class::Blocked);
    let (word, judged) = judge(Some("InvalidParameter"), Some("5100"));
    assert_eq!((word, judged.class), (Some("5100"), Class::Unknown));
    let (word, judged) = judge(Some("NewWord"), Some("7654"));
    assert_eq!((word, judged.class), (Some("NewWord"), Class::Unknown));
}
