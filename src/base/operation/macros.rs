//! The macros that write options.

/// Writes an options struct with defaults, serde form and documented fields. See the module's example.
///
/// A last entry `..name: Type = defaults` takes in all options of another struct: scripts, help and completion see them as
/// its own, Rust reads them in the field `name`.
///
/// ```
/// compresso_base::options! {
///     /// Options that others take in.
///     pub struct Inner {
///         /// How often.
///         pub rounds: usize = 3,
///     }
/// }
/// compresso_base::options! {
///     /// Options of a made-up operation.
///     pub struct Outer {
///         /// How much.
///         pub ratio: f64 = 0.5,
///         ..inner: Inner = Inner { rounds: 9 },
///     }
/// }
/// use compresso_base::operation::{Options, changed, decode};
/// let given: Outer = decode(serde_json::json!({ "ratio": 0.25, "rounds": 1 })).unwrap();
/// assert_eq!((given.ratio, given.inner.rounds), (0.25, 1));
/// assert_eq!(Outer::FIELDS[1].default(), 9);
/// assert!(changed(&Outer::default()).is_empty());
/// ```
///
/// `#[replayed = value]` marks an option on which what the operation makes does not depend: how much is told, how many threads, where a
/// state is kept. Recipes do not record it, so it is no part of their hashes, and a recipe that is run again has this value for it.
///
/// ```
/// compresso_base::options! {
///     /// Options of a made-up operation.
///     pub struct Stir {
///         /// How often.
///         pub rounds: usize = 3,
///         /// Tell each round.
///         #[replayed = false]
///         pub told: bool = true,
///     }
/// }
/// use compresso_base::operation::{changed, replayed};
/// let recorded = changed(&Stir { rounds: 5, told: false });
/// assert_eq!(serde_json::json!(recorded), serde_json::json!({ "rounds": 5 }));
/// assert_eq!(replayed::<Stir>(recorded), serde_json::json!({ "rounds": 5, "told": false }));
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $(#[replayed = $replayed:tt])? pub $field:ident : $ty:ty = $default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
        impl $crate::operation::Options for $name {
            const FIELDS: &'static [$crate::operation::Field] = &[
                $( $crate::operation::Field {
                    name: stringify!($field),
                    kind: <$ty as $crate::operation::OptionValue>::KIND,
                    doc: $crate::operation::trim_doc(concat!($($doc, "\n"),+)),
                    default: |_| serde_json::to_value::<$ty>($default).unwrap_or(serde_json::Value::Null),
                    replayed: $crate::replayed_as!($($replayed)?),
                }, )*
            ];
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $(#[replayed = $replayed:tt])? pub $field:ident : $ty:ty = $default:expr, )*
            ..$inner:ident : $inner_ty:ty = $inner_default:expr,
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Serialize)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            #[doc = concat!("The options that it shares with [`", stringify!($inner_ty), "`].")]
            #[serde(flatten)]
            pub $inner: $inner_ty,
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $inner: $inner_default }
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(default, deny_unknown_fields)]
                struct Own { $( $field: $ty, )* }
                impl Default for Own {
                    fn default() -> Self {
                        Self { $( $field: $default, )* }
                    }
                }
                let (own, $inner) = $crate::operation::spliced::<D, Own, $inner_ty>(from, &$inner_default)?;
                Ok(Self { $( $field: own.$field, )* $inner })
            }
        }
        impl $crate::operation::Options for $name {
            const FIELDS: &'static [$crate::operation::Field] = {
                const OWN: &[$crate::operation::Field] = &[
                    $( $crate::operation::Field {
                        name: stringify!($field),
                        kind: <$ty as $crate::operation::OptionValue>::KIND,
                        doc: $crate::operation::trim_doc(concat!($($doc, "\n"),+)),
                        default: |_| serde_json::to_value::<$ty>($default).unwrap_or(serde_json::Value::Null),
                        replayed: $crate::replayed_as!($($replayed)?),
                    }, )*
                ];
                const INNER: &[$crate::operation::Field] = <$inner_ty as $crate::operation::Options>::FIELDS;
                const ALL: [$crate::operation::Field; OWN.len() + INNER.len()] = $crate::operation::splice(
                    OWN,
                    INNER,
                    |name| $crate::operation::default_of::<$inner_ty>(&$inner_default, name),
                );
                &ALL
            };
        }
    };
}

/// What an option is when a recipe is run again, of the mark that it has or has not.
#[doc(hidden)]
#[macro_export]
macro_rules! replayed_as {
    () => {
        None
    };
    ($value:tt) => {
        Some(|| serde_json::json!($value))
    };
}

/// Writes an enum whose variants are words in scripts, usable as an option.
///
/// ```
/// compresso_base::choice! {
///     /// Where something counts.
///     pub enum Scope { Global = "global", Layer = "layer" }
/// }
/// assert_eq!(serde_json::to_value(Scope::Global).unwrap(), "global");
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$vmeta])* #[serde(rename = $word)] $variant ),+ }
        impl $crate::operation::OptionValue for $name {
            const KIND: $crate::operation::OptionKind = $crate::operation::OptionKind::Choice(&[$($word),+]);
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $( Self::$variant => $word ),+ })
            }
        }
    };
}
