//! Mistakes and warnings with their place, and how they are shown.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake or warning: what is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub place: Place,
    /// The other place of a clash, with what it is.
    pub related: Option<(Place, String)>,
    pub help: Option<String>,
}

/// A file, and where in it; no spot when the file as a whole is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub spot: Option<Spot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line as it may be shown: what may be a secret is masked, and a long line is cut around the place.
    pub text: Arc<str>,
    /// The offending bytes of `text`.
    pub mark: Range<usize>,
}

impl Spot {
    /// Whether the line is not shown from its beginning.
    fn is_cut(&self) -> bool {
        self.text[..self.mark.start].chars().count() + 1 != self.column
    }
}

/// Beyond these, each is shown on a line of its own without its piece of the file.
const SHOWN_IN_FULL: usize = 200;

/// What a log line, or the row that `status` reads, holds of a refusal.
const LOGGED_BYTES: usize = 16 * 1024;

/// All mistakes of what was read, then its warnings, each in the order of files and lines. Never without a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Vec<Diagnostic>);

impl Diagnostic {
    /// Several lines, without a final newline; `styled` adds terminal colours.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        group = with_place(group, &self.place, AnnotationKind::Primary, None);
        if let Some((place, label)) = &self.related {
            group = with_place(group, place, AnnotationKind::Context, Some(label));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// The same on one line, without the piece of the file.
    fn render_short(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let spot = self.place.spot.as_ref().map(|spot| format!(":{}:{}", spot.line, spot.column));
        let help = self.help.as_ref().map(|help| format!("; {help}"));
        format!(
            "{severity}: {}{}: {}{}",
            self.place.file.display(),
            spot.unwrap_or_default(),
            self.message,
            help.unwrap_or_default()
        )
    }
}

fn with_place<'a>(
    group: Group<'a>,
    place: &'a Place,
    kind: AnnotationKind,
    label: Option<&'a String>,
) -> Group<'a> {
    let path = place.file.to_string_lossy();
    match &place.spot {
        None => group.element(Origin::path(path)),
        Some(spot) => {
            let annotation = kind.span(spot.mark.clone()).label(label.map(String::as_str));
            let snippet = Snippet::source(&*spot.text).line_start(spot.line).annotation(annotation);
            if !spot.is_cut() {
                return group.element(snippet.path(path));
            }
            // The snippet would count the column from where the line is cut.
            let origin = Origin::path(path).line(spot.line).char_column(spot.column);
            group.element(origin).element(snippet)
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Refusal {
    pub(crate) fn of_one(mistake: Box<Diagnostic>) -> Refusal {
        Refusal(vec![*mistake])
    }

    /// Gives the warnings back when there is no mistake among them.
    pub(crate) fn unless_only_warnings(mut diagnostics: Vec<Diagnostic>) -> Result<Vec<Diagnostic>, Refusal> {
        if diagnostics.iter().all(|found| found.severity == Severity::Warning) {
            return Ok(diagnostics);
        }
        let mut file_order = HashMap::new();
        for found in &diagnostics {
            let next = file_order.len();
            file_order.entry(Arc::clone(&found.place.file)).or_insert(next);
        }
        diagnostics.sort_by_key(|found| {
            let spot = found.place.spot.as_ref().map(|spot| (spot.line, spot.column));
            (found.severity == Severity::Warning, file_order.get(&found.place.file).copied(), spot)
        });
        Err(Refusal(diagnostics))
    }

    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }

    pub fn mistakes(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|found| found.severity == Severity::Error)
    }

    /// All of it, the first ones with their piece of the file.
    pub fn render(&self, styled: bool) -> String {
        let (in_full, short) = self.0.split_at(self.0.len().min(SHOWN_IN_FULL));
        let mut text: String = in_full.iter().map(|found| found.render(styled) + "\n\n").collect();
        text.extend(short.iter().map(|found| found.render_short() + "\n"));
        text + &self.count()
    }

    /// As much of it as a log line should hold.
    pub fn render_for_log(&self) -> String {
        let (mut text, count) = (String::new(), self.count());
        for (shown, found) in self.0.iter().enumerate() {
            let piece = found.render(false) + "\n\n";
            let more = format!("… and {} more: `renewd check` shows all\n", self.0.len() - shown);
            if text.len() + piece.len() + more.len() + count.len() > LOGGED_BYTES {
                text.push_str(&more);
                break;
            }
            text.push_str(&piece);
        }
        text + &count
    }

    fn count(&self) -> String {
        let counted =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mistakes = self.mistakes().count();
        match self.0.len() - mistakes {
            0 => counted(mistakes, "mistake"),
            warnings => format!("{}, {}", counted(mistakes, "mistake"), counted(warnings, "warning")),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render_for_log())
    }
}

impl std::error::Error for Refusal {}
