//! Splitting a dataset by chance.

use super::dataset::subset;
use super::rng::rng;
use super::{DataKind, Dataset, Source};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Recipe, Signature, in_range};
use rand::seq::SliceRandom;
use std::sync::Arc;

compresso_base::options! {
    /// Options of `splits`.
    pub struct SplitOptions {
        /// Share of the images to train on.
        pub train: f64 = 0.8,
        /// Share to judge by while training.
        pub val: f64 = 0.1,
        /// Share to judge by at the end. The three shares add up to 1; a split of share 0 is not made.
        pub test: f64 = 0.1,
        /// Seed of the choice; the session's when left out.
        pub seed: Option<u64> = None,
    }
}

const PURPOSE: u64 = 0x0073_706c_6974;

/// Divides a dataset.
///
/// # Errors
/// `Argument` for shares that do not add up to 1, for a dataset that has splits (choose one of them first), and for one
/// that is too small to give each split an image.
impl Operation for SplitOptions {
    const SIGNATURE: Signature = Signature {
        name: "splits",
        summary: "Divides a dataset by chance into train, val and test: each image in one of them, the same ones for the same seed. \
                  Of image classes, each split gets its share of every class",
        group: "data",
        args: &[Arg::new("d", ArgKind::Dataset)],
        returns: "dataset",
        fields: Self::FIELDS,
        examples: &[
            "let d = dataset(\"random\", #{ images: 20 }).splits(#{ train: 0.7, val: 0.3, test: 0, seed: 1 }); d.split(\"val\").count",
            "dataset(\"shapes\", #{ images: 40, task: \"classify\", split: \"train\" }).splits().split(\"test\").count",
        ],
        keywords: &["divide", "partition", "train", "val", "validation", "test", "holdout", "stratified", "random", "seed"],
    };
    type Inputs<'a> = &'a Dataset;
    type Output = Dataset;

    fn run(&self, data: &Dataset, ctx: &Context) -> Result<Dataset> {
        let shares = [("train", self.train), ("val", self.val), ("test", self.test)];
        for (name, share) in shares {
            in_range(name, share, 0.0..=1.0)?;
        }
        let sum: f64 = shares.iter().map(|s| s.1).sum();
        if (sum - 1.0).abs() > 1e-6 {
            let e =
                Error::argument(format!("the shares train {}, val {}, test {} add up to {sum}, not to 1", self.train, self.val, self.test));
            return Err(e.hint("name all three: splits(d, #{ train: 0.8, val: 0.2, test: 0 })"));
        }
        if let Some((first, _)) = data.splits.first() {
            let names: Vec<&str> = data.splits.iter().map(|(n, _)| n.as_str()).collect();
            let e = Error::argument(format!("dataset '{}' has the splits {} already", data.name, names.join(", ")));
            return Err(e.hint(format!("to divide one of them: d.split(\"{first}\").splits()")));
        }
        let wanted: Vec<(&str, f64)> = shares.into_iter().filter(|s| s.1 > 0.0).collect();
        let parts = divide(&self.order(data, self.seed.unwrap_or(ctx.seed))?, &wanted.iter().map(|w| w.1).collect::<Vec<_>>());
        let mut splits: Vec<(String, Arc<dyn Source>)> = Vec::new();
        for ((name, share), mut indices) in wanted.into_iter().zip(parts) {
            if indices.is_empty() {
                let e = Error::argument(format!("split '{name}' would get none of the {} images (its share is {share})", data.len()));
                return Err(e.hint("give it a larger share, or 0 to do without it"));
            }
            indices.sort_unstable();
            splits.push((name.to_string(), subset(&data.source, indices)));
        }
        let call = self.call([data.into()]);
        let call = if self.seed.is_none() { call.seeded(ctx.seed) } else { call };
        let divided = Dataset::of_splits(data.name.clone(), data.kind, data.classes.to_vec(), splits, data.warnings.to_vec());
        Ok(divided.with_recipe(Recipe::of(call)))
    }
}

impl SplitOptions {
    /// The images in chance order; those of one class stand together.
    fn order(&self, data: &Dataset, seed: u64) -> Result<Vec<usize>> {
        let mut order: Vec<usize> = (0..data.len()).collect();
        order.shuffle(&mut rng(seed, &[PURPOSE]));
        if data.kind == DataKind::Classification {
            let classes: Vec<Vec<usize>> =
                (0..data.len()).map(|i| data.source.classes_of(i)).collect::<Result<_>>().at(|| format!("dataset '{}'", data.name))?;
            order.sort_by_key(|&i| classes[i].first().copied());
        }
        Ok(order)
    }
}

/// Deals the images out in order, each to the part that is farthest behind its share, so that every run of images is
/// divided by the shares too.
fn divide(order: &[usize], shares: &[f64]) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new(); shares.len()];
    for (n, &i) in order.iter().enumerate() {
        let behind = |k: usize| shares[k] * (n + 1) as f64 - parts[k].len() as f64;
        // Of equal ones the first.
        let most = (1..shares.len()).fold(0, |best, k| if behind(k) > behind(best) + 1e-9 { k } else { best });
        parts[most].push(i);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts of `n` images are disjoint and whole, and each has its share of all and of every class (a run of the order).
    fn keeps_shares(n: usize, cut: (f64, f64), run: usize) -> std::result::Result<(), TestCaseError> {
        let shares = [cut.0, (1.0 - cut.0) * cut.1, (1.0 - cut.0) * (1.0 - cut.1)];
        let order: Vec<usize> = (0..n).rev().collect();
        let parts = divide(&order, &shares);
        let mut all: Vec<usize> = parts.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        for (part, share) in parts.iter().zip(shares) {
            prop_assert!((part.len() as f64 - share * n as f64).abs() <= 1.0 + 1e-6, "{} of {n} for {share}", part.len());
            for class in order.chunks(run) {
                let own = part.iter().filter(|i| class.contains(i)).count() as f64;
                prop_assert!((own - share * class.len() as f64).abs() <= 2.0 + 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn a_part_without_a_share_gets_nothing() {
        keeps_shares(112, (0.05, 0.0), 1).unwrap();
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_whole_and_keep_their_shares(n in 0usize..300, cut in (0.05f64..0.9, 0.0f64..1.0), run in 1usize..60) {
            keeps_shares(n, cut, run)?;
        }
    }
}
