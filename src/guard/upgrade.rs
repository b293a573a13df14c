//! What an upgrade must pass: a readable size, something left to change, nothing shrunk unasked, nobody at work.

use super::{Decision, Question, at_work, fail, gone, look_again};
use crate::domain::failure::{Class, Failure};
use crate::domain::observation::{Facts, InstanceState};
use crate::domain::policy::Upgrade;
use crate::domain::upgrade::Resize;

pub(super) fn upgrade(
    question: &Question<'_>,
    wanted: &Upgrade,
    facts: &Facts,
    test: &mut impl FnMut(&'static str, String, Result<(), Decision>) -> Result<(), Decision>,
) -> Result<(), Decision> {
    let Some(spec) = facts.spec else {
        return test("size", "unreadable".to_owned(), Err(no_size(question)));
    };
    let resizes = wanted.resizes(spec);
    test("size", words(&resizes), something_to_change(&resizes))?;
    test("shrinking", shrinking_words(wanted), allowed(wanted, &resizes))?;
    test("state", facts.state.as_str().to_owned(), at_rest(question, facts))
}

fn no_size(question: &Question<'_>) -> Decision {
    let reason = "the cloud shows no readable size, so nobody can say what to change".to_owned();
    let failure = Failure::ours(Class::Unavailable, "NoSize", &reason);
    look_again(question, reason, Some(failure))
}

fn words(resizes: &[Resize]) -> String {
    let each: Vec<String> = resizes.iter().map(ToString::to_string).collect();
    if each.is_empty() { "as the policy wants it".to_owned() } else { each.join(", ") }
}

fn something_to_change(resizes: &[Resize]) -> Result<(), Decision> {
    if resizes.is_empty() {
        return Err(Decision::Skip { reason: "it has the wanted size already".to_owned() });
    }
    Ok(())
}

fn shrinking_words(wanted: &Upgrade) -> String {
    format!("allow_shrink = {}", wanted.allow_shrink)
}

/// All of it or nothing: half an upgrade is nobody's wish.
fn allowed(wanted: &Upgrade, resizes: &[Resize]) -> Result<(), Decision> {
    match resizes.iter().find(|resize| resize.shrinks()) {
        Some(resize) if !wanted.allow_shrink => Err(fail(
            "ShrinkNotAllowed",
            format!(
                "{resize} would shrink it: write allow_shrink = true if that is meant, or correct the size"
            ),
        )),
        _ => Ok(()),
    }
}

/// The cloud changes the size of running instances only.
fn at_rest(question: &Question<'_>, facts: &Facts) -> Result<(), Decision> {
    match &facts.state {
        InstanceState::Running | InstanceState::Other(_) => Ok(()),
        InstanceState::Busy => Err(at_work(question)),
        InstanceState::Gone => Err(gone()),
        InstanceState::Isolated => {
            let reason = "it is isolated for lack of renewal: it is upgraded once it is renewed".to_owned();
            let failure = Failure::ours(Class::Blocked, "Isolated", &reason);
            Err(look_again(question, reason, Some(failure)))
        }
    }
}

#[cfg(test)]
mod tests;
