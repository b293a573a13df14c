//! Lists that broke a promise once, in their shortest form.

use crate::campaign::run;
use crate::operation::Edit;
use crate::operation::Operation::{Advance, Balance, Crash, Edit as Change, Refund, Retire};

#[test]
fn a_term_that_is_taken_back_and_paid_again_does_not_stand_in_for_the_next_one() {
    let list = [
        Crash { waits: 100, seconds: 777_600 },
        Advance { seconds: 604_800 },
        Balance { account: 2, cny: 350 },
        Refund { instance: 6 },
        Advance { seconds: 1_641_600 },
    ];
    assert_eq!(run(7, &list).err(), None);
}

#[test]
fn a_policy_back_on_a_schedule_that_another_kept_going_and_left_is_owed_what_fired_meanwhile() {
    let list = [
        Advance { seconds: 70_705 },
        Change { policy: 31, edit: Edit::Rename },
        Advance { seconds: 172_800 },
        Retire { policy: 24 },
    ];
    assert_eq!(run(10_254, &list).err(), None);
}
