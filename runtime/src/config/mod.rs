//! Typed configuration: a file, over it the environment, over it flags; what is not known is an error that names it.
//!
//! [`crate::config!`] declares structs with one doc comment, one type and one default a setting. The reference page, the
//! example file and `config --print` all come from that declaration, so none of them can rot.

mod layers;
mod page;
mod value;

pub use layers::{Layers, Origin};
pub use page::{example, print, reference};
pub use value::{ByteSize, Secret, Value};

/// One setting, as [`crate::config!`] declares it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section and name, such as `log.level`.
    pub name: &'static str,
    /// The lines of the doc comment.
    pub doc: &'static [&'static str],
    /// The default, as one would write it.
    pub default: &'static str,
    /// What one can write, in a few words.
    pub kind: &'static str,
    /// Never shown, and can be given by file.
    pub secret: bool,
}

impl Key {
    /// The environment variable, such as `HUBBUB_LOG_LEVEL`.
    pub fn variable(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// Why a configuration is refused. Each is one sentence that names the place and the setting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read the configuration file {path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {message}")]
    NotToml {
        /// Which.
        path: String,
        /// Where and why.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin} sets `{key}`, which is no setting{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// Who says so.
        origin: Origin,
        /// As written.
        key: String,
        /// The setting that is written most alike.
        nearest: Option<String>,
    },
    /// The value does not fit.
    #[error("{origin} sets `{key}` to {value}: {message}")]
    Unfit {
        /// Who says so.
        origin: Origin,
        /// Which setting.
        key: String,
        /// The value, or dots for a secret.
        value: String,
        /// What would fit.
        message: String,
    },
}

/// Declares a configuration: sections of settings, each with a doc comment, a type that is a [`Value`] and a default as text.
///
/// Makes the structs, `KEYS`, `from_layers` and `texts`.
#[macro_export]
macro_rules! config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $section_doc:literal])+
                $section:ident: $section_type:ident {
                    $(
                        $(#[doc = $doc:literal])+
                        $field:ident: $type:ty = $default:literal,
                    )*
                }
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $section_doc])+ pub $section: $section_type,)*
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            #[allow(clippy::struct_field_names, reason = "a setting is named for those who write it")]
            pub struct $section_type {
                $($(#[doc = $doc])+ pub $field: $type,)*
            }
        )*

        impl $name {
            /// Every setting, in the order of declaration.
            pub const KEYS: &'static [$crate::config::Key] = &[
                $($($crate::config::Key {
                    name: concat!(stringify!($section), ".", stringify!($field)),
                    doc: &[$($doc),+],
                    default: $default,
                    kind: <$type as $crate::config::Value>::KIND,
                    secret: <$type as $crate::config::Value>::SECRET,
                },)*)*
            ];

            /// Every section with its doc comment.
            pub const SECTIONS: &'static [(&'static str, &'static [&'static str])] =
                &[$((stringify!($section), &[$($section_doc),+]),)*];

            /// What the layers say, checked.
            pub fn from_layers(layers: &$crate::config::Layers) -> Result<Self, $crate::config::Error> {
                Ok(Self {
                    $($section: $section_type {
                        $($field: layers.get(concat!(stringify!($section), ".", stringify!($field)))?,)*
                    },)*
                })
            }
        }
    };
}
