//! Names of enum variants, for command-line flags and files.

/// The error for a name that no variant has.
///
/// The message says what was expected, what was found, and which names are valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`; valid names are: {}", .names.join(", "))]
pub struct UnknownName {
    /// The kind of thing that the name should name, such as `initialisation`.
    pub what: &'static str,
    /// The unknown name.
    pub found: String,
    /// All valid names.
    pub names: &'static [&'static str],
}

/// Gives each variant of a fieldless enum a name. Implements `ALL`, `NAMES`, `Display`, `FromStr` and serde with these
/// names.
///
/// Not part of the public interface: exported only for the lab.
#[doc(hidden)]
#[macro_export]
macro_rules! names {
    ($type:ident, $what:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// All variants, in the order of declaration.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The names of all variants, in the order of [`ALL`](Self::ALL).
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
