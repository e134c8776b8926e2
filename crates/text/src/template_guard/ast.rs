//! A walk over the syntax tree of a template.

use minijinja::Error;
use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Set, Spanned, Stmt, Var};

/// The function that makes namespaces.
pub(super) const NAMESPACE: &str = "namespace";

/// A part of a template, by its role in the part around it.
#[derive(Clone, Copy)]
pub(super) enum Part<'t, 's> {
    Stmt(&'t Stmt<'s>),
    /// An expression whose value is used.
    Value(&'t Expr<'s>),
    /// An expression that is called or tested, or whose attribute is read.
    Accessed(&'t Expr<'s>, Access),
    /// The left side of an assignment.
    Target(&'t Expr<'s>),
    /// `{% set target = value %}`, and in `with`.
    Set(&'t Expr<'s>, &'t Expr<'s>),
    Macro(&'t Spanned<Macro<'s>>),
    /// A variable that is passed in a call.
    Argument(Argument<'t, 's>),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Access {
    Attribute,
    Call,
    Test,
}

/// A variable that is passed in a call of a function or macro by its name.
#[derive(Clone, Copy)]
pub(super) struct Argument<'t, 's> {
    pub(super) var: &'t Spanned<Var<'s>>,
    pub(super) callee: &'s str,
    pub(super) position: Position<'s>,
}

#[derive(Clone, Copy)]
pub(super) enum Position<'s> {
    Index(usize),
    Named(&'s str),
}

impl<'t, 's> Argument<'t, 's> {
    pub(super) fn from_node(node: &Node<'t, 's>) -> Option<Self> {
        match node.part {
            Part::Argument(argument) => Some(argument),
            _ => None,
        }
    }
}

/// A part, and whether it is in a macro whose parameter shadows the function `namespace`.
pub(super) struct Node<'t, 's> {
    pub(super) part: Part<'t, 's>,
    pub(super) shadowed: bool,
}

/// Whether an expression is a call of `namespace`.
pub(super) fn makes_namespace(value: &Expr<'_>) -> bool {
    matches!(value, Expr::Call(call) if matches!(&call.expr, Expr::Var(var) if var.id == NAMESPACE))
}

/// Visits every part once, parents first. Uses no recursion: a long chain of operators is a deep tree.
pub(super) fn walk<'t, 's>(
    template: &'t Stmt<'s>,
    visit: &mut impl FnMut(Node<'t, 's>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut open = vec![Node { part: Part::Stmt(template), shadowed: false }];
    let mut parts = Vec::new();
    while let Some(node) = open.pop() {
        let mut shadowed = node.shadowed;
        match node.part {
            Part::Stmt(stmt) => push_stmt(stmt, &mut parts),
            Part::Value(expr) | Part::Accessed(expr, _) => push_expr(expr, &mut parts),
            Part::Target(expr) => push_target(expr, &mut parts),
            Part::Set(target, value) => {
                parts.push(Part::Target(target));
                match value {
                    Expr::Call(call)
                        if matches!(target, Expr::Var(_)) && !shadowed && makes_namespace(value) =>
                    {
                        push_args(&call.args, None, &mut parts);
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
                shadowed |=
                    declared.args.iter().any(|arg| matches!(arg, Expr::Var(var) if var.id == NAMESPACE));
            }
            Part::Argument(_) => (),
        }
        visit(node)?;
        open.extend(parts.drain(..).map(|part| Node { part, shadowed }));
    }
    Ok(())
}

fn push_stmt<'t, 's>(stmt: &'t Stmt<'s>, open: &mut Vec<Part<'t, 's>>) {
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
            push_call(&block.call, open);
            open.push(Part::Macro(&block.macro_decl));
        }
        Stmt::Do(call) => push_call(&call.call, open),
    }
    open.extend(body.iter().map(Part::Stmt));
}

fn push_expr<'t, 's>(expr: &'t Expr<'s>, open: &mut Vec<Part<'t, 's>>) {
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
            push_args(&filter.args, None, open);
        }
        Expr::Test(test) => {
            open.push(Part::Accessed(&test.expr, Access::Test));
            push_args(&test.args, None, open);
        }
        Expr::GetAttr(get) => open.push(Part::Accessed(&get.expr, Access::Attribute)),
        Expr::GetItem(get) => {
            open.extend([Part::Accessed(&get.expr, Access::Attribute), Part::Value(&get.subscript_expr)]);
        }
        Expr::Call(call) => push_call(call, open),
        Expr::List(list) => open.extend(list.items.iter().map(Part::Value)),
        Expr::Tuple(tuple) => open.extend(tuple.items.iter().map(Part::Value)),
        Expr::Map(map) => open.extend(map.keys.iter().chain(&map.values).map(Part::Value)),
    }
}

fn push_call<'t, 's>(call: &'t Spanned<Call<'s>>, open: &mut Vec<Part<'t, 's>>) {
    open.push(Part::Accessed(&call.expr, Access::Call));
    let callee = match &call.expr {
        Expr::Var(var) => Some(var.id),
        _ => None,
    };
    push_args(&call.args, callee, open);
}

/// The arguments of a call. A call with `*args` or `**kwargs` yields plain values: which parameter gets which argument is not
/// known before it runs.
fn push_args<'t, 's>(args: &'t [CallArg<'s>], callee: Option<&'s str>, open: &mut Vec<Part<'t, 's>>) {
    let splat = |arg: &CallArg<'_>| matches!(arg, CallArg::PosSplat(_) | CallArg::KwargSplat(_));
    let callee = callee.filter(|_| !args.iter().any(splat));
    open.extend(args.iter().enumerate().map(|(at, arg)| match (arg, callee) {
        (CallArg::Pos(Expr::Var(var)), Some(callee)) => {
            Part::Argument(Argument { var, callee, position: Position::Index(at) })
        }
        (CallArg::Kwarg(name, Expr::Var(var)), Some(callee)) => {
            Part::Argument(Argument { var, callee, position: Position::Named(name) })
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

/// The target of an assignment: names, or an attribute of a namespace.
fn push_target<'t, 's>(target: &'t Expr<'s>, open: &mut Vec<Part<'t, 's>>) {
    match target {
        Expr::Var(_) => (),
        Expr::List(list) => open.extend(list.items.iter().map(Part::Target)),
        Expr::Tuple(tuple) => open.extend(tuple.items.iter().map(Part::Target)),
        other => push_expr(other, open),
    }
}
