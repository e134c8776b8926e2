//! Refuses templates that could build a value that contains itself.
//!
//! minijinja prints, compares and serializes values recursively, and frees them by reference counting. A value that contains
//! itself would overflow the stack and leak. Only a namespace can change after it was made, so only a namespace can come to
//! contain itself: directly (`{% set ns.n = ns %}`), or through a list, an iterator or a macro. minijinja has no hook for
//! assignments to a namespace, so this check runs on the parsed template. It enforces these rules:
//!
//! - A namespace is created only by `{% set NAME = namespace(...) %}`.
//! - NAME is used only for its attributes, or passed to a macro. The macro's parameter then follows the same rule.
//! - Macros and `loop`, which capture variables, may be called and their attributes read. They are not values either.

use std::collections::{HashMap, HashSet};

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{self, Span};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

use super::ast::{Access, Argument, NAMESPACE, Node, Part, Position, makes_namespace, walk};

/// Names that minijinja itself gives to macros and loops.
const BUILT_IN_CALLABLES: [&str; 2] = ["caller", "loop"];

/// The functions of every template.
const FUNCTIONS: [&str; 5] = [NAMESPACE, "dict", "range", "raise_exception", "strftime_now"];

/// Checks a template. O(bytes).
///
/// # Errors
/// The template does not parse, uses a namespace, macro or loop as a value, or imports another template.
pub(crate) fn check(source: &str, name: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    let template = machinery::parse(source, name, syntax)?;
    let mut names =
        Names { bound: FUNCTIONS.into(), callables: BUILT_IN_CALLABLES.into(), ..Names::default() };
    let mut arguments = Vec::new();
    walk(&template, &mut |node| {
        names.collect(&node);
        arguments.extend(Argument::from_node(&node));
        Ok(())
    })?;
    names.follow(&arguments);
    walk(&template, &mut |node| names.check(&node))
}

/// The names of a template, by what they can stand for.
#[derive(Default)]
struct Names<'s> {
    namespaces: HashSet<&'s str>,
    callables: HashSet<&'s str>,
    /// The parameters of each macro with this name.
    macros: HashMap<&'s str, Vec<Vec<&'s str>>>,
    /// Names that may stand for something other than a macro.
    bound: HashSet<&'s str>,
}

impl<'s> Names<'s> {
    fn collect(&mut self, node: &Node<'_, 's>) {
        match node.part {
            Part::Set(Expr::Var(name), value) if makes_namespace(value) => {
                self.namespaces.insert(name.id);
            }
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

    /// The macro parameters that receive an argument; none unless the callee is certainly a macro.
    fn parameters(&self, argument: &Argument<'_, 's>) -> impl Iterator<Item = &'s str> {
        let declared = self.macros.get(argument.callee).filter(|_| !self.bound.contains(argument.callee));
        declared.into_iter().flatten().filter_map(|parameters| match argument.position {
            Position::Index(at) => parameters.get(at).copied(),
            Position::Named(name) => parameters.iter().find(|&&other| other == name).copied(),
        })
    }

    /// Adds the parameters that receive a namespace, directly or through other macros.
    fn follow(&mut self, arguments: &[Argument<'_, 's>]) {
        let mut becomes: HashMap<&str, Vec<&'s str>> = HashMap::new();
        for argument in arguments {
            becomes.entry(argument.var.id).or_default().extend(self.parameters(argument));
        }
        let mut open: Vec<&str> = self.namespaces.iter().copied().collect();
        while let Some(name) = open.pop() {
            for parameter in becomes.remove(name).unwrap_or_default() {
                self.namespaces.insert(parameter);
                open.push(parameter);
            }
        }
    }

    fn check(&self, node: &Node<'_, 's>) -> Result<(), Error> {
        let (var, access) = match node.part {
            Part::Value(Expr::Var(var)) => (var, None),
            Part::Argument(argument) => {
                let id = argument.var.id;
                let to_macro = self.parameters(&argument).next().is_some();
                if self.namespaces.contains(id) && id != NAMESPACE && to_macro {
                    return Ok(());
                }
                (argument.var, None)
            }
            Part::Accessed(Expr::Var(var), access) => (var, Some(access)),
            // Other methods of a namespace return iterators that contain it.
            Part::Accessed(Expr::GetAttr(method), Access::Call) if method.name != "get" => match &method.expr
            {
                Expr::Var(var) if self.namespaces.contains(var.id) => (var, None),
                _ => return Ok(()),
            },
            Part::Stmt(Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_)) => {
                return Err(syntax_error(
                    "expected a template without imports: there are no other templates to import or include"
                        .to_owned(),
                    None,
                ));
            }
            _ => return Ok(()),
        };
        let makes = var.id == NAMESPACE && !node.shadowed;
        let namespace = self.namespaces.contains(var.id);
        let callable = self.callables.contains(var.id);
        let allowed = match access {
            Some(Access::Test) => true,
            Some(Access::Attribute) => !makes || namespace,
            Some(Access::Call) => !makes && !namespace,
            None => !makes && !namespace && !callable,
        };
        if allowed {
            return Ok(());
        }
        let name = var.id;
        let reason = if callable {
            format!("expected `{name}` to be called or its attributes to be read, found it used as a value")
        } else {
            format!(
                "expected `{{% set NAME = namespace(...) %}}` and uses of NAME's attributes, found `{name}` used as a value, \
                 which could come to contain itself"
            )
        };
        Err(syntax_error(reason, Some(var.span())))
    }
}

fn syntax_error(reason: String, span: Option<Span>) -> Error {
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
    fn common_uses_of_namespaces_are_allowed() {
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
    fn a_namespace_cannot_reach_itself() {
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

    /// The check relies on this: an omitted parameter is undefined and still hides the function of the same name.
    #[test]
    fn an_omitted_parameter_hides_a_function_of_its_name() {
        let environment = minijinja::Environment::new();
        let source = "{% macro m(namespace) %}{{ namespace is defined }}{% endmacro %}{{ m() }}";
        assert_eq!(checked(source), Ok(()));
        assert_eq!(
            environment.render_str(source, ()).map_err(|error| error.to_string()),
            Ok("False".to_owned())
        );
    }

    #[test]
    fn errors_name_the_line() {
        let error = checked("a\n{% set ns = namespace() %}\n\n{{ ns }}");
        assert!(
            error.as_ref().is_err_and(|error| error.contains("`ns`") && error.contains("line 4")),
            "{error:?}"
        );
    }
}
