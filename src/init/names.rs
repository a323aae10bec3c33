//! One list of names for an enum that people type in flags and read in files.

/// A name that stands for none of the values it could have meant.
///
/// Its message says what was looked for, what was found, and what there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`; the names are: {}", .names.join(", "))]
pub struct UnknownName {
    /// What kind of thing was to be named, for example `initialisation`.
    pub what: &'static str,
    /// The name as it was given.
    pub found: String,
    /// Every name there is.
    pub names: &'static [&'static str],
}

/// Gives a fieldless enum one name a variant: `ALL`, `Display`, `FromStr` and serde all go by that list.
///
/// The lab uses it too; it is no part of the public interface.
#[doc(hidden)]
#[macro_export]
macro_rules! names {
    ($type:ident, $what:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Every variant, in the order of its declaration.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The names of [`ALL`](Self::ALL), in the same order.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($name),+];
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $name),+
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::init::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err($crate::init::UnknownName {
                        what: $what,
                        found: name.to_owned(),
                        names: &Self::NAMES,
                    }),
                }
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <String as serde::Deserialize>::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
