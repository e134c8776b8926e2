/// How to read text that looks like a special token, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Specials {
    /// As that token. For prompts that a template has rendered.
    Parse,
    /// As ordinary text. For what a user typed: it cannot end its own turn.
    Plain,
}
