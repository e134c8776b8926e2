//! No template can make a value that holds itself.
//!
//! The engine prints, compares and writes values by recursion, and frees them by counting. Of what a template can make, only
//! a namespace changes after it was made; where one comes to hold itself (`{% set ns.n = ns %}`, or by way of a list, an
//! iterator over its items, a macro that sees it), printing it ends the process, and nothing frees it. The engine has no hook
//! where a namespace is assigned to. So the parsed template is checked before it is compiled: a namespace is made where a name
//! is set to it; that name is used for its attributes alone, or passed to a macro, whose parameter is such a name too. What else
//! sees names and lives on, macros and `loop`, may be called and asked, but is no value either.

mod parts;

use std::collections::{HashMap, HashSet};

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{self, Span};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

use parts::{Asked, Node, Part, Passed, Place, is_made, walk};

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
