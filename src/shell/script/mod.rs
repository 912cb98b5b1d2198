//! The script language: Rhai with the library's functions.
//!
//! ```
//! use compresso::{Context, report::Style, shell::{Buffer, script::Session}};
//! let output = std::sync::Arc::new(Buffer::new(Style::plain()));
//! let mut session = Session::new(Context::new(), output.clone());
//! session.run("let x = 20; print(x + 1)", "example").unwrap();
//! assert_eq!(output.take(), "21\n");
//! assert_eq!(session.run("prin(1)", "example").unwrap_err().error.suggestion(), Some("did you mean 'print'?"));
//! ```

mod binding;
mod call;
mod caught;
mod display;
mod error;
mod explore;
mod failure;
mod functions;
mod help;
mod inserted;
mod literal;
mod one_line;
mod properties;
mod python;
mod raised;
mod recipe;
mod reference;
mod results;
mod value;
mod variables;
mod watch;
mod words;

pub use binding::{bindings, find};
pub use call::Binding;
pub use display::Shown;
pub use failure::{Failure, Spot};
pub use functions::{check_threads, parse_device};
pub use help::{help_media, help_text, overview};
pub use one_line::{Line, OneLine, commands, completions, nearest_command, one_line, usage as command_usage};
pub use properties::{Property, fields_of};
pub use recipe::script as recipe_script;
pub use reference::reference;
pub use variables::Snapshot;
pub use watch::Limits;
pub use words::takes;

use super::Output;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::experiment::Journal;
use crate::model::Model;
use crate::operation::Recipe;
use crate::report::Media;
use error::Explain;
use rhai::{AST, Dynamic, Engine, EvalAltResult, ParseErrorType, Position, Scope};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use watch::Watch;

/// What the functions of a session share.
pub struct Shared {
    context: RwLock<Context>,
    output: Arc<dyn Output>,
    /// Arguments of the script, as `args`.
    args: RwLock<Vec<String>>,
    /// What an operation had reached when it was cancelled.
    partial: RwLock<Option<Dynamic>>,
    /// What a function of the script raised that a function of this table had called.
    raised: Mutex<Option<Box<EvalAltResult>>>,
    /// Recipes of the models that this session has trained or found and not saved, and of those that it has saved.
    unsaved: Mutex<HashSet<String>>,
    saved: Mutex<HashSet<String>>,
    /// Parameters that the script is given, metrics that it records.
    journal: Mutex<Journal>,
    watch: Arc<Watch>,
}

/// The variable that holds what a cancelled training had reached.
const PARTIAL: &str = "partial";
/// Variables of the prompt: the values of earlier inputs by their numbers, and the last one.
const KEPT: [&str; 2] = ["Out", "Last"];

impl Shared {
    /// The context as it is now.
    pub fn context(&self) -> Context {
        self.context.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Changes the context of the calls that follow.
    pub fn change(&self, f: impl FnOnce(&mut Context)) {
        f(&mut self.context.write().unwrap_or_else(PoisonError::into_inner));
    }
    /// Where results are shown.
    pub fn output(&self) -> &dyn Output {
        &*self.output
    }
    /// Keeps what a cancelled operation had reached.
    fn keep_partial(&self, value: Dynamic) {
        *self.partial.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
    fn keep_raised(&self, error: Box<EvalAltResult>) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
    fn take_raised(&self) -> Option<Box<EvalAltResult>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    fn keep_trained(&self, model: &Model) {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).extend(recipe_text(model));
    }
    fn keep_saved(&self, model: &Model) {
        if let Some(recipe) = recipe_text(model) {
            self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).remove(&recipe);
            self.saved.lock().unwrap_or_else(PoisonError::into_inner).insert(recipe);
        }
    }
    /// Whether a model was trained here, or made of one that was, and is in no file: none that this session wrote.
    fn is_unsaved(&self, model: &Model) -> bool {
        let Some(recipe) = model.recipe() else { return false };
        let text = |r: &Recipe| serde_json::to_string(r).ok();
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        !text(recipe).is_some_and(|r| saved.contains(&r))
            && (1..=recipe.steps().len()).filter_map(|n| text(&recipe.prefix(n)?)).any(|r| unsaved.contains(&r))
    }
    /// Reads or changes what the script is given and records.
    pub fn journal<T>(&self, f: impl FnOnce(&mut Journal) -> T) -> T {
        f(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn args(&self) -> Vec<String> {
        self.args.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Functions may call each other this deeply.
const CALL_LEVELS: usize = 64;
/// Depth of an expression, such as links of a method chain.
const EXPRESSION_DEPTH: usize = 128;

/// Bytes of the stack at which a script ends: what is evaluated inside evaluated text, or imported by an import, is no call.
const STACK_LEFT: usize = 1 << 20;

/// A running session: variables and functions stay from one input to the next.
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    /// All functions defined so far.
    functions: AST,
    /// Name and text of the input that defined each function.
    function_sources: HashMap<String, (String, String)>,
    /// Where `import` finds modules.
    modules: PathBuf,
    limits: Limits,
    shared: Arc<Shared>,
}

/// Whether an input can be run as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// It can be run.
    Complete,
    /// It has an error that more text does not mend.
    Invalid,
    /// A bracket, text or comment is still open, or a statement goes on.
    Incomplete,
}

impl Session {
    /// A session without variables, which runs under `context` and shows its results on `output`.
    pub fn new(context: Context, output: Arc<dyn Output>) -> Self {
        let cancel = context.cancel.clone();
        let watch = Arc::new(Watch::default());
        let shared = Arc::new(Shared {
            context: RwLock::new(context),
            output,
            args: RwLock::default(),
            partial: RwLock::default(),
            raised: Mutex::default(),
            unsaved: Mutex::default(),
            saved: Mutex::default(),
            journal: Mutex::default(),
            watch: watch.clone(),
        });
        let mut engine = Engine::new();
        // What Rhai would leave out of a script is looked at, too: a name that nothing defines is an error wherever it stands.
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        engine.set_max_call_levels(CALL_LEVELS).set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
        engine.set_max_operations(0).set_fail_on_invalid_map_property(true);
        let printer = shared.clone();
        engine.on_print(move |text| printer.output().print(text));
        let printer = shared.clone();
        engine.on_debug(move |text, _, at| printer.output().print(&format!("{at:?} {text}")));
        engine.on_progress(move |_| {
            let deep = || stacker::remaining_stack().is_some_and(|left| left < STACK_LEFT);
            if cancel.is_cancelled() || watch.stops() { Some(Dynamic::UNIT) } else { deep().then(|| raised::DEEP.into()) }
        });
        let args = shared.clone();
        // `args` is seen inside functions too, where Rhai shows no variables of the script.
        #[expect(deprecated, reason = "Rhai marks its volatile interfaces so")]
        engine.on_var(move |name, index, _| {
            let wanted = name == "args" && index == 0;
            Ok(wanted.then(|| args.args().into_iter().map(Dynamic::from).collect::<Vec<_>>().into()))
        });
        binding::register_types(&mut engine);
        binding::register(&mut engine, &shared);
        functions::register_operators(&mut engine);
        functions::register_vars(&mut engine);
        functions::register_bounded(&mut engine, &shared);
        functions::register_sorting(&mut engine);
        functions::register_numbers(&mut engine);
        caught::register(&mut engine);
        Self {
            engine,
            scope: Scope::new(),
            functions: AST::empty(),
            function_sources: HashMap::new(),
            modules: PathBuf::new(),
            limits: Limits::default(),
            shared,
        }
    }

    /// Sets what each input that follows may take.
    pub fn set_limits(&mut self, limits: Limits) {
        self.engine.set_max_operations(limits.operations.unwrap_or(0));
        self.limits = limits;
    }

    /// What its functions share: context, output, journal.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sets what scripts see as `args`.
    pub fn set_args(&mut self, args: Vec<String>) {
        *self.shared.args.write().unwrap_or_else(PoisonError::into_inner) = args;
    }

    /// Runs `code` and returns the value of its last expression, or nothing when a semicolon ends it. `name` stands in error messages.
    ///
    /// # Errors
    /// What the script raises, with its place. Variables set before the error stay.
    pub fn run(&mut self, code: &str, name: &str) -> Result<Shown, Failure> {
        if let Some((line, column, error)) = python::trap(code) {
            let text = code.lines().nth(line - 1).unwrap_or_default().to_string();
            return Err(Failure { at: Some(Spot { source: name.into(), line, column, text }), ..Failure::new(error) });
        }
        if let Some(note) = python::division(code) {
            self.shared.context().note(note);
        }
        let asked = self.help_on_function(code);
        let code = asked.as_deref().unwrap_or(code);
        let cancel = self.shared.context().cancel;
        let watching = self.shared.watch.begin(self.limits, &cancel);
        let result = self.eval(code, name);
        drop(watching);
        let partial = self.shared.partial.write().unwrap_or_else(PoisonError::into_inner).take();
        // Whether a cancelled call's value still reaches its variable is a matter of chance.
        let stopped = result.is_err() || cancel.is_cancelled();
        if let Some(value) = partial.filter(|_| stopped) {
            self.scope.set_or_push(PARTIAL, value);
            // A command has no variables to look at.
            if !self.limits.hard {
                self.shared.context().note(format!("the model so far is in the variable '{PARTIAL}'"));
            }
        }
        let value = result.map_err(|e| {
            let sources = &self.function_sources;
            let explain = Explain {
                source: (name, code),
                function_source: &|f| sources.get(f).cloned(),
                module_file: &|path| self.modules.join(path).with_extension("rhai"),
                variables: self.variables().into_iter().map(|v| v.0).chain(["args".to_string()]).collect(),
                entries: &|| self.entries(),
                functions: self.functions.iter_functions().map(|f| (f.name.to_string(), f.params.len())).collect(),
                most_operations: self.limits.operations.unwrap_or(u64::MAX),
                builtins: &|| self.engine.gen_fn_signatures(true),
            };
            explain.failure(&e)
        });
        let value = match self.shared.watch.take_reason() {
            // The script was cancelled for this reason.
            Some(reason) => {
                cancel.reset();
                let (at, trace) = value.err().map_or_else(Default::default, |f| (f.at, f.trace));
                return Err(Failure { error: Arc::new(reason), at, trace });
            }
            None => value?,
        };
        Ok(Shown(if ends_with_semicolon(code) { Dynamic::UNIT } else { value }))
    }

    fn eval(&mut self, code: &str, name: &str) -> Result<Dynamic, Box<EvalAltResult>> {
        let (compiled, _) = inserted::Inserted::into(&strip_shebang(code));
        let mut ast = self.engine.compile_with_scope(&self.scope, compiled)?;
        ast.set_source(name);
        for f in ast.iter_functions() {
            self.function_sources.insert(f.name.to_string(), (name.to_string(), code.to_string()));
        }
        let merged = self.functions.merge(&ast);
        self.functions = merged.clone_functions_only();
        let depth = self.scope.len();
        let result = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &merged);
        debug_assert!(self.scope.len() >= depth);
        variables::forget_shadowed(&mut self.scope);
        result
    }

    /// `help(prune)` as `help("prune")`: a function's name alone is no value.
    fn help_on_function(&self, code: &str) -> Option<String> {
        use super::repl::lexer::{TokenKind, tokens};
        let all = tokens(code);
        let solid: Vec<&str> = all.iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).map(|t| t.text).collect();
        match solid.as_slice() {
            ["help", "(", name, ")"] | ["help", "(", name, ")", ";"] if find(name).is_some() && !self.scope.contains(name) => {
                Some(format!("help(\"{name}\");"))
            }
            _ => None,
        }
    }

    /// What the last input had reached when it was cancelled.
    pub fn partial(&self) -> Option<Shown> {
        self.scope.get_value::<Dynamic>(PARTIAL).map(Shown)
    }

    /// Writes a value into a file, as `save` does.
    ///
    /// # Errors
    /// Those of `save`.
    pub fn save(&mut self, value: &Shown, path: &str) -> Result<(), Failure> {
        self.scope.set_or_push("result", value.0.clone());
        self.run(&format!("save(result, {});", literal::literal(&path.into())), "<command>").map(drop)
    }

    /// Runs a script file with arguments; `import` finds modules beside it.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, else as [`Session::run`].
    pub fn run_file(&mut self, path: &Path, args: Vec<String>) -> Result<Shown, Failure> {
        let file = std::fs::File::open(path).map_err(|e| Failure::new(Error::io(path, e)))?;
        let code = crate::files::script_text(file, path)?;
        self.run_text(path, &code, args)
    }

    /// As [`Session::run_file`], of a file that has been read.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_text(&mut self, path: &Path, code: &str, args: Vec<String>) -> Result<Shown, Failure> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.engine.set_module_resolver(rhai::module_resolvers::FileModuleResolver::new_with_path(folder));
        self.modules = if folder == Path::new(".") { PathBuf::new() } else { folder.to_path_buf() };
        self.set_args(args);
        self.run(code, &path.display().to_string())
    }

    /// Whether `code` needs more lines.
    pub fn completeness(&self, code: &str) -> Completeness {
        // Rhai takes a comment that never ends.
        if open_comment(code) {
            return Completeness::Incomplete;
        }
        let Err(e) = self.engine.compile_with_scope(&self.scope, code) else { return Completeness::Complete };
        let at_end = e.position() == Position::NONE || after_last_token(code, e.position());
        let open = match e.err_type() {
            ParseErrorType::UnexpectedEOF => true,
            ParseErrorType::BadInput(rhai::LexError::UnterminatedString) => open_text(code),
            ParseErrorType::MissingToken(..)
            | ParseErrorType::ExprExpected(_)
            | ParseErrorType::MissingSymbol(_)
            | ParseErrorType::VariableExpected
            | ParseErrorType::PropertyExpected
            | ParseErrorType::FnMissingName
            | ParseErrorType::FnMissingParams(_)
            | ParseErrorType::FnMissingBody(_) => at_end,
            _ => false,
        };
        if open { Completeness::Incomplete } else { Completeness::Invalid }
    }

    /// Shows a value as the prompt does: tables and plots of a report, a summary line of a model; nothing for `()`.
    ///
    /// # Errors
    /// Those of drawing a plot.
    pub fn show(&self, value: &Shown) -> crate::Result<()> {
        display::show_value(self.shared.output(), &value.0)
    }

    /// A value as JSON, of a model what its summary says.
    ///
    /// # Errors
    /// `Argument` for values that have no such form; those of the summary.
    pub fn json(&self, value: &Shown) -> crate::Result<String> {
        if let Some(m) = value.0.read_lock::<value::ModelValue>() {
            return Ok(format!("{:#}", crate::report::Show::data(&m.model.summary()?)));
        }
        if let Some(t) = value.0.read_lock::<crate::report::Table>() {
            return Ok(format!("{:#}", crate::report::Show::data(&*t)));
        }
        Ok(format!("{:#}", value::to_json(&value.0)?))
    }

    /// A value as outputs of a notebook; none for `()`.
    ///
    /// # Errors
    /// Those of drawing a plot.
    pub fn media(&self, value: &Shown) -> crate::Result<Vec<Media>> {
        display::value_media(&value.0)
    }
}

/// By which a model is known again.
fn recipe_text(model: &Model) -> Option<String> {
    serde_json::to_string(model.recipe()?).ok()
}

/// True when the last statement is closed: its value is not asked for.
fn ends_with_semicolon(code: &str) -> bool {
    use super::repl::lexer::{TokenKind, tokens};
    let solid = |t: &&super::repl::lexer::Token<'_>| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment);
    tokens(code).iter().rfind(solid).is_some_and(|t| t.text == ";")
}

/// The first line of a script may name its interpreter.
fn strip_shebang(code: &str) -> std::borrow::Cow<'_, str> {
    // The line stays, so that positions are right.
    if code.starts_with("#!") { format!("//{}", code.find('\n').map_or("", |end| &code[end..])).into() } else { code.into() }
}

/// True when nothing but blanks and comments follows a position.
fn after_last_token(code: &str, at: Position) -> bool {
    let (Some(line), column) = (at.line(), at.position().unwrap_or(1)) else { return true };
    let mut rest = code.lines().skip(line - 1);
    let first: String = rest.next().unwrap_or_default().chars().skip(column.saturating_sub(1)).collect();
    std::iter::once(first.as_str()).chain(rest).all(|l| l.trim().is_empty() || l.trim_start().starts_with("//"))
}

/// True when a back-quoted text or the last line's quoted text is open.
fn open_text(code: &str) -> bool {
    use super::repl::lexer::{TokenKind, tokens};
    tokens(code).last().is_some_and(|t| t.kind == TokenKind::Text && t.open)
}

fn open_comment(code: &str) -> bool {
    use super::repl::lexer::{TokenKind, tokens};
    tokens(code).last().is_some_and(|t| t.kind == TokenKind::Comment && t.open)
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::new(e)
    }
}

/// Exit code of the command line for a failure: 130 for a cancelled script, else 1.
pub fn exit_code(failure: &Failure) -> u8 {
    if failure.error.kind() == ErrorKind::Cancelled { 130 } else { 1 }
}

#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod tests;
