//! The commented examples of `config/`: what a package installs, what the manual shows, and what a test reads with
//! every comment sign taken off its settings.

/// As `/etc/renewd/renewd.toml`.
pub const MAIN_FILE: &str = include_str!("../../config/renewd.toml");

/// As `/etc/renewd/policies.d/NAME`.
pub const POLICY_FILES: [(&str, &str); 4] = [
    ("redis.toml", include_str!("../../config/policies.d/redis.toml")),
    ("cvm.toml", include_str!("../../config/policies.d/cvm.toml")),
    ("ecs.toml", include_str!("../../config/policies.d/ecs.toml")),
    ("upgrade.toml", include_str!("../../config/policies.d/upgrade.toml")),
];

/// A line of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'t> {
    Blank,
    /// A sentence or a piece of one, without its comment sign.
    Prose(&'t str),
    /// An explanation whose blanks mean something, without its comment sign.
    Layout(&'t str),
    /// In force, or behind a comment sign; without it here.
    Setting {
        text: &'t str,
        is_in_force: bool,
    },
}

pub fn lines(example: &str) -> impl Iterator<Item = Line<'_>> {
    example.lines().map(line)
}

/// The example with all that it shows in force.
pub fn with_every_setting(example: &str) -> String {
    let settings = lines(example).map(|line| match line {
        Line::Setting { text, .. } => text,
        Line::Blank | Line::Prose(_) | Line::Layout(_) => "",
    });
    settings.collect::<Vec<_>>().join("\n")
}

fn line(text: &str) -> Line<'_> {
    let Some(comment) = text.strip_prefix('#') else {
        return if text.is_empty() { Line::Blank } else { Line::Setting { text, is_in_force: true } };
    };
    let comment = comment.strip_prefix(' ').unwrap_or(comment);
    match comment {
        "" => Line::Blank,
        setting if is_setting(setting) => Line::Setting { text: setting, is_in_force: false },
        layout if layout.starts_with(' ') => Line::Layout(layout),
        prose => Line::Prose(prose),
    }
}

fn is_setting(text: &str) -> bool {
    let key = text.split_once('=').map_or("", |(key, _)| key.trim());
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let is_key = !key.is_empty() && key.trim_matches('"').chars().all(is_name);
    (text.starts_with('[') && text.ends_with(']')) || is_key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_from_prose_behind_a_comment_sign_or_not() {
        let example = "# Says what it is.\n#   auto   by itself\n\n[log]\n# level = \"info\"   # more\n# \"a:B\" = 1\n# [http]\n#";
        let read: Vec<Line<'_>> = lines(example).collect();
        let setting = |text, is_in_force| Line::Setting { text, is_in_force };
        assert_eq!(
            read,
            [
                Line::Prose("Says what it is."),
                Line::Layout("  auto   by itself"),
                Line::Blank,
                setting("[log]", true),
                setting("level = \"info\"   # more", false),
                setting("\"a:B\" = 1", false),
                setting("[http]", false),
                Line::Blank,
            ]
        );
        assert_eq!(
            with_every_setting(example).replace('\n', ""),
            "[log]level = \"info\"   # more\"a:B\" = 1[http]"
        );
    }
}
