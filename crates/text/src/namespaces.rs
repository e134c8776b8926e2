//! No template can make a value that holds itself.
//!
//! The engine prints, compares and writes values by recursion, and frees them by counting. Of what a template can make, only
//! a namespace changes after it was made; where one comes to hold itself (`{% set ns.n = ns %}`, or by way of a list, an
//! iterator over its items, a macro that sees it), printing it ends the process, and nothing frees it. The engine has no hook
//! where a namespace is assigned to. So the parsed template is checked before it is compiled: a namespace is made where a name
//! is set to it; that name is used for its attributes alone, or passed to a macro, whose parameter is such a name too. What else
//! sees names and lives on, macros and `loop`, may be called and asked, but is no value either.

use std::collections::{HashMap, HashSet};

use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Set, Spanned, Stmt, Var};
use minijinja::machinery::{self, Span};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// What makes namespaces.
const MAKER: &str = "namespace";

/// What the engine itself calls macros and loops.
const OWN: [&str; 2] = ["caller", "loop"];

/// Functions that are there before a template declares any.
const FUNCTIONS: [&str; 5] = [MAKER, "dict", "range", "raise_exception", "strftime_now"];

/// Checks a template. O(bytes).
///
/// # Errors
/// It does not parse; a namespace, a macro or a loop is used as a value; or other templates are asked for.
pub(crate) fn check(source: &str, name: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    let template = machinery::parse(source, name, syntax)?;
    let mut names = Names { bound: FUNCTIONS.into(), callables: OWN.into(), ..Names::default() };
    let mut passed = Vec::new();
    walk(&template, &mut |node| {
        names.learn(&node);
        passed.extend(Passed::of(&node));
        Ok(())
    })?;
    names.follow(&passed);
    walk(&template, &mut |node| names.judge(&node))
}

/// A part of a template, seen from what it is in.
#[derive(Clone, Copy)]
enum Part<'t, 's> {
    Stmt(&'t Stmt<'s>),
    /// An expression whose value is used.
    Value(&'t Expr<'s>),
    /// An expression of which an attribute is used, which is called, or which is tested.
    Asked(&'t Expr<'s>, Asked),
    /// What is assigned to.
    Target(&'t Expr<'s>),
    /// `{% set target = value %}`, and in `with`.
    Set(&'t Expr<'s>, &'t Expr<'s>),
    Macro(&'t Spanned<Macro<'s>>),
    /// A name that is passed to what another name calls.
    Passed(Passed<'t, 's>),
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Attribute,
    Call,
    Test,
}

#[derive(Clone, Copy)]
struct Passed<'t, 's> {
    var: &'t Spanned<Var<'s>>,
    callee: &'s str,
    place: Place<'s>,
}

#[derive(Clone, Copy)]
enum Place<'s> {
    Nth(usize),
    Named(&'s str),
}

impl<'t, 's> Passed<'t, 's> {
    fn of(node: &Node<'t, 's>) -> Option<Self> {
        match node.part {
            Part::Passed(passed) => Some(passed),
            _ => None,
        }
    }
}

/// A part, and whether it is in a macro that has a parameter by the name of what makes namespaces.
struct Node<'t, 's> {
    part: Part<'t, 's>,
    shadowed: bool,
}

#[derive(Default)]
struct Names<'s> {
    namespaces: HashSet<&'s str>,
    callables: HashSet<&'s str>,
    /// The parameters of each macro of a name.
    macros: HashMap<&'s str, Vec<Vec<&'s str>>>,
    /// What may be something else than a macro.
    bound: HashSet<&'s str>,
}

impl<'s> Names<'s> {
    /// Takes down what the names of a template are.
    fn learn(&mut self, node: &Node<'_, 's>) {
        match node.part {
            Part::Set(Expr::Var(name), value) if is_made(value) => drop(self.namespaces.insert(name.id)),
            Part::Target(Expr::Var(name)) => drop(self.bound.insert(name.id)),
            Part::Macro(declared) => {
                let parameter = |arg: &Expr<'s>| match arg {
                    Expr::Var(name) => Some(name.id),
                    _ => None,
                };
                self.callables.insert(declared.name);
                let parameters = declared.args.iter().filter_map(parameter).collect();
                self.macros.entry(declared.name).or_default().push(parameters);
            }
            _ => (),
        }
    }

    /// The parameters that something passed becomes; none where it is not sure to go to a macro.
    fn parameters(&self, passed: &Passed<'_, 's>) -> impl Iterator<Item = &'s str> {
        let declared = self.macros.get(passed.callee).filter(|_| !self.bound.contains(passed.callee));
        declared.into_iter().flatten().filter_map(|parameters| match passed.place {
            Place::Nth(at) => parameters.get(at).copied(),
            Place::Named(name) => parameters.iter().find(|&&other| other == name).copied(),
        })
    }

    /// Takes down the parameters to which namespaces are passed, by any number of calls within each other.
    fn follow(&mut self, passed: &[Passed<'_, 's>]) {
        let mut becomes: HashMap<&str, Vec<&'s str>> = HashMap::new();
        for each in passed {
            becomes.entry(each.var.id).or_default().extend(self.parameters(each));
        }
        let mut open: Vec<&str> = self.namespaces.iter().copied().collect();
        while let Some(name) = open.pop() {
            for parameter in becomes.remove(name).unwrap_or_default() {
                self.namespaces.insert(parameter);
                open.push(parameter);
            }
        }
    }

    fn judge(&self, node: &Node<'_, 's>) -> Result<(), Error> {
        let (var, asked) = match node.part {
            Part::Value(Expr::Var(var)) => (var, None),
            Part::Passed(passed) => {
                let namespace = self.namespaces.contains(passed.var.id);
                if namespace && passed.var.id != MAKER && self.parameters(&passed).next().is_some() {
                    return Ok(());
                }
                (passed.var, None)
            }
            Part::Asked(Expr::Var(var), asked) => (var, Some(asked)),
            // Methods of a namespace give iterators that hold it.
            Part::Asked(Expr::GetAttr(method), Asked::Call) if method.name != "get" => match &method.expr {
                Expr::Var(var) if self.namespaces.contains(var.id) => (var, None),
                _ => return Ok(()),
            },
            Part::Stmt(Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_)) => {
                return Err(refuse("there are no other templates to import or include".to_owned(), None));
            }
            _ => return Ok(()),
        };
        let makes = var.id == MAKER && !node.shadowed;
        let namespace = self.namespaces.contains(var.id);
        let callable = self.callables.contains(var.id);
        let fine = match asked {
            Some(Asked::Test) => true,
            Some(Asked::Attribute) => !makes || namespace,
            Some(Asked::Call) => !makes && !namespace,
            None => !makes && !namespace && !callable,
        };
        if fine {
            return Ok(());
        }
        let name = var.id;
        let reason = if callable {
            format!("expected `{name}` to be called or asked for an attribute, found it used as a value")
        } else {
            format!(
                "expected `{{% set NAME = namespace(...) %}}` and uses of NAME's attributes, found `{name}` used as a value, \
                 which could come to hold itself"
            )
        };
        Err(refuse(reason, Some(var.span())))
    }
}

fn refuse(reason: String, span: Option<Span>) -> Error {
    let line = span.map(|span| format!(" (line {})", span.start_line)).unwrap_or_default();
    Error::new(ErrorKind::SyntaxError, reason + &line)
}

/// Whether an expression makes a namespace.
fn is_made(value: &Expr<'_>) -> bool {
    matches!(value, Expr::Call(call) if matches!(&call.expr, Expr::Var(var) if var.id == MAKER))
}

/// Visits every part once, each before what is in it. Without recursion: chains of operators are as deep as they are long.
fn walk<'t, 's>(
    template: &'t Stmt<'s>,
    visit: &mut impl FnMut(Node<'t, 's>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut open = vec![Node { part: Part::Stmt(template), shadowed: false }];
    let mut parts = Vec::new();
    while let Some(node) = open.pop() {
        let mut shadowed = node.shadowed;
        match node.part {
            Part::Stmt(stmt) => open_stmt(stmt, &mut parts),
            Part::Value(expr) | Part::Asked(expr, _) => open_expr(expr, &mut parts),
            Part::Target(expr) => open_target(expr, &mut parts),
            Part::Set(target, value) => {
                parts.push(Part::Target(target));
                match value {
                    Expr::Call(call) if matches!(target, Expr::Var(_)) && !shadowed && is_made(value) => {
                        open_args(&call.args, None, &mut parts);
                    }
                    _ => parts.push(Part::Value(value)),
                }
            }
            Part::Macro(declared) => {
                open.extend(
                    declared.defaults.iter().map(|value| Node { part: Part::Value(value), shadowed }),
                );
                parts.extend(declared.args.iter().map(Part::Target));
                parts.extend(declared.body.iter().map(Part::Stmt));
                shadowed |= declared.args.iter().any(|arg| matches!(arg, Expr::Var(var) if var.id == MAKER));
            }
            Part::Passed(_) => (),
        }
        visit(node)?;
        open.extend(parts.drain(..).map(|part| Node { part, shadowed }));
    }
    Ok(())
}

fn open_stmt<'t, 's>(stmt: &'t Stmt<'s>, open: &mut Vec<Part<'t, 's>>) {
    let mut body: &[Stmt<'s>] = &[];
    match stmt {
        Stmt::Template(template) => body = &template.children,
        Stmt::EmitExpr(emit) => open.push(Part::Value(&emit.expr)),
        Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => (),
        Stmt::ForLoop(each) => {
            open.push(Part::Target(&each.target));
            open.push(Part::Value(&each.iter));
            open.extend(each.filter_expr.iter().map(Part::Value));
            open.extend(each.else_body.iter().map(Part::Stmt));
            body = &each.body;
        }
        Stmt::IfCond(cond) => {
            open.push(Part::Value(&cond.expr));
            open.extend(cond.false_body.iter().map(Part::Stmt));
            body = &cond.true_body;
        }
        Stmt::WithBlock(with) => {
            open.extend(with.assignments.iter().map(|(target, value)| Part::Set(target, value)));
            body = &with.body;
        }
        Stmt::Set(set) => {
            let Set { target, expr } = &**set;
            open.push(Part::Set(target, expr));
        }
        Stmt::SetBlock(set) => {
            open.push(Part::Target(&set.target));
            open.extend(set.filter.iter().map(Part::Value));
            body = &set.body;
        }
        Stmt::AutoEscape(escape) => {
            open.push(Part::Value(&escape.enabled));
            body = &escape.body;
        }
        Stmt::FilterBlock(filter) => {
            open.push(Part::Value(&filter.filter));
            body = &filter.body;
        }
        Stmt::Block(block) => body = &block.body,
        Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => (),
        Stmt::Macro(declared) => open.push(Part::Macro(declared)),
        Stmt::CallBlock(block) => {
            open_call(&block.call, open);
            open.push(Part::Macro(&block.macro_decl));
        }
        Stmt::Do(call) => open_call(&call.call, open),
    }
    open.extend(body.iter().map(Part::Stmt));
}

fn open_expr<'t, 's>(expr: &'t Expr<'s>, open: &mut Vec<Part<'t, 's>>) {
    match expr {
        Expr::Var(_) | Expr::Const(_) => (),
        Expr::Slice(slice) => {
            open.push(Part::Value(&slice.expr));
            open.extend([&slice.start, &slice.stop, &slice.step].into_iter().flatten().map(Part::Value));
        }
        Expr::UnaryOp(op) => open.push(Part::Value(&op.expr)),
        Expr::BinOp(op) => open.extend([Part::Value(&op.left), Part::Value(&op.right)]),
        Expr::Compare(chain) => {
            open.push(Part::Value(&chain.expr));
            open.extend(chain.ops.iter().map(|op| Part::Value(&op.expr)));
        }
        Expr::IfExpr(choice) => {
            open.extend([Part::Value(&choice.test_expr), Part::Value(&choice.true_expr)]);
            open.extend(choice.false_expr.iter().map(Part::Value));
        }
        Expr::Filter(filter) => {
            open.extend(filter.expr.iter().map(Part::Value));
            open_args(&filter.args, None, open);
        }
        Expr::Test(test) => {
            open.push(Part::Asked(&test.expr, Asked::Test));
            open_args(&test.args, None, open);
        }
        Expr::GetAttr(get) => open.push(Part::Asked(&get.expr, Asked::Attribute)),
        Expr::GetItem(get) => {
            open.extend([Part::Asked(&get.expr, Asked::Attribute), Part::Value(&get.subscript_expr)]);
        }
        Expr::Call(call) => open_call(call, open),
        Expr::List(list) => open.extend(list.items.iter().map(Part::Value)),
        Expr::Tuple(tuple) => open.extend(tuple.items.iter().map(Part::Value)),
        Expr::Map(map) => open.extend(map.keys.iter().chain(&map.values).map(Part::Value)),
    }
}

fn open_call<'t, 's>(call: &'t Spanned<Call<'s>>, open: &mut Vec<Part<'t, 's>>) {
    open.push(Part::Asked(&call.expr, Asked::Call));
    let callee = match &call.expr {
        Expr::Var(var) => Some(var.id),
        _ => None,
    };
    open_args(&call.args, callee, open);
}

/// The arguments of a call: names are [passed](Part::Passed) to a name, but for calls with a list of arguments, which have places
/// that only its length tells.
fn open_args<'t, 's>(args: &'t [CallArg<'s>], callee: Option<&'s str>, open: &mut Vec<Part<'t, 's>>) {
    let splat = |arg: &CallArg<'_>| matches!(arg, CallArg::PosSplat(_) | CallArg::KwargSplat(_));
    let callee = callee.filter(|_| !args.iter().any(splat));
    open.extend(args.iter().enumerate().map(|(at, arg)| match (arg, callee) {
        (CallArg::Pos(Expr::Var(var)), Some(callee)) => {
            Part::Passed(Passed { var, callee, place: Place::Nth(at) })
        }
        (CallArg::Kwarg(name, Expr::Var(var)), Some(callee)) => {
            Part::Passed(Passed { var, callee, place: Place::Named(name) })
        }
        (
            CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value),
            _,
        ) => Part::Value(value),
    }));
}

/// Names are set; of an attribute, its namespace is asked.
fn open_target<'t, 's>(target: &'t Expr<'s>, open: &mut Vec<Part<'t, 's>>) {
    match target {
        Expr::Var(_) => (),
        Expr::List(list) => open.extend(list.items.iter().map(Part::Target)),
        Expr::Tuple(tuple) => open.extend(tuple.items.iter().map(Part::Target)),
        other => open_expr(other, open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(source: &str) -> Result<(), String> {
        check(source, "chat_template", SyntaxConfig::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_templates_do_with_namespaces_is_allowed() {
        for source in [
            "{% set ns = namespace(a=1, b=messages) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ ns['b'] }}{{ ns.get('a') }}",
            "{% set ns = namespace() %}{% if ns is defined and ns.x is not defined %}{% set ns.x %}text{% endset %}{% endif %}",
            "{% with ns = namespace(a=1) %}{{ ns.a.b.c('d') }}{{ ns.a | length }}{% endwith %}",
            "{% macro m(s, x) %}{% set s.a = x %}{{ n(other=s) }}{% endmacro %}{% macro n(other) %}{{ other.a }}{% endmacro %}\
             {% set ns = namespace() %}{{ m(ns, 1) }}",
            "{% macro m(s) %}{{ caller(s) }}{% endmacro %}{% set ns = namespace() %}{% call(t) m(ns) %}{{ t.a }}{% endcall %}",
            "{% macro m(namespace='f') %}{{ 'namespace ' + namespace }}{% endmacro %}{{ m() }}{{ m('a') }}",
            "{% macro m() %}{{ m is defined }}{% endmacro %}{{ m() }}{% for x in [1] %}{{ loop.index }}{{ loop.last }}{% endfor %}",
            "{% for x in [[]] recursive %}{{ loop(x) }}{% endfor %}{% set f = range %}{{ f(3) | list }}",
            "{% set ns = namespace(ns=1) %}{{ {'ns': ns.ns, 'x': [ns.ns, (1, 2)]} }}{{ x.ns }}{{ f(ns=1) }}",
            "{% block b %}{% filter upper %}{{ x[1:] if x else -x }}{% endfilter %}{{ 1 < x < 3 }}{% endblock %}",
        ] {
            assert_eq!(checked(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn no_way_of_a_namespace_to_itself_is_allowed() {
        let ns = "{% set ns = namespace(a=[]) %}";
        for source in [
            "{% set ns.n = ns %}{{ ns.n }}",
            "{% set ns.n = [ns] %}",
            "{% set ns.n = {'a': ns} %}",
            "{% set ns.n = (1, ns) %}",
            "{% set other = ns %}",
            "{% set other, b = ns, 1 %}",
            "{% set ns.n = ns if x else 1 %}",
            "{% set ns.n = ns or 1 %}",
            "{% set ns.n = ns | default(1) %}",
            "{% set ns.n = ns | items %}",
            "{% set ns.n = x | default(ns) %}",
            "{% set ns.n = ns.values() %}",
            "{% set ns.n = ns.items() %}",
            "{% set ns.n = ns['a'] | chain(ns) %}",
            "{% set ns.n = x.get('b', ns) %}",
            "{% set ns.n = ns.get('b', ns) %}",
            "{% set ns.n = dict(a=ns) %}",
            "{% set ns.n = namespace(a=ns) %}",
            "{% set ns.n = namespace() %}",
            "{% set ns.n = ns[:] %}",
            "{% set ns.n | default(ns) %}{% endset %}",
            "{% for x in [ns] %}{% set ns.n = x %}{% endfor %}",
            "{% for x in ns %}{% endfor %}",
            "{% with other = ns %}{% set ns.n = other %}{% endwith %}",
            "{% set a, b = namespace(), 1 %}{% set a.n = a %}",
            "{% set f = namespace %}{% set a = f() %}{% set a.n = a %}",
            "{% set a = [namespace][0]() %}",
            "{% macro m(s) %}{% set s.n = s %}{% endmacro %}{{ m(ns) }}",
            "{% macro m(s) %}{{ n(s) }}{% endmacro %}{% macro n(t) %}{% set t.n = [t] %}{% endmacro %}{{ m(ns) }}",
            "{% macro m(a, b) %}{% set b.n = b %}{% endmacro %}{{ m(*[1], ns) }}",
            "{% macro m(a) %}{% set a.n = a %}{% endmacro %}{{ m(**{'a': ns}) }}",
            "{% macro m(a=ns) %}{% set a.n = a %}{% endmacro %}{{ m() }}",
            "{% macro m(x) %}{% endmacro %}{% set m = dict %}{% set ns.n = m(x=ns) %}",
            "{% if false %}{% macro dict(x) %}{% endmacro %}{% endif %}{% set ns.n = dict(x=ns) %}",
            "{% macro m(f) %}{% set a = f() %}{% set a.n = a %}{% endmacro %}{{ m(namespace) }}",
            "{% macro m(namespace=namespace) %}{% set a = namespace() %}{% set a.n = a %}{% endmacro %}{{ m() }}",
            "{% macro m() %}{{ ns.a }}{% endmacro %}{% set ns.n = m %}",
            "{% macro m() %}{% set ns.n = caller %}{% endmacro %}{% call m() %}{{ ns.a }}{% endcall %}",
            "{% for x in [1] %}{{ loop.changed(loop) }}{% endfor %}",
            "{% macro m(s) %}{{ caller(s) }}{% endmacro %}{% call(t) m(ns) %}{% set t.n = t %}{% endcall %}",
            "{% import 'chat_template' as other %}{% set ns.n = other.ns %}",
            "{% from 'chat_template' import ns as other %}",
            "{% include 'chat_template' %}",
            "{% extends 'chat_template' %}",
            "{{ ns }}",
            "{{ ns == ns }}",
            "{{ ns | tojson }}",
            "{{ f(ns) }}",
        ] {
            let error = checked(&format!("{ns}{source}"));
            assert!(
                error.as_ref().is_err_and(|error| error.contains("expected `") || error.contains("import")),
                "{source}: {error:?}"
            );
        }
    }

    /// What depends on how the engine looks names up: a parameter that is not given is undefined, and no name from outside.
    #[test]
    fn a_parameter_hides_what_it_is_called_after() {
        let environment = minijinja::Environment::new();
        let source = "{% macro m(namespace) %}{{ namespace is defined }}{% endmacro %}{{ m() }}";
        assert_eq!(checked(source), Ok(()));
        assert_eq!(
            environment.render_str(source, ()).map_err(|error| error.to_string()),
            Ok("False".to_owned())
        );
    }

    #[test]
    fn the_line_is_named() {
        let error = checked("a\n{% set ns = namespace() %}\n\n{{ ns }}");
        assert!(
            error.as_ref().is_err_and(|error| error.contains("`ns`") && error.contains("line 4")),
            "{error:?}"
        );
    }
}
