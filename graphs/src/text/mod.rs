//! The `.gir` text form of graphs: what prints parses back to the same graph.
//!
//! ```text
//! ; a comment to the end of the line
//! graph @f(
//!   %0: batch "x" f32[slots:32, 64],
//!   %1: parameter "b" f32[64],
//! ) {
//!   %2 = bias_add %0, %1 : f32[slots:32, 64] @ "transformer.h.0"
//!   return "y" %2
//! }
//! ```
//!
//! - Line breaks and blanks separate tokens and mean nothing else; a comma may follow the last item of a list.
//! - A value is named by any word after `%`. Parsing numbers values anew in the order of their definitions; names that
//!   are numbers in the order of a printed graph keep them.
//! - The types after `:` are required and must be those that the op infers: a reader sees them, the parser proves them.
//! - `@ "module"` is there if the node belongs to a module of the model.
//!
//! Does not: verify. A graph that parses is well typed; what else must hold of it is [`crate::verify`]'s.

mod lexer;
mod parse;
mod print;

pub use parse::{MAX_ELEMENTS, parse, parse_all};
pub use print::{print, statement};

/// A text that is no graph: where, what was expected, what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}\n  | {source_line}\n  | {marker}", marker = self.marker())]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub source_line: String,
    /// What could have stood there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl ParseError {
    /// The error at byte `offset` of `source`.
    fn at(source: &str, offset: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let source_line = source[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            source_line: source_line.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Blanks and a `^` under the column; tabs stay tabs, so that it stands where it should.
    fn marker(&self) -> String {
        let blanks =
            self.source_line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
        blanks.chain(['^']).collect()
    }
}

#[cfg(test)]
mod tests;
