//! What may stand once in the whole set and stands there twice: the name of a policy, an instance under one action.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Place, Severity};
use crate::config::policy::{Draft, Span};
use crate::config::reader::{Findings, quoted};
use crate::config::reopened::Reopened;
use crate::config::source::SourceFile;
use crate::domain::policy::ActionKind;
use crate::domain::product::{InstanceId, PolicyName, Provider, Region};

/// Names and instances seen so far, over all files. No file stays in memory for it: the first place of a clash is
/// read again if there is one.
pub(crate) struct Clashes<'f> {
    findings: &'f Findings,
    policies: Vec<Seen>,
    names: HashMap<PolicyName, Mention>,
    /// Without the region: a vendor gives an id once, so in a second region it is a slip of the pen.
    instances: HashMap<(Provider, ActionKind, InstanceId), Mention>,
    reopened: Reopened,
}

/// What messages say of a policy.
struct Seen {
    file: Arc<Path>,
    title: String,
    /// In its long form.
    region: Option<Region>,
}

#[derive(Clone, Copy)]
struct Mention {
    /// Of `policies`.
    policy: u32,
    span: Span,
}

/// What is wrong with two mentions of the same.
struct Clash {
    message: String,
    label: String,
    help: &'static str,
}

impl<'f> Clashes<'f> {
    pub(crate) fn new(findings: &'f Findings) -> Self {
        Clashes {
            findings,
            policies: Vec::new(),
            names: HashMap::new(),
            instances: HashMap::new(),
            reopened: Reopened::default(),
        }
    }

    pub(crate) fn look_at(&mut self, file: &SourceFile, draft: &Draft) {
        let policy = u32::try_from(self.policies.len()).unwrap_or(u32::MAX);
        let region = draft.product.zip(draft.region.as_ref());
        self.policies.push(Seen {
            file: file.shared_path(),
            title: draft.title.clone(),
            region: region.map(|(product, region)| region.long_form(product)),
        });
        if let Some(name) = &draft.name {
            let second = Mention { policy, span: draft.name_span };
            match self.names.get(name).copied() {
                None => drop(self.names.insert(name.clone(), second)),
                Some(first) => self.note(file, second, first, name.as_str(), name_clash(&draft.title)),
            }
        }
        let (Some(product), Some(_), Some(action)) = (draft.product, &draft.region, draft.action) else {
            return;
        };
        for (instance, span) in draft.instances.iter().zip(&draft.spans) {
            let second = Mention { policy, span: *span };
            let key = (product.provider(), action, instance.clone());
            match self.instances.get(&key).copied() {
                None => drop(self.instances.insert(key, second)),
                // A whole table that stands there twice is one mistake.
                Some(first) if draft.name.is_none() && self.is_same_but_for_place(first, second) => {}
                Some(first) => {
                    let clash = self.instance_clash(second, first, action, instance);
                    self.note(file, second, first, instance.as_str(), clash);
                }
            }
        }
    }

    fn is_same_but_for_place(&self, first: Mention, second: Mention) -> bool {
        let title = |mention: Mention| self.policies[mention.policy as usize].title.as_str();
        first.policy != second.policy && title(first) == title(second)
    }

    fn instance_clash(
        &self,
        second: Mention,
        first: Mention,
        action: ActionKind,
        instance: &InstanceId,
    ) -> Clash {
        let id = quoted(instance.as_str());
        let (one, other) = (&self.policies[first.policy as usize], &self.policies[second.policy as usize]);
        let both = format!("policies {} and {} both {} {id}", one.title, other.title, action.as_str());
        let first_here = "first here".to_owned();
        match (&one.region, &other.region) {
            _ if first.policy == second.policy => {
                Clash { message: format!("{id} is listed twice"), label: first_here, help: "remove one" }
            }
            (Some(there), Some(here)) if there != here => Clash {
                message: format!("{both}, in {there} and in {here}"),
                label: format!("first here, in {there}"),
                help: "an id exists in one region only: keep it where the console shows it",
            },
            _ => Clash {
                message: both,
                label: first_here,
                help: "one instance belongs to one policy of an action: take it out of one list",
            },
        }
    }

    /// `what` stands at both places.
    fn note(&mut self, file: &SourceFile, second: Mention, first: Mention, what: &str, clash: Clash) {
        let there = Arc::clone(&self.policies[first.policy as usize].file);
        let related = match there == file.shared_path() {
            true => file.place(first.span.into()),
            false => self.place_in(there, first.span.into(), what),
        };
        self.findings.note(Diagnostic {
            severity: Severity::Error,
            message: clash.message,
            place: file.place(second.span.into()),
            related: Some((related, clash.label)),
            help: Some(clash.help.to_owned()),
        });
    }

    /// Only the file where `what` does not stand there any more.
    fn place_in(&mut self, path: Arc<Path>, span: Range<usize>, what: &str) -> Place {
        let file = self.reopened.file(&path);
        let still_there =
            |file: &&SourceFile| file.text().get(span.clone()).is_some_and(|text| text.contains(what));
        match file.filter(still_there) {
            Some(file) => file.place(span),
            None => Place { file: path, spot: None },
        }
    }
}

fn name_clash(title: &str) -> Clash {
    Clash {
        message: format!("there are two policies named {title}"),
        label: "first here".to_owned(),
        help: "a name is unique over all files: rename one",
    }
}
