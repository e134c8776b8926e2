//! The parts of a parsed template.

use minijinja::Error;
use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Set, Spanned, Stmt, Var};

use super::MAKER;

/// A part of a template, seen from what it is in.
#[derive(Clone, Copy)]
pub(super) enum Part<'t, 's> {
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
pub(super) enum Asked {
    Attribute,
    Call,
    Test,
}

#[derive(Clone, Copy)]
pub(super) struct Passed<'t, 's> {
    pub(super) var: &'t Spanned<Var<'s>>,
    pub(super) callee: &'s str,
    pub(super) place: Place<'s>,
}

#[derive(Clone, Copy)]
pub(super) enum Place<'s> {
    Nth(usize),
    Named(&'s str),
}

impl<'t, 's> Passed<'t, 's> {
    pub(super) fn of(node: &Node<'t, 's>) -> Option<Self> {
        match node.part {
            Part::Passed(passed) => Some(passed),
            _ => None,
        }
    }
}

/// A part, and whether it is in a macro that has a parameter by the name of what makes namespaces.
pub(super) struct Node<'t, 's> {
    pub(super) part: Part<'t, 's>,
    pub(super) shadowed: bool,
}

/// Whether an expression makes a namespace.
pub(super) fn is_made(value: &Expr<'_>) -> bool {
    matches!(value, Expr::Call(call) if matches!(&call.expr, Expr::Var(var) if var.id == MAKER))
}

/// Visits every part once, each before what is in it. Without recursion: chains of operators are as deep as they are long.
pub(super) fn walk<'t, 's>(
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
