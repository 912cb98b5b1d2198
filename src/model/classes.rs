//! Classes of two sides, such as a model and a dataset, matched by their names.
//!
//! Whatever joins two lists of classes asks [`ClassMap::between`], which decides in this order:
//!
//! 1. Equal lists are the same classes.
//! 2. Lists of the same names are matched by name, in any order. Names are equal when their texts are, without spaces around
//!    them; failing that, when they differ in case and in the spaces, `_` and `-` between letters and digits only
//!    (`traffic_light`, `Traffic Light`). `O-` and `O` differ.
//! 3. Where a side has no names ([`are_generated`]) and no text is the same, equally many classes are matched by number.
//! 4. Where both sides have names and only some are the same, [`ClassMatch::Shared`] goes on with those.
//! 5. Anything else is an error with both lists.

use compresso_base::error::{Error, Result, nearest};
use std::collections::{HashMap, HashSet};

compresso_base::choice! {
    /// Which classes two sides must have in common.
    pub enum ClassMatch {
        /// All of them, in any order.
        Same = "same",
        /// At least one; what only one side has is left out.
        Shared = "shared",
    }
}

/// The names that the option `classes` gives, each of which must name one class.
///
/// # Errors
/// `Argument` for a name that comes twice.
pub(crate) fn distinct(names: Vec<String>) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    match names.iter().find(|n| !seen.insert(n.as_str())) {
        Some(twice) => Err(Error::argument(format!("option 'classes' names '{twice}' twice"))),
        None => Ok(names),
    }
}

/// One side: what messages call it, such as "the model", and its class names in order.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its subject in messages, such as `the model`.
    pub who: &'a str,
    /// Class names by class number.
    pub names: &'a [String],
}

/// Which classes of a second side are which of a first one.
///
/// ```
/// use compresso_model::classes::{ClassMap, ClassMatch, Side};
/// let names = |n: [&str; 3]| n.map(String::from);
/// let (model, data) = (names(["RBC", "WBC", "Platelets"]), names(["Platelets", "RBC", "WBC"]));
/// let (model, data) = (Side { who: "the model", names: &model }, Side { who: "the dataset", names: &data });
/// let map = ClassMap::between(model, data, ClassMatch::Same)?;
/// assert_eq!(map.numbers(), [Some(2), Some(0), Some(1)]);
/// # Ok::<(), compresso_base::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMap {
    numbers: Vec<Option<usize>>,
    /// Classes of the first side that none of the second is.
    lacking: Vec<usize>,
    note: Option<String>,
}

impl ClassMap {
    /// Matches the classes of `second` with those of `first`, by the rules of this module. A first side without any classes
    /// (a detector whose number of classes is not known) is matched by number.
    ///
    /// # Errors
    /// `Argument`, with both lists, for classes that do not match.
    pub fn between(first: Side<'_>, second: Side<'_>, wanted: ClassMatch) -> Result<Self> {
        let (a, b) = (first.names, second.names);
        if a == b {
            return Ok(Self::of(a.len(), (0..b.len()).map(Some).collect(), None));
        }
        let by_number = |note| Ok(Self::of(a.len(), (0..b.len()).map(|i| (a.is_empty() || i < a.len()).then_some(i)).collect(), note));
        let lists = || format!("{} has {}, {} has {}", first.who, counted(a), second.who, counted(b));
        if a.is_empty() {
            return by_number(Some(format!("classes are matched by number: {}", lists())));
        }
        let pairs = pairs(first, second)?;
        let paired = pairs.iter().flatten().count();
        if paired == a.len() && paired == b.len() {
            let note = by_name(first, second, &pairs);
            return Ok(Self::of(a.len(), pairs, note));
        }
        let bare = (are_generated(a), are_generated(b));
        if bare == (true, true) && (a.len() == b.len() || wanted == ClassMatch::Shared) {
            return by_number(None);
        }
        // Numbers that the other side has too are names like others.
        if bare == (true, true) || (bare.0 || bare.1) && paired == 0 {
            let who = if bare.0 { first.who } else { second.who };
            if a.len() == b.len() {
                return by_number(Some(format!("{who} has no names for its classes, so they are matched by number: {}", lists())));
            }
            let e = Error::argument(format!("{who} has no names for its classes, and their number differs: {}", lists()));
            return Err(e.hint(format!("{NAME_ALIKE}; {NEW_HEAD}")));
        }
        if paired == 0 {
            let e = Error::argument(format!("the classes are not the same: {}", lists()));
            return Err(e.hint(format!("if they mean the same, {NAME_ALIKE}; {NEW_HEAD}")));
        }
        let map = Self::of(a.len(), pairs, None);
        let (strange, lacking) = (map.strange(b), map.lacking(a));
        if wanted == ClassMatch::Shared {
            let alone = |who: &str, names: &[String]| {
                if names.is_empty() { String::new() } else { format!("; {who} alone has {}", listing(names)) }
            };
            let note = format!(
                "{} and {} share {paired} classes{}{}",
                first.who,
                second.who,
                alone(first.who, &lacking),
                alone(second.who, &strange)
            );
            let order = by_name(first, second, &map.numbers).map(|n| format!("; {n}")).unwrap_or_default();
            return Ok(Self { note: Some(note + &order), ..map });
        }
        let mut what = Vec::new();
        if !strange.is_empty() {
            what.push(format!("{} does not know {} of {}", first.who, listing(&strange), second.who));
        }
        if !lacking.is_empty() {
            what.push(format!("{} lacks {} of {}", second.who, listing(&lacking), first.who));
        }
        let e = Error::argument(format!("{}: {}", what.join(", and "), lists()));
        let alike = strange.iter().find_map(|s| Some((s, nearest(s, lacking.iter().map(String::as_str))?)));
        let alike = alike.map(|(s, l)| format!("if '{s}' is '{l}', write them alike; ")).unwrap_or_default();
        Err(e.hint(format!("{alike}classes: \"shared\" goes on with the {paired} that both have; {NEW_HEAD}")))
    }

    fn of(first: usize, numbers: Vec<Option<usize>>, note: Option<String>) -> Self {
        let used: HashSet<usize> = numbers.iter().flatten().copied().collect();
        Self { lacking: (0..first).filter(|i| !used.contains(i)).collect(), numbers, note }
    }

    /// Number on the first side of each class of the second; `None` for a class that the first lacks.
    pub fn numbers(&self) -> &[Option<usize>] {
        &self.numbers
    }
    /// Numbers of the first side's classes that the second lacks.
    pub fn missing(&self) -> &[usize] {
        &self.lacking
    }
    /// What a user must know: that the order differs, that names are lacking or left out. `None` where the lists agree.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
    /// Whether every class has the same number on both sides.
    pub fn is_identity(&self) -> bool {
        self.lacking.is_empty() && self.numbers.iter().enumerate().all(|(i, n)| *n == Some(i))
    }
    /// Those of the second side's `names` that the first lacks.
    pub fn strange(&self, names: &[String]) -> Vec<String> {
        self.numbers.iter().zip(names).filter(|(n, _)| n.is_none()).map(|(_, name)| name.clone()).collect()
    }
    /// Those of the first side's `names` that the second lacks.
    pub fn lacking(&self, names: &[String]) -> Vec<String> {
        self.lacking.iter().filter_map(|&i| names.get(i).cloned()).collect()
    }
}

const NAME_ALIKE: &str = "name them alike, in the order of their numbers: model(file, #{ classes: [...] })";
const NEW_HEAD: &str = "a new head, model(file, #{ classes: d.classes }), is for the dataset's classes and keeps all other weights";

/// Whether names say nothing but their own numbers: all of them, counted from 0 or 1, alone or after one of the words class,
/// category, label, object, cls, obj and id; or a single `item` or `object`, as trainers call the class of all objects.
///
/// ```
/// use compresso_model::classes::are_generated;
/// let names = |n: &[&str]| n.iter().map(|s| s.to_string()).collect::<Vec<_>>();
/// assert!(are_generated(&names(&["class0", "class1"])) && are_generated(&names(&["1", "2", "3"])));
/// assert!(!are_generated(&names(&["3", "1", "2"])) && !are_generated(&names(&["n01440764", "n01443537"])));
/// ```
pub fn are_generated(names: &[String]) -> bool {
    const WORDS: [&str; 7] = ["class", "category", "label", "object", "cls", "obj", "id"];
    let number = |name: &String| -> Option<usize> {
        let name = key(name);
        let digits = WORDS.iter().find_map(|w| name.strip_prefix(w)).unwrap_or(&name);
        digits.trim_start().parse().ok()
    };
    let counts_from = |start: usize| names.iter().enumerate().all(|(i, n)| number(n) == Some(start + i));
    counts_from(0) || counts_from(1) || matches!(names, [one] if ["item", "object"].contains(&key(one).as_str()))
}

/// For each of `second`'s classes the one of `first` with the same name.
///
/// # Errors
/// `Argument` for a name that stands on both sides, on one of them more than once.
pub fn pairs(first: Side<'_>, second: Side<'_>) -> Result<Vec<Option<usize>>> {
    let mut found = vec![None; second.names.len()];
    let mut taken = vec![false; first.names.len()];
    for text in [|name: &str| name.trim().to_string(), key] {
        let mut places: HashMap<String, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for (i, name) in first.names.iter().enumerate().filter(|(i, _)| !taken[*i]) {
            places.entry(text(name)).or_default().0.push(i);
        }
        for (i, name) in second.names.iter().enumerate().filter(|(i, _)| found[*i].is_none()) {
            places.entry(text(name)).or_default().1.push(i);
        }
        let mut unclear: Vec<&String> = Vec::new();
        for (name, (a, b)) in &places {
            match (a.as_slice(), b.as_slice()) {
                ([], _) | (_, []) => {}
                (&[a], &[b]) => (found[b], taken[a]) = (Some(a), true),
                _ => unclear.push(name),
            }
        }
        if let Some(name) = unclear.into_iter().min() {
            let e = Error::argument(format!("the class '{name}' stands more than once, so which is which cannot be told"));
            return Err(e.hint("give each class a name of its own: option 'classes' of model and dataset"));
        }
    }
    Ok(found)
}

/// Whether `given` are other names for the classes of `own`, number by number: as many, and none that `own` has under another number.
///
/// ```
/// use compresso_model::classes::{Side, names_anew};
/// let names = |n: &[&str]| n.iter().map(|s| s.to_string()).collect::<Vec<_>>();
/// let own = names(&["RBC", "WBC"]);
/// let anew = |given: &[&str]| names_anew(Side { who: "own", names: &own }, Side { who: "given", names: &names(given) });
/// assert!(anew(&["red", "white"]) && anew(&["RBC", "white"]));
/// assert!(!anew(&["WBC", "RBC"]) && !anew(&["RBC"]));
/// ```
pub fn names_anew(own: Side<'_>, given: Side<'_>) -> bool {
    own.names.len() == given.names.len()
        && (are_generated(own.names)
            // Names that stand more than once say nothing.
            || pairs(own, given).map_or(true, |p| p.iter().enumerate().all(|(i, n)| n.is_none_or(|n| n == i))))
}

/// A name in lower case, with one space for what separates letters and digits.
fn key(name: &str) -> String {
    let mut key = String::new();
    // Separators since the last letter, digit or sign.
    let mut between = String::new();
    for c in name.trim().chars() {
        if c.is_whitespace() || matches!(c, '_' | '-') {
            between.push(c);
            continue;
        }
        let inside = c.is_alphanumeric() && key.chars().next_back().is_some_and(char::is_alphanumeric);
        match between.is_empty() {
            false if inside => key.push(' '),
            _ => key += &between,
        }
        between.clear();
        key.extend(c.to_lowercase());
    }
    key + &between
}

/// What is to be said of names that were matched: the order where it differs, and spellings that do.
fn by_name(first: Side<'_>, second: Side<'_>, pairs: &[Option<usize>]) -> Option<String> {
    let found: Vec<(usize, usize)> = pairs.iter().enumerate().filter_map(|(b, a)| Some((b, (*a)?))).collect();
    let moved: Vec<String> = found.iter().filter(|(b, a)| a != b).map(|(b, a)| format!("{} {b} → {a}", second.names[*b])).collect();
    let differs = |(b, a): &&(usize, usize)| first.names[*a].trim() != second.names[*b].trim();
    let spelled = found.iter().filter(differs).map(|(b, a)| format!("'{}' is '{}'", second.names[*b], first.names[*a]));
    let spelled: Vec<String> = spelled.collect();
    let mut parts = Vec::new();
    if !moved.is_empty() {
        parts.push(format!(
            "{} numbers the classes otherwise than {}, so they are matched by name: {}",
            second.who,
            first.who,
            listing(&moved)
        ));
    }
    if !spelled.is_empty() {
        parts.push(format!("names of {} are taken for those of {}: {}", second.who, first.who, listing(&spelled)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Names that a message lists.
const SHOWN: usize = 12;

/// Names in a line, shortened when there are many.
pub fn listing(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn counted(names: &[String]) -> String {
    match names.len() {
        0 => "no class names".to_string(),
        1 => format!("1 class ({})", names[0]),
        n => format!("{n} classes ({})", listing(names)),
    }
}

#[cfg(test)]
mod tests;
