use super::*;
use serde_json::json;

crate::choice! { pub enum Scope { Global = "global", Layer = "layer" } }
crate::options! {
    /// Test options.
    pub struct Sample {
        /// How much.
        pub ratio: f64 = 0.5,
        /// Where.
        pub scope: Scope = Scope::Global,
        /// How often, or not at all.
        pub rounds: Option<usize> = None,
        /// Say so.
        #[replayed = null]
        pub told: Option<bool> = Some(true),
    }
}

#[test]
fn whole_numbers_serve_as_floats_and_defaults_fill_in() {
    let s: Sample = decode(json!({ "ratio": 1, "rounds": 3 })).unwrap();
    assert_eq!((s.ratio, s.scope, s.rounds), (1.0, Scope::Global, Some(3)));
}

#[test]
fn errors_name_option_kind_and_nearest() {
    let text = |v| decode::<Sample>(v).unwrap_err().to_string();
    assert_eq!(text(json!({ "ratoi": 1 })), "unknown option 'ratoi'\n  help: did you mean 'ratio'?");
    assert_eq!(text(json!({ "ratio": "x" })), "option 'ratio' expects number, got \"x\"");
    assert_eq!(
        text(json!({ "scope": "globle" })),
        "option 'scope' expects \"global\" or \"layer\", got \"globle\"\n  help: did you mean \"global\"?"
    );
    assert_eq!(text(json!({ "rounds": -1 })), "option 'rounds' expects whole number, got -1");
    assert!(text(json!(3)).contains("options must be a map"));
}

#[test]
fn only_changed_options_are_kept() {
    let s = Sample { ratio: 0.25, told: Some(false), ..Sample::default() };
    assert_eq!(serde_json::Value::Object(changed(&s)), json!({ "ratio": 0.25 }));
    assert!(changed(&Sample::default()).is_empty());
    // What no result depends on is not recorded, and has a value of its own when the call is run again.
    assert_eq!(replayed::<Sample>(changed(&s)), json!({ "ratio": 0.25, "told": null }));
    let outer = Outer { sample: s, ..Outer::default() };
    assert_eq!(replayed::<Outer>(changed(&outer)), json!({ "ratio": 0.25, "scope": "global", "told": null }));
}

#[test]
fn ranges_reject_nan() {
    assert!(in_range("ratio", 0.5, 0.0..1.0).is_ok());
    let e = in_range("ratio", f64::NAN, 0.0..1.0).unwrap_err();
    assert_eq!(e.to_string(), "option 'ratio' must be at least 0 and below 1, got NaN");
    let hint = |value, range: std::ops::Range<f64>| in_range("ratio", value, range).unwrap_err().suggestion().map(str::to_string);
    assert_eq!(hint(30.0, 0.0..1.0).as_deref(), Some("it is a share: 30 % is 0.3"));
    assert_eq!((hint(130.0, 0.0..1.0), hint(30.0, 0.0..10.0), hint(1.0, 0.5..1.0)), (None, None, None));
}

crate::options! {
    /// Test options that take in others.
    pub struct Outer {
        /// How hard.
        pub force: f64 = 1.0,
        ..sample: Sample = Sample { scope: Scope::Layer, ..Sample::default() },
    }
}

#[test]
fn options_of_another_struct_are_decoded_and_named_like_own_ones() {
    let o: Outer = decode(json!({ "rounds": 2, "force": 3 })).unwrap();
    assert_eq!((o.force, o.sample.ratio, o.sample.scope, o.sample.rounds), (3.0, 0.5, Scope::Layer, Some(2)));
    assert_eq!(Outer::FIELDS.iter().map(|f| f.name).collect::<Vec<_>>(), ["force", "ratio", "scope", "rounds", "told"]);
    assert_eq!(Outer::FIELDS[2].default(), json!("layer"), "a default that the outer struct sets");
    let text = |v| decode::<Outer>(v).unwrap_err().to_string();
    assert_eq!(text(json!({ "ratoi": 1 })), "unknown option 'ratoi'\n  help: did you mean 'ratio'?");
    assert_eq!(text(json!({ "ratio": "x" })), "option 'ratio' expects number, got \"x\"");
    assert_eq!(text(json!({ "force": [] })).lines().next(), Some("option 'force' expects number, got []"));
    let given = Outer { force: 2.0, sample: Sample { scope: Scope::Global, ..Sample::default() } };
    assert_eq!(Value::Object(changed(&given)), json!({ "force": 2.0, "scope": "global" }));
    assert!(changed(&Outer::default()).is_empty());
    assert!(serde_json::from_value::<Outer>(json!({ "strange": 1 })).is_err());
}
