//! A configuration for people: what is in force, an example file, a reference page.

use super::{Key, Layers};
use std::fmt::Write as _;

/// What is in force, as a file that says the same, with who said it. Secrets are dots.
pub fn print(layers: &Layers) -> String {
    let mut text = String::new();
    let mut section = "";
    for (key, value, origin) in layers.effective() {
        let (above, name) = parts(key);
        if above != section {
            let _ = writeln!(text, "{}[{above}]", if section.is_empty() { "" } else { "\n" });
            section = above;
        }
        let value = if key.secret && !value.is_empty() { "…" } else { value };
        let _ = writeln!(text, "{:<44} # {origin}", format!("{name} = {}", literal(key, value)));
    }
    text
}

/// A file with every setting at its default, explained and commented out.
pub fn example(keys: &[Key], sections: &[(&str, &[&str])]) -> String {
    let mut text = String::new();
    for (section, about) in sections {
        if !text.is_empty() {
            text.push('\n');
        }
        for line in *about {
            let _ = writeln!(text, "#{line}");
        }
        let _ = writeln!(text, "[{section}]");
        for key in keys.iter().filter(|key| parts(key).0 == *section) {
            for line in key.doc {
                let _ = writeln!(text, "#{line}");
            }
            let _ = writeln!(text, "#{} = {}", parts(key).1, literal(key, key.default));
        }
    }
    text
}

/// The sections of a reference page in Markdown.
pub fn reference(keys: &[Key], sections: &[(&str, &[&str])], prefix: &str) -> String {
    let mut text = String::new();
    for (section, about) in sections {
        let about: Vec<&str> = about.iter().map(|line| line.trim()).collect();
        let _ = writeln!(text, "\n## {section}\n\n{}\n", about.join(" "));
        text.push_str("| setting | environment | is | default | what it does |\n|---|---|---|---|---|\n");
        for key in keys.iter().filter(|key| parts(key).0 == *section) {
            let doc: Vec<&str> = key.doc.iter().map(|line| line.trim()).collect();
            let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
            let variable = key.variable(prefix);
            let variable =
                if key.secret { format!("`{variable}`, `{variable}_FILE`") } else { format!("`{variable}`") };
            let _ = writeln!(text, "| `{}` | {variable} | {} | {default} | {} |", key.name, key.kind, doc.join(" "));
        }
    }
    text
}

fn parts(key: &Key) -> (&'static str, &'static str) {
    key.name.split_once('.').expect("a setting stands in a section")
}

/// A value in TOML: bare if it is a number or a truth value, else quoted.
fn literal(key: &Key, value: &str) -> String {
    let bare = matches!(key.kind, "whole number" | "true or false") && !value.is_empty();
    if bare {
        return value.to_owned();
    }
    if key.kind == "list" {
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items: Vec<String> = items.map(quoted).collect();
        return format!("[{}]", items.join(", "));
    }
    quoted(value)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "an example has more than each test looks at")]
mod tests {
    use super::*;
    use crate::config::{Origin, Secret};

    crate::config! {
        /// An example.
        pub struct Example {
            /// About it all.
            all: AllExample {
                /// A number.
                count: u32 = "3",
                /// A list
                /// of words.
                words: Vec<String> = "a, b",
                /// Not for eyes.
                key: Secret = "",
            }
        }
    }

    #[test]
    fn what_is_printed_can_be_read_back_and_hides_secrets() {
        let mut layers = Layers::new(Example::KEYS);
        layers.say("all.key", "hunter2".into(), Origin::Flag("--key".into())).expect("it is known");
        let printed = print(&layers);
        assert!(printed.contains("# the flag --key") && !printed.contains("hunter2"), "{printed}");
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), &printed).expect("it can be written");
        let mut again = Layers::new(Example::KEYS);
        again.read_file(file.path()).expect("what is printed is a file");
        assert_eq!(Example::from_layers(&again).expect("it fits").all.words, ["a", "b"]);
    }

    #[test]
    fn the_example_without_its_comment_signs_is_the_defaults() {
        let example = example(Example::KEYS, Example::SECTIONS);
        let live: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), live).expect("it can be written");
        let mut layers = Layers::new(Example::KEYS);
        layers.read_file(file.path()).expect("the example is a file");
        assert_eq!(Example::from_layers(&layers).expect("it fits").all.count, 3);
    }

    #[test]
    fn the_reference_has_a_row_a_setting_with_its_variables() {
        let page = reference(Example::KEYS, Example::SECTIONS, "X_");
        assert!(
            page.contains("| `all.key` | `X_ALL_KEY`, `X_ALL_KEY_FILE` | secret | none | Not for eyes. |"),
            "{page}"
        );
        assert!(page.contains("| A list of words. |"), "{page}");
    }
}
