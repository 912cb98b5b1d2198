//! Patterns of names: what options such as `include` and `exclude` say.
//!
//! A pattern names a node, a value that a node makes, or a weight. It fits a name when it is the whole name or a run of its
//! parts, which `.` and `/` divide: `model.22` fits `model.22.cv1.conv.weight` and `/model.22/cv1/Conv`, not
//! `model.220.conv.weight`. `*` stands for any text, that of several parts too, `?` for one character.
//!
//! ```
//! use compresso_model::names::fits;
//! assert!(fits("model.2", "/model.2/cv1/Conv") && fits("cv1", "/model.2/cv1/Conv"));
//! assert!(!fits("model.2", "model.22.cv1.conv.weight"));
//! assert!(fits("model.*.conv", "model.22.cv1.conv.weight") && fits("model.?2", "model.22.cv1.conv.weight"));
//! ```

use compresso_base::error::{Error, Result, nearest};
use wildmatch::WildMatch;

/// True when the whole of `text` fits `pattern`, in which `*` stands for any text and `?` for one character.
pub fn glob(pattern: &str, text: &str) -> bool {
    WildMatch::new(pattern).matches(text)
}

/// True when `pattern` fits `name`: the whole of it or a run of its parts. An empty pattern fits nothing.
pub fn fits(pattern: &str, name: &str) -> bool {
    let wanted = parts(pattern);
    if wanted.is_empty() {
        return false;
    }
    let (wanted, name) = (WildMatch::new(&wanted), parts(name));
    let starts = || std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    let ends = || name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    starts().any(|from| ends().filter(|&to| to >= from).any(|to| wanted.matches(&name[from..to])))
}

/// A name's parts with `.` between them.
fn parts(name: &str) -> String {
    name.split(['.', '/']).filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".")
}

/// Which of some things a pattern of an option fits, with words as for [`Patterns::choose`].
///
/// # Errors
/// `Missing` for one that fits none, with the nearest name.
pub fn found(option: &str, pattern: &str, names: &[Vec<&str>], what: &str, list: &str) -> Result<Vec<bool>> {
    let all: Vec<bool> = names.iter().map(|of| of.iter().any(|name| fits(pattern, name))).collect();
    if all.contains(&true) {
        return Ok(all);
    }
    let e = Error::missing(format!("option '{option}': '{pattern}' matches no {what}"));
    Err(match nearest(pattern, names.iter().flatten().copied()) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None => e.hint(format!("{list}; * stands for any text")),
    })
}

/// What the two lists of patterns say of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is meant: a pattern of `include` fits it, or there is none there, and none of `exclude` does.
    Chosen,
    /// A pattern of `exclude` fits it.
    Excluded,
    /// There are patterns in `include`, and none fits it.
    NotIncluded,
}

/// The options `include` and `exclude` of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Patterns<'a> {
    /// Only what one of these fits is chosen; everything when there is none.
    pub include: &'a [String],
    /// What one of these fits is not chosen.
    pub exclude: &'a [String],
}

impl Patterns<'_> {
    /// What is said of each of some things. `names` has all names of each, the one that reports call it by first; `what`
    /// says in an error what the things are ("layer that can be pruned"), `list` what shows their names.
    ///
    /// # Errors
    /// `Missing` for a pattern that fits none of the names, with the nearest one.
    pub fn choose(&self, names: &[Vec<&str>], what: &str, list: &str) -> Result<Vec<Choice>> {
        let options = [("include", self.include), ("exclude", self.exclude)];
        for (option, pattern) in options.iter().flat_map(|(option, patterns)| patterns.iter().map(move |p| (option, p))) {
            found(option, pattern, names, what, list)?;
        }
        let hit = |of: &[&str], patterns: &[String]| patterns.iter().any(|p| of.iter().any(|name| fits(p, name)));
        let choice = |of: &Vec<&str>| match () {
            () if hit(of, self.exclude) => Choice::Excluded,
            () if self.include.is_empty() || hit(of, self.include) => Choice::Chosen,
            () => Choice::NotIncluded,
        };
        Ok(names.iter().map(choice).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_names_and_runs_of_whole_parts() {
        for (pattern, name, hit) in [
            ("model.2", "model.2.cv1.conv.weight", true),
            ("model.2", "model.22.cv1.conv.weight", false),
            ("model.2", "/model.2/cv1/conv/Conv", true),
            ("model.2", "model.2", true),
            ("cv1", "/model.2/cv1/conv/Conv", true),
            ("/model.2/cv1", "model.2.cv1.conv.weight", true),
            ("model.2.", "model.2.cv1", true),
            ("conv", "cv1", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "x", false),
            (".", "x", false),
            ("", "", false),
        ] {
            assert_eq!(fits(pattern, name), hit, "'{pattern}' on '{name}'");
        }
    }

    #[test]
    fn stars_stand_for_any_text_and_question_marks_for_one_character() {
        for (pattern, name, hit) in [
            ("model.2*", "model.22.cv1", true),
            ("m*l.*.cv1", "model.22.cv1", true),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("/model.22/*", "/model.22/cv2/conv", true),
            ("/model.22/*", "/model.21/conv", false),
            ("/model.22/*", "/model.22", false),
            ("*cv2*Conv", "/model.22/cv2.0/Conv", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("*", "any", true),
            ("model.?", "model.2.cv1", true),
            ("model.?", "model.22.cv1", false),
            ("mod?l", "modél.2", true),
            ("ste*", "backbone.stem.conv", true),
        ] {
            assert_eq!(fits(pattern, name), hit, "'{pattern}' on '{name}'");
        }
    }

    #[test]
    fn a_glob_is_about_the_whole_text() {
        for (pattern, text, hit) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*prune*", "let p = prune(m);", true),
            ("?b*", "ab", true),
            ("?b", "b", false),
            ("*a*b", "aXbXb", true),
            ("a.b", "x.a.b", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, text), hit, "'{pattern}' on '{text}'");
        }
    }

    #[test]
    fn patterns_that_fit_nothing_name_the_nearest() {
        let names = [vec!["stem", "stem.weight"], vec!["neck", "neck.weight"]];
        let text = |v: &[&str]| v.iter().map(ToString::to_string).collect::<Vec<_>>();
        let choose = |include: &[&str], exclude: &[&str]| {
            let (include, exclude) = (text(include), text(exclude));
            Patterns { include: &include, exclude: &exclude }.choose(&names, "layer", "summary(m) lists the layers")
        };
        assert_eq!(choose(&[], &[]).unwrap(), [Choice::Chosen; 2]);
        assert_eq!(choose(&["neck"], &[]).unwrap(), [Choice::NotIncluded, Choice::Chosen]);
        assert_eq!(choose(&["*e*"], &["st*"]).unwrap(), [Choice::Excluded, Choice::Chosen]);
        for (include, exclude, said) in [
            (&["nek"][..], &[][..], "option 'include': 'nek' matches no layer\n  help: did you mean 'neck'?"),
            (&[], &["stam"], "option 'exclude': 'stam' matches no layer\n  help: did you mean 'stem'?"),
            (&[], &["q*"], "option 'exclude': 'q*' matches no layer\n  help: summary(m) lists the layers; * stands for any text"),
        ] {
            assert_eq!(choose(include, exclude).unwrap_err().to_string(), said);
        }
    }
}
