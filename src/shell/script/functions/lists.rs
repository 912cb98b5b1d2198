//! Lists: statistics of numbers, which tensors have too, and rows of results brought into groups and pairs.

use super::sorting::{key_of, ordering};
use crate::error::{Error, Result};
use crate::model::Value;
use crate::operation::{Arg, ArgKind, Signature};
use crate::report::{Plot, Series, SeriesKind};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::display::inner_line;
use crate::shell::script::value::{int, to_f64};
use crate::shell::script::words::describe;
use rhai::{Array, Dynamic, Map};

const X: Arg = Arg::new("x", ArgKind::OneOf(&[ArgKind::Tensor, ArgKind::List]));
const LIST: Arg = Arg::new("list", ArgKind::List);
const KEY: Arg = Arg::new("key", ArgKind::OneOf(&[ArgKind::Text, ArgKind::Function]));

const fn signature(
    name: &'static str,
    summary: &'static str,
    args: &'static [Arg],
    returns: &'static str,
    examples: &'static [&'static str],
) -> Signature {
    super::signature(("lists", name), summary, args, returns, examples, &["array", "values", "rows", "statistics"])
}

crate::options! {
    /// Options of `hist`.
    pub struct HistOptions {
        /// Bars, each as wide as the others.
        pub bins: usize = 20,
        /// Line above the plot.
        pub title: Option<String> = None,
    }
}

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature("min", "The least number", &[X], "number", &["[3, 1, 2].min()", "tensor([3, 1, 2]).min()"]),
        call: |c| extreme(c, f64::lt),
    },
    Binding {
        signature: signature("max", "The greatest number", &[X], "number", &["[3, 1, 2].max()", "tensor([3, 1, 2]).max()"]),
        call: |c| extreme(c, f64::gt),
    },
    Binding {
        signature: signature("sum", "The sum of the numbers", &[X], "number", &["[3, 1, 2].sum()", "tensor([3, 1, 2]).sum()"]),
        call: |c| {
            let whole = c.arg(0).as_array_ref().ok().and_then(|l| l.iter().map(|v| v.as_int().ok()).collect::<Option<Vec<i64>>>());
            match whole.and_then(|all| all.iter().try_fold(0_i64, |sum, n| sum.checked_add(*n))) {
                Some(sum) => Ok(sum.into()),
                None => Ok(numbers(c)?.iter().sum::<f64>().into()),
            }
        },
    },
    Binding {
        signature: signature("mean", "The mean of the numbers", &[X], "number", &["[3, 1, 2].mean()", "tensor([3, 1, 2]).mean()"]),
        call: |c| Ok(mean(&some(c)?).into()),
    },
    Binding {
        signature: signature(
            "std",
            "The standard deviation of the numbers as a sample (divided by n − 1); 0 of one number",
            &[X],
            "number",
            &["[0.81, 0.83, 0.82].std()", "random([100]).std()"],
        ),
        call: |c| {
            let v = some(c)?;
            let m = mean(&v);
            let squares: f64 = v.iter().map(|x| (x - m) * (x - m)).sum();
            Ok((squares / (v.len() - 1).max(1) as f64).sqrt().into())
        },
    },
    Binding {
        signature: signature("median", "The median of the numbers", &[X], "number", &["[3, 1, 2].median()", "random([9]).median()"]),
        call: |c| Ok(quantile(some(c)?, 0.5).into()),
    },
    Binding {
        signature: signature(
            "quantile",
            "The number below which this share of the numbers lies, between two of them in proportion",
            &[X, Arg::new("share", ArgKind::Number)],
            "number",
            &["[3, 1, 2].quantile(0.9)", "random([100]).quantile(0.25)"],
        ),
        call: |c| {
            let share = c.number(1)?;
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::argument(format!("a share lies between 0 and 1, got {share}")));
            }
            Ok(quantile(some(c)?, share).into())
        },
    },
    Binding {
        signature: Signature {
            fields: <HistOptions as crate::operation::Options>::FIELDS,
            ..signature("hist", "A histogram of the numbers", &[X], "plot", &["hist(random([1000]), #{ bins: 10 })", "[1, 2, 2, 3].hist()"])
        },
        call: hist,
    },
    Binding {
        signature: signature(
            "zip",
            "Pairs of what stands at the same place of two lists, as many as the shorter one has",
            &[LIST, Arg::new("other", ArgKind::List)],
            "list",
            &["for pair in [1, 2].zip([\"a\", \"b\"]) { print(pair) }"],
        ),
        call: |c| {
            let (a, b) = (list(c, 0)?, list(c, 1)?);
            Ok(a.into_iter().zip(b).map(|(x, y)| vec![x, y].into()).collect::<Array>().into())
        },
    },
    Binding {
        signature: signature(
            "enumerate",
            "Pairs of place and item, counted from 0",
            &[LIST],
            "list",
            &["[\"a\", \"b\"].enumerate()", "for pair in [\"a\", \"b\"].enumerate() { print(`${pair[0]}: ${pair[1]}`) }"],
        ),
        call: |c| Ok(list(c, 0)?.into_iter().enumerate().map(|(i, x)| vec![int(i), x].into()).collect::<Array>().into()),
    },
    Binding {
        signature: signature(
            "join_by",
            "Rows of two lists put together, each of the first with those of the second that have the same value in a column. Of a column that \
             both have otherwise, the first list's is kept",
            &[LIST, Arg::new("others", ArgKind::List), Arg::new("column", ArgKind::Text)],
            "list",
            &["[#{ name: \"a\", ms: 3 }].join_by([#{ name: \"a\", map50: 0.8 }], \"name\")"],
        ),
        call: join_by,
    },
    Binding {
        signature: signature(
            "join",
            "The items as one text with a text between them",
            &[LIST, Arg::optional("between", ArgKind::Text)],
            "text",
            &["[1, 2, 3].join(\", \")"],
        ),
        call: |c| {
            let between = if c.has(1) { c.text(1)? } else { String::new() };
            let text = |v: &Dynamic| if v.is_string() { v.to_string() } else { inner_line(v, 0) };
            Ok(list(c, 0)?.iter().map(text).collect::<Vec<_>>().join(&between).into())
        },
    },
    Binding {
        signature: signature(
            "group_by",
            "A map from what rows have in common, an entry of theirs or what a function says of each, to lists of these rows",
            &[LIST, KEY],
            "map",
            &["[#{ at: \"a\", ms: 1 }, #{ at: \"b\", ms: 2 }, #{ at: \"a\", ms: 3 }].group_by(\"at\")", "[1, 2, 3].group_by(|n| n % 2)"],
        ),
        call: |c| {
            let mut groups = Map::new();
            for item in list(c, 0)? {
                let key = match c.arg(1).is_string() {
                    true => key_of(&item, &c.text(1)?)?,
                    false => c.call_function(1, (item.clone(),))?,
                };
                let group = groups.entry(key.to_string().into()).or_insert_with(|| Array::new().into());
                if let Ok(mut rows) = group.as_array_mut() {
                    rows.push(item);
                }
            }
            Ok(groups.into())
        },
    },
    // Registered by `sorting`, for they change the list in its place.
    Binding {
        signature: signature(
            "sort_by",
            "Sorts a list by an entry of its rows, by what a function says of each, or by a function that compares two; with true as last \
             argument the greatest first. Gives the list, too; order_by leaves it as it was",
            &[LIST, KEY, Arg::optional("descending", ArgKind::Bool)],
            "list",
            &["let rows = [#{ ms: 3 }, #{ ms: 1 }]; rows.sort_by(\"ms\")", "[3, 1, 2].order_by(|x| -x)"],
        ),
        call: |_| Err(Error::internal("sort_by is registered elsewhere")),
    },
    Binding {
        signature: signature(
            "order_by",
            "The list in another order, by an entry of its rows, by what a function says of each, or by a function that compares two; with \
             true as last argument the greatest first",
            &[LIST, KEY, Arg::optional("descending", ArgKind::Bool)],
            "list",
            &["[#{ ms: 3 }, #{ ms: 1 }].order_by(\"ms\")", "[3, 1, 2].order_by(|x| x, true)"],
        ),
        call: |_| Err(Error::internal("order_by is registered elsewhere")),
    },
];

fn list(c: &Call<'_>, i: usize) -> Result<Array> {
    c.arg(i).clone().into_array().map_err(|_| Error::internal("the signature says that this is a list"))
}

fn join_by(c: &Call<'_>) -> Result<Dynamic> {
    let (rows, others, column) = (list(c, 0)?, list(c, 1)?, c.text(2)?);
    let mut joined = Array::new();
    for row in &rows {
        let key = key_of(row, &column)?;
        for other in &others {
            if ordering(&key, &key_of(other, &column)?).is_ok_and(|o| o.is_eq()) {
                let (row, other) = (row.as_map_ref(), other.as_map_ref());
                let (Ok(row), Ok(other)) = (row, other) else { continue };
                let added = other.iter().filter(|(name, _)| !row.contains_key(*name)).map(|(name, v)| (name.clone(), v.clone()));
                let both: Map = row.clone().into_iter().chain(added).collect();
                joined.push(both.into());
            }
        }
    }
    Ok(joined.into())
}

/// The numbers of a tensor or list.
pub(super) fn numbers_of(value: &Dynamic) -> Result<Vec<f64>> {
    if let Some(x) = value.read_lock::<Value>() {
        return x.to_f64s();
    }
    let list =
        value.as_array_ref().map_err(|_| Error::argument(format!("numbers stand in a list or a tensor, got {}", describe(value))))?;
    let number = |(i, v): (usize, &Dynamic)| {
        to_f64(v).ok_or_else(|| {
            let e = Error::argument(format!("item {i} of the list is no number but {}", describe(v)));
            if v.is_map() { e.hint("list.map(|row| row.name) has one entry of each row") } else { e }
        })
    };
    list.iter().enumerate().map(number).collect()
}

fn numbers(c: &Call<'_>) -> Result<Vec<f64>> {
    numbers_of(c.arg(0))
}

fn some(c: &Call<'_>) -> Result<Vec<f64>> {
    let v = numbers(c)?;
    let what = if c.arg(0).is_array() { "list" } else { "tensor" };
    if v.is_empty() { Err(Error::argument(format!("the {what} is empty"))) } else { Ok(v) }
}

/// The number that no other one beats; of a list, the item itself.
fn extreme(c: &Call<'_>, beats: fn(&f64, &f64) -> bool) -> Result<Dynamic> {
    let v = some(c)?;
    let best = (0..v.len()).fold(0, |best, i| if beats(&v[i], &v[best]) { i } else { best });
    Ok(c.arg(0).as_array_ref().map_or_else(|_| v[best].into(), |list| list[best].clone()))
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len() as f64
}

fn quantile(mut v: Vec<f64>, share: f64) -> f64 {
    v.sort_by(f64::total_cmp);
    let at = share * (v.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    if part == 0.0 { v[low] } else { v[low] + (v[low + 1] - v[low]) * part }
}

fn hist(c: &Call<'_>) -> Result<Dynamic> {
    let options: HistOptions = c.options()?;
    let plot = histogram(&some(c)?, options.bins)?;
    Ok(Dynamic::from(Plot { title: options.title.unwrap_or_default(), ..plot }))
}

/// Counts of numbers in ranges of equal width; what is not finite is left out.
pub(super) fn histogram(v: &[f64], bins: usize) -> Result<Plot> {
    if !(1..=1000).contains(&bins) {
        return Err(Error::argument(format!("option 'bins' must be 1 to 1000, got {bins}")));
    }
    let v: Vec<f64> = v.iter().copied().filter(|x| x.is_finite()).collect();
    let (low, high) = v.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
    if v.is_empty() {
        return Err(Error::argument("there are no finite numbers to count"));
    }
    let width = if high > low { (high - low) / bins as f64 } else { 1.0 };
    let mut counts = vec![0_usize; bins];
    for x in &v {
        counts[(((x - low) / width) as usize).min(bins - 1)] += 1;
    }
    let middle = |i: usize| low + width * (i as f64 + 0.5);
    let series = Series {
        name: String::new(),
        kind: SeriesKind::Bars,
        points: counts.iter().enumerate().map(|(i, n)| (i as f64, *n as f64)).collect(),
        labels: (0..bins).map(|i| crate::report::number(middle(i))).collect(),
    };
    Ok(Plot { x_label: "value".into(), y_label: "count".into(), series: vec![series], ..Plot::default() })
}

/// Rows by an entry, least first; with `-` before its name greatest first.
pub(super) fn sorted_rows(rows: &Array, by: &str) -> Result<Array> {
    let (name, reversed) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    let mut keyed: Vec<(Dynamic, &Dynamic)> = rows.iter().map(|r| Ok((key_of(r, name)?, r))).collect::<Result<_>>()?;
    let mut failed = None;
    keyed.sort_by(|a, b| {
        let order = ordering(&a.0, &b.0).unwrap_or_else(|e| {
            failed.get_or_insert(e);
            std::cmp::Ordering::Equal
        });
        if reversed { order.reverse() } else { order }
    });
    failed.map_or_else(|| Ok(keyed.into_iter().map(|k| k.1.clone()).collect()), Err)
}
