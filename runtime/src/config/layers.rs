//! What each layer says, and which one wins.

use super::{Error, Key, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "the environment variable {variable}"),
            Self::Flag(flag) => write!(f, "the flag {flag}"),
        }
    }
}

/// The layers, merged: defaults, then whatever is read, each over what was read before.
#[derive(Clone, Debug)]
pub struct Layers {
    keys: &'static [Key],
    said: BTreeMap<&'static str, (String, Origin)>,
}

impl Layers {
    /// Only defaults.
    pub fn new(keys: &'static [Key]) -> Self {
        let said = keys.iter().map(|key| (key.name, (key.default.to_owned(), Origin::Default))).collect();
        Self { keys, said }
    }

    /// Reads a TOML file over what is there.
    pub fn read_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.display().to_string(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Error::NotToml {
            path: path.display().to_string(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let mut flat = Vec::new();
        flatten("", &table, &mut flat);
        for (key, value) in flat {
            self.say(&key, value, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    /// Reads the variables that start with `prefix`, such as `HUBBUB_`. A secret's variable also comes with `_FILE` behind it
    /// and then names a file that holds it. `others` are variables with that prefix that are no settings.
    pub fn read_environment(
        &mut self,
        prefix: &str,
        others: &[&str],
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Error> {
        for (variable, value) in variables {
            if !variable.starts_with(prefix)
                || others.contains(&variable.as_str())
                || is_service_link(&variable, prefix)
            {
                continue;
            }
            let origin = Origin::Environment(variable.clone());
            let key = self.keys.iter().find(|key| key.variable(prefix) == variable);
            if let Some(key) = key {
                self.said.insert(key.name, (value, origin));
                continue;
            }
            let by_file = variable.strip_suffix("_FILE").unwrap_or(&variable);
            if let Some(key) = self.keys.iter().find(|key| key.secret && key.variable(prefix) == by_file) {
                let secret =
                    std::fs::read_to_string(&value).map_err(|source| Error::Unreadable { path: value, source })?;
                self.said.insert(key.name, (secret, origin));
                continue;
            }
            let names: Vec<String> = self.keys.iter().map(|key| key.variable(prefix)).collect();
            return Err(Error::Unknown {
                origin: Origin::Environment(variable.clone()),
                nearest: nearest(&variable, &names),
                key: variable,
            });
        }
        Ok(())
    }

    /// Takes what a flag says.
    pub fn say(&mut self, key: &str, value: String, origin: Origin) -> Result<(), Error> {
        let Some(known) = self.keys.iter().find(|known| known.name == key) else {
            let names: Vec<String> = self.keys.iter().map(|key| key.name.to_owned()).collect();
            return Err(Error::Unknown { origin, key: key.to_owned(), nearest: nearest(key, &names) });
        };
        self.said.insert(known.name, (value, origin));
        Ok(())
    }

    /// A setting of a type.
    pub fn get<T: Value>(&self, name: &'static str) -> Result<T, Error> {
        let (text, origin) = &self.said[name];
        T::read(text).map_err(|message| Error::Unfit {
            origin: origin.clone(),
            key: name.to_owned(),
            value: if T::SECRET { "…".to_owned() } else { format!("{text:?}") },
            message,
        })
    }

    /// The keys with what is said about each, and by whom.
    pub fn effective(&self) -> impl Iterator<Item = (&'static Key, &str, &Origin)> {
        self.keys.iter().map(|key| {
            let (text, origin) = &self.said[key.name];
            (key, text.as_str(), origin)
        })
    }
}

/// Kubernetes puts the addresses of a service called `hubbub` into `HUBBUB_SERVICE_…` and `HUBBUB_PORT…`: nobody's setting.
fn is_service_link(variable: &str, prefix: &str) -> bool {
    let rest = &variable[prefix.len()..];
    rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_")
}

fn flatten(above: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, into),
            value => into.push((key, as_text(value))),
        }
    }
}

fn as_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The name that is written most alike, if any is alike enough to be meant.
fn nearest(written: &str, names: &[String]) -> Option<String> {
    let best = names.iter().map(|name| (distance(written, name), name)).min()?;
    (best.0 <= written.len().max(6) / 2).then(|| best.1.clone())
}

/// How many letters to insert, remove or replace to come from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "an example has more than each test looks at")]
mod tests {
    use super::*;
    use crate::config::Secret;
    use std::time::Duration;

    crate::config! {
        /// An example.
        pub struct Example {
            /// Where it listens.
            server: ServerExample {
                /// On which port.
                port: u16 = "8080",
                /// How long it drains.
                drain: Duration = "10 s",
            }
            /// Who may.
            auth: AuthExample {
                /// The key.
                key: Secret = "",
                /// Exact origins.
                origins: Vec<String> = "",
            }
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), text).expect("it can be written");
        file
    }

    fn variables(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_file_which_wins_over_defaults() {
        let file = file("[server]\nport = 1\ndrain = \"1 s\"\n[auth]\norigins = [\"a\", \"b\"]\n");
        let mut layers = Layers::new(Example::KEYS);
        assert_eq!(layers.get::<u16>("server.port").expect("the default fits"), 8080);
        layers.read_file(file.path()).expect("the file fits");
        assert_eq!(layers.get::<u16>("server.port").expect("it fits"), 1);
        layers.read_environment("X_", &[], variables(&[("X_SERVER_PORT", "2"), ("Y", "z")])).expect("it is known");
        assert_eq!(layers.get::<u16>("server.port").expect("it fits"), 2);
        layers.say("server.port", "3".into(), Origin::Flag("--port".into())).expect("it is known");
        let config = Example::from_layers(&layers).expect("all fits");
        assert_eq!((config.server.port, config.server.drain), (3, Duration::from_secs(1)));
        assert_eq!(config.auth.origins, ["a", "b"]);
    }

    #[test]
    fn an_unknown_key_is_refused_by_file_and_name_with_the_nearest_that_exists() {
        let file = file("[server]\nprot = 1\n");
        let error = Layers::new(Example::KEYS).read_file(file.path()).expect_err("there is no `prot`");
        let said = error.to_string();
        assert!(said.starts_with(&file.path().display().to_string()), "{said}");
        assert!(said.contains("`server.prot`") && said.contains("`server.port`"), "{said}");
    }

    #[test]
    fn an_unknown_variable_is_refused_but_a_service_link_is_nobodys_setting() {
        let mut layers = Layers::new(Example::KEYS);
        let links = variables(&[("X_SERVICE_HOST", "10.0.0.1"), ("X_PORT_80_TCP", "tcp://"), ("X_CONFIG", "f")]);
        layers.read_environment("X_", &["X_CONFIG"], links).expect("they are passed over");
        let error = layers.read_environment("X_", &[], variables(&[("X_SERVER_PROT", "1")])).expect_err("unknown");
        assert!(error.to_string().contains("`X_SERVER_PORT`"), "{error}");
    }

    #[test]
    fn a_secret_can_come_from_a_file_and_other_settings_cannot() {
        let key = file("hunter2\n");
        let path = key.path().display().to_string();
        let mut layers = Layers::new(Example::KEYS);
        layers.read_environment("X_", &[], variables(&[("X_AUTH_KEY_FILE", &path)])).expect("it is known");
        assert_eq!(layers.get::<Secret>("auth.key").expect("it fits").reveal(), Some("hunter2"));
        layers.read_environment("X_", &[], variables(&[("X_SERVER_PORT_FILE", &path)])).expect_err("no secret");
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_with_its_place_and_what_would_fit() {
        let mut layers = Layers::new(Example::KEYS);
        layers.read_environment("X_", &[], variables(&[("X_SERVER_DRAIN", "10")])).expect("it is known");
        let said = Example::from_layers(&layers).expect_err("no unit").to_string();
        assert!(said.contains("X_SERVER_DRAIN") && said.contains("server.drain") && said.contains("30 s"), "{said}");
    }
}
