//! Lists that broke a promise once, in their shortest form.

use crate::campaign::run;
use crate::operation::Operation::{Advance, Balance, Crash, Refund};

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
