//! Recipes as scripts.
//!
//! The calls from which the value came step by step are statements that change the variable `m`. What else they were given is
//! written where it is read; what is read twice, what lies in a file that a call writes, and what was drawn from another seed
//! has a statement of its own before.

use super::literal::{literal, map};
use crate::learn::data::DataOptions;
use crate::model::ModelOptions;
use crate::operation::{Argument, Call, Operation, Recipe};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Deeper expressions are cut by a variable; the language takes 128 levels.
const MAX_DEPTH: usize = 16;

/// The script that makes the value as `m`.
pub fn script(recipe: &Recipe) -> String {
    Script::of(recipe).lines.join("\n")
}

/// The calls of the chain, as scripts see them: arguments as text that means what it means in [`script`].
pub fn steps(recipe: &Recipe) -> Value {
    Script::of(recipe).steps.into()
}

/// How a script reaches the result of a call.
#[derive(Clone)]
enum Reach {
    /// The variable `m`, until the next call of the chain has changed it.
    Main,
    /// A variable, or the file that a statement wrote.
    Variable(String),
    /// The expression itself.
    Inline,
}

struct Script<'a> {
    recipe: &'a Recipe,
    reach: Vec<Reach>,
    lines: Vec<String>,
    steps: Vec<Value>,
    /// For each call, where what it changed step by step began.
    beginning: Vec<usize>,
    /// The session's seed as the script has set it; a session begins with 0.
    seed: u64,
    models: usize,
    datasets: usize,
}

impl<'a> Script<'a> {
    fn of(recipe: &'a Recipe) -> Self {
        let calls = recipe.calls();
        let chain = recipe.chain();
        let mut next = vec![None; calls.len()];
        let mut reach = vec![Reach::Inline; calls.len()];
        for (i, &at) in chain.iter().enumerate() {
            reach[at] = Reach::Main;
            next[at] = chain.get(i + 1).copied();
        }
        let mut uses = vec![0; calls.len()];
        calls.iter().flat_map(Call::given).for_each(|at| uses[at] += 1);
        let seeds: BTreeSet<u64> = calls.iter().filter_map(|c| c.seed).collect();
        let mut depth = vec![0; calls.len()];
        let mut statement = vec![false; calls.len()];
        for (at, call) in calls.iter().enumerate() {
            depth[at] = 1 + call.given().filter(|&g| !statement[g]).map(|g| depth[g]).max().unwrap_or(0);
            let shared = uses[at] > 1 || call.file.is_some() || (seeds.len() > 1 && call.seed.is_some());
            statement[at] = matches!(reach[at], Reach::Main) || shared || depth[at] > MAX_DEPTH;
        }
        // Where the expression of each call stands (in its own statement, or in that of the call that reads it), and where the last
        // one stands that reads its result.
        let mut place: Vec<usize> = (0..calls.len()).collect();
        let mut last_read = vec![0; calls.len()];
        for at in (0..calls.len()).rev() {
            for given in calls[at].given() {
                last_read[given] = last_read[given].max(place[at]);
                if !statement[given] {
                    place[given] = place[at];
                }
            }
        }
        let mut beginning: Vec<usize> = Vec::with_capacity(calls.len());
        for (at, call) in calls.iter().enumerate() {
            beginning.push(call.before().map_or(at, |before| beginning[before]));
        }
        let mut script = Self { recipe, reach, beginning, lines: Vec::new(), steps: Vec::new(), seed: 0, models: 1, datasets: 0 };
        if seeds.len() == 1 {
            script.set_seed(seeds.first().copied());
        }
        for at in (0..calls.len()).filter(|&at| statement[at]) {
            if matches!(script.reach[at], Reach::Main) {
                // `m` has another value when a later statement reads this one.
                script.step(at, at == chain[0], next[at].is_some_and(|next| last_read[at] > next));
            } else {
                script.variable(at, uses[at] > 1);
            }
        }
        script
    }

    /// A statement of the chain.
    fn step(&mut self, at: usize, first: bool, kept: bool) {
        let call = &self.recipe.calls()[at];
        self.set_seed(call.seed);
        let args: Vec<String> = call.args.iter().skip(usize::from(!first)).map(|a| self.argument(a)).collect();
        if !matches!(call.args.first(), Some(Argument::Named(_))) {
            let mut step = json!({ "operation": call.operation, "args": args, "options": call.options });
            if let Some(file) = &call.file {
                step["file"] = file.as_str().into();
            }
            self.steps.push(step);
        }
        let text = function(call, args.into_iter(), if first { None } else { Some("m") });
        let declare = if first { "let " } else { "" };
        match &call.file {
            Some(file) => self.lines.extend([format!("{text};"), format!("{declare}m = {};", opening(file))]),
            None => self.lines.push(format!("{declare}m = {text};")),
        }
        if kept {
            let name = self.name("m");
            self.lines.push(format!("let {name} = m;"));
            self.reach[at] = Reach::Variable(name);
        }
    }

    /// A statement that makes another value.
    fn variable(&mut self, at: usize, shared: bool) {
        let call = &self.recipe.calls()[at];
        self.set_seed(call.seed);
        let text = self.expression(at);
        let text = match &call.file {
            Some(file) => {
                self.lines.push(format!("{text};"));
                if !shared {
                    self.reach[at] = Reach::Variable(opening(file));
                    return;
                }
                opening(file)
            }
            None => text,
        };
        let first = &self.recipe.calls()[self.beginning[at]].operation;
        let name = self.name(if first == DataOptions::SIGNATURE.name { "d" } else { "m" });
        self.lines.push(format!("let {name} = {text};"));
        self.reach[at] = Reach::Variable(name);
    }

    fn name(&mut self, stem: &str) -> String {
        let count = if stem == "d" { &mut self.datasets } else { &mut self.models };
        *count += 1;
        if *count == 1 { stem.into() } else { format!("{stem}{count}") }
    }

    fn set_seed(&mut self, seed: Option<u64>) {
        if let Some(seed) = seed.filter(|s| *s != self.seed) {
            self.lines.push(format!("seed({seed});"));
            self.seed = seed;
        }
    }

    /// `dataset("shapes").take(8)`
    fn expression(&self, at: usize) -> String {
        let call = &self.recipe.calls()[at];
        let args = call.args.iter().map(|a| self.argument(a));
        match call.args.first() {
            Some(Argument::Call(of)) => format!("{}.{}", self.read(*of), function(call, args.skip(1), None)),
            _ => function(call, args, None),
        }
    }

    fn read(&self, at: usize) -> String {
        match &self.reach[at] {
            Reach::Main => "m".into(),
            Reach::Variable(name) => name.clone(),
            Reach::Inline => self.expression(at),
        }
    }

    fn argument(&self, argument: &Argument) -> String {
        match argument {
            Argument::Call(at) => self.read(*at),
            Argument::File { path: text, .. } | Argument::Target(text) | Argument::Named(text) => literal(&text.as_str().into()),
            Argument::Value(value) => literal(value),
            Argument::Script(text) => text.clone(),
        }
    }
}

fn opening(file: &str) -> String {
    format!("{}({})", ModelOptions::SIGNATURE.name, literal(&file.into()))
}

/// `prune(m, dataset("shapes"), #{ ratio: 0.4 })` of the value `m`, or without one.
fn function(call: &Call, args: impl Iterator<Item = String>, of: Option<&str>) -> String {
    let options = (!call.options.is_empty()).then(|| map(&call.options));
    let all: Vec<String> = of.map(str::to_string).into_iter().chain(args).chain(options).collect();
    format!("{}({})", call.operation, all.join(", "))
}

#[cfg(test)]
mod tests;
