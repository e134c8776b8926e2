//! Refuses templates that could crash the template engine, before it compiles them.

mod ast;
mod depth;
mod namespaces;

pub(crate) use depth::check as check_depth;
pub(crate) use namespaces::check as check_namespaces;
