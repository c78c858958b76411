//! The languages of the screens.

use serde::{Deserialize, Serialize};

macro_rules! languages {
    ($($(#[$doc:meta])* $variant:ident => $code:literal,)*) => {
        /// A language of the screens.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
        pub enum Language {
            $($(#[$doc])* #[serde(rename = $code)] #[value(name = $code)] $variant,)*
        }

        impl Language {
            /// All languages.
            pub const ALL: &[Language] = &[$(Language::$variant,)*];

            /// Its code (ISO 639-1).
            pub fn code(self) -> &'static str {
                match self {
                    $(Language::$variant => $code,)*
                }
            }

            /// Its prepared strings.
            pub(super) fn prepared(self) -> &'static [u8] {
                match self {
                    $(Language::$variant => include_bytes!(concat!("../../../strings/", $code, ".prepared")),)*
                }
            }

            /// What they were prepared from.
            #[cfg(test)]
            pub(super) fn source(self) -> &'static str {
                match self {
                    $(Language::$variant => include_str!(concat!("../../../strings/", $code, ".toml")),)*
                }
            }
        }
    };
}

languages! {
    /// English
    #[default] English => "en",
    /// French
    French => "fr",
    /// Spanish
    Spanish => "es",
    /// Swahili
    Swahili => "sw",
    /// Hindi
    Hindi => "hi",
    /// Arabic
    Arabic => "ar",
}

impl Language {
    /// Whether lines run from right to left.
    pub fn is_right_to_left(self) -> bool {
        self == Language::Arabic
    }

    /// The language after this one, round and round.
    pub fn next(self) -> Language {
        let place = Language::ALL.iter().position(|l| *l == self).unwrap_or(0);
        Language::ALL[(place + 1) % Language::ALL.len()]
    }
}
