//! Parses graphs. Nothing here recurses, and nothing is as large as a number in the text says.

use super::ParseError;
use super::lexer::{Lexer, Token};
use crate::attributes::{AttributeValue, Attributes};
use crate::dtype::DType;
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::ops::Op;
use crate::shape::{Dim, Extent, TensorType};
use std::collections::{HashMap, HashSet, VecDeque};

/// Most elements that a type can have at its bounds in a text: sizes in bytes stay far from overflow.
pub const MAX_ELEMENTS: usize = 1 << 40;

/// Most graphs of a text.
const MAX_GRAPHS: usize = 1024;

/// Most attributes of a node: more than any op has.
const MAX_ATTRIBUTES: usize = 64;

/// Parses one graph, with nothing after it.
///
/// # Errors
/// [`ParseError`] at the first place that is not as the grammar, the op set or the shape rules say.
pub fn parse(source: &str) -> Result<Graph, ParseError> {
    let mut parser = Parser::new(source)?;
    let graph = parser.graph()?;
    match parser.token {
        Token::End => Ok(graph),
        _ => Err(parser.unexpected("the end of the text after one graph")),
    }
}

/// Parses one graph or several with different names.
///
/// # Errors
/// [`ParseError`] as [`parse`], and if two graphs have one name.
pub fn parse_all(source: &str) -> Result<Vec<Graph>, ParseError> {
    let mut parser = Parser::new(source)?;
    let mut graphs: Vec<Graph> = Vec::new();
    let mut names = HashSet::new();
    while graphs.is_empty() || parser.token != Token::End {
        let offset = parser.offset;
        if graphs.len() == MAX_GRAPHS {
            let expected = format!("at most {MAX_GRAPHS} graphs");
            return Err(ParseError::at(source, offset, expected, parser.token.to_string()));
        }
        let graph = parser.graph()?;
        if !names.insert(graph.name.clone()) {
            let found = format!("a second graph `@{}`", graph.name);
            return Err(ParseError::at(source, offset, "a graph with a name of its own", found));
        }
        graphs.push(graph);
    }
    Ok(graphs)
}

/// A name that has been defined in the graph at hand.
struct Defined {
    /// Byte of the definition.
    offset: usize,
    /// Its value; none yet for an input that waits in `pending`.
    value: Option<ValueId>,
}

/// An input that has been read and waits to be declared.
struct PendingInput<'s> {
    offset: usize,
    name: &'s str,
    role: Role,
    outside: String,
    ty: TensorType,
}

/// A value's name with its place.
type Name<'s> = (usize, &'s str);

struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    offset: usize,
    defined: HashMap<&'s str, Defined>,
    /// Inputs are declared when they are due, so that a graph whose inputs were not declared first keeps its numbers.
    pending: VecDeque<PendingInput<'s>>,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(source);
        let (offset, token) = lexer.next()?;
        Ok(Self { source, lexer, token, offset, defined: HashMap::new(), pending: VecDeque::new() })
    }

    fn unexpected(&self, expected: impl Into<String>) -> ParseError {
        ParseError::at(self.source, self.offset, expected, self.token.to_string())
    }

    fn error(&self, offset: usize, expected: impl Into<String>, found: impl Into<String>) -> ParseError {
        ParseError::at(self.source, offset, expected, found)
    }

    fn line_of(&self, offset: usize) -> usize {
        self.source[..offset].matches('\n').count() + 1
    }

    /// Takes the token and reads the next.
    fn advance(&mut self) -> Result<Token<'s>, ParseError> {
        let (offset, token) = self.lexer.next()?;
        self.offset = offset;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes the mark if it is there.
    fn accept(&mut self, mark: char) -> Result<bool, ParseError> {
        let is_there = self.token == Token::Mark(mark);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn expect(&mut self, mark: char, place: &str) -> Result<(), ParseError> {
        if self.accept(mark)? { Ok(()) } else { Err(self.unexpected(format!("`{mark}` {place}"))) }
    }

    fn word(&mut self, expected: &str) -> Result<&'s str, ParseError> {
        let Token::Word(word) = self.token else { return Err(self.unexpected(expected)) };
        self.advance()?;
        Ok(word)
    }

    fn text(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.token {
            Token::Text(_) => match self.advance()? {
                Token::Text(text) => Ok(text),
                other => Err(self.error(self.offset, expected, other.to_string())),
            },
            _ => Err(self.unexpected(expected)),
        }
    }

    fn value_name(&mut self, expected: &str) -> Result<Name<'s>, ParseError> {
        let Token::Value(name) = self.token else { return Err(self.unexpected(expected)) };
        let offset = self.offset;
        self.advance()?;
        Ok((offset, name))
    }

    fn graph(&mut self) -> Result<Graph, ParseError> {
        self.defined.clear();
        self.pending.clear();
        if self.token != Token::Word("graph") {
            return Err(self.unexpected("`graph`"));
        }
        self.advance()?;
        self.expect('@', "and the graph's name")?;
        let mut graph = match self.token {
            Token::Text(_) => Graph::new(&self.text("the graph's name")?),
            _ => Graph::new(self.word("the graph's name")?),
        };
        self.expect('(', "before the inputs")?;
        self.inputs()?;
        self.expect('{', "before the nodes")?;
        while self.token != Token::Word("return") {
            self.node(&mut graph)?;
        }
        self.declare_before(&mut graph, None)?;
        self.advance()?;
        self.outputs(&mut graph)?;
        self.expect('}', "or `,` after an output")?;
        Ok(graph)
    }

    /// Reads the inputs up to and with `)`.
    fn inputs(&mut self) -> Result<(), ParseError> {
        let mut outsides = HashSet::new();
        while !self.accept(')')? {
            let (offset, name) = self.value_name("an input (`%value: role \"name\" type`) or `)`")?;
            self.define(offset, name, None)?;
            self.expect(':', "after the input's value")?;
            let role = self.role()?;
            let outside_offset = self.offset;
            let outside = self.text("the input's name in double quotes")?;
            if !outsides.insert(outside.clone()) {
                let found = format!("a second input \"{outside}\"");
                return Err(self.error(outside_offset, "an input with a name of its own", found));
            }
            let ty = self.ty()?;
            self.pending.push_back(PendingInput { offset, name, role, outside, ty });
            if !self.accept(',')? && self.token != Token::Mark(')') {
                return Err(self.unexpected("`,` or `)` after an input"));
            }
        }
        Ok(())
    }

    fn role(&mut self) -> Result<Role, ParseError> {
        const EXPECTED: &str = "a role (weight, parameter, state, batch or control)";
        let offset = self.offset;
        let word = self.word(EXPECTED)?;
        let role = Role::ALL.into_iter().find(|role| role.name() == word);
        role.ok_or_else(|| self.error(offset, EXPECTED, format!("`{word}`")))
    }

    /// Notes a name; there must be none like it.
    fn define(&mut self, offset: usize, name: &'s str, value: Option<ValueId>) -> Result<(), ParseError> {
        if let Some(earlier) = self.defined.insert(name, Defined { offset, value }) {
            let found = format!("`%{name}`, which is defined on line {}", self.line_of(earlier.offset));
            return Err(self.error(offset, "a value that is not defined yet", found));
        }
        Ok(())
    }

    /// Declares the inputs that are due before a statement whose first result has this name: all that do not bear a
    /// greater number.
    fn declare_before(&mut self, graph: &mut Graph, result: Option<&str>) -> Result<(), ParseError> {
        let number = |name: &str| name.parse::<u32>().ok();
        let limit = result.and_then(number);
        while let Some(input) = self.pending.front() {
            if let (Some(limit), Some(number)) = (limit, number(input.name))
                && number > limit
            {
                break;
            }
            self.declare_next(graph)?;
        }
        Ok(())
    }

    fn declare_next(&mut self, graph: &mut Graph) -> Result<(), ParseError> {
        let Some(input) = self.pending.pop_front() else { return Ok(()) };
        let declared = graph.input(&input.outside, input.role, input.ty);
        let value = declared.map_err(|error| self.error(input.offset, "an input", error.to_string()))?;
        self.defined.insert(input.name, Defined { offset: input.offset, value: Some(value) });
        Ok(())
    }

    /// The value that a name stands for.
    fn resolve(&mut self, graph: &mut Graph, (offset, name): Name<'s>) -> Result<ValueId, ParseError> {
        if !self.defined.contains_key(name) {
            return Err(self.error(offset, "a value that is defined above", format!("`%{name}`")));
        }
        loop {
            match self.defined.get(name).and_then(|defined| defined.value) {
                Some(value) => return Ok(value),
                None => self.declare_next(graph)?, // an input: it is among the pending
            }
        }
    }

    fn node(&mut self, graph: &mut Graph) -> Result<(), ParseError> {
        let mut results = vec![self.value_name("a node (`%value = op ...`) or `return`")?];
        while self.accept(',')? {
            results.push(self.value_name("the next result")?);
        }
        self.expect('=', "or `,` after a result")?;
        self.declare_before(graph, results.first().map(|&(_, name)| name))?;
        let op_offset = self.offset;
        let name = self.word("the name of an op")?;
        let mut operands = Vec::new();
        while let Token::Value(_) = self.token {
            let operand = self.value_name("an operand")?;
            operands.push(self.resolve(graph, operand)?);
            if !self.accept(',')? {
                break;
            }
        }
        let attributes = self.attributes()?;
        let op = self.op(op_offset, name, &attributes)?;
        self.expect(':', "and the types of the results")?;
        let types_offset = self.offset;
        let mut types = vec![self.ty()?];
        while self.accept(',')? {
            types.push(self.ty()?);
        }
        let module =
            if self.accept('@')? { self.text("the node's module in double quotes")? } else { String::new() };
        graph.set_module(&module);
        let pushed = graph.push(op, &operands);
        graph.set_module("");
        let node = pushed.map_err(|error| self.type_error(op_offset, name, &error))?;
        self.check_types(graph, node, types_offset, &types)?;
        self.define_results(graph, node, &results)
    }

    fn op(&self, offset: usize, name: &str, attributes: &Attributes) -> Result<Op, ParseError> {
        match Op::from_parts(name, attributes) {
            Ok(Some(op)) => Ok(op),
            Ok(None) => {
                let expected = format!("the name of an op (`{}` is the nearest)", nearest_op(name));
                Err(self.error(offset, expected, format!("`{name}`")))
            }
            Err(error) => Err(self.error(
                offset,
                format!("attributes that `{name}` takes"),
                format!("an error: {error}"),
            )),
        }
    }

    fn type_error(&self, offset: usize, op: &str, error: &crate::graph::GraphError) -> ParseError {
        use crate::graph::GraphError;
        let found = match error {
            GraphError::Type { source, .. } => format!("an error: {source}"),
            GraphError::DuplicateInput { .. } => error.to_string(),
        };
        self.error(offset, format!("operands that `{op}` takes"), found)
    }

    /// The types written must be those inferred.
    fn check_types(
        &self,
        graph: &Graph,
        node: crate::entities::NodeId,
        offset: usize,
        written: &[TensorType],
    ) -> Result<(), ParseError> {
        let inferred = graph.result_types(graph.node(node));
        if inferred.iter().copied().eq(written) {
            return Ok(());
        }
        let join = |types: Vec<String>| types.join(", ");
        let expected = join(inferred.iter().map(ToString::to_string).collect());
        let found = join(written.iter().map(ToString::to_string).collect());
        let op = graph.node(node).op.name();
        Err(self.error(offset, format!("{expected}, which `{op}` infers"), found))
    }

    fn define_results(
        &mut self,
        graph: &Graph,
        node: crate::entities::NodeId,
        names: &[Name<'s>],
    ) -> Result<(), ParseError> {
        let values = &graph.node(node).results;
        if names.len() != values.len() {
            let offset = names.first().map_or(self.offset, |&(offset, _)| offset);
            let expected = format!("{} results of `{}`", values.len(), graph.node(node).op.name());
            return Err(self.error(offset, expected, names.len().to_string()));
        }
        for (&(offset, name), &value) in names.iter().zip(values) {
            self.define(offset, name, Some(value))?;
        }
        Ok(())
    }

    /// `{name = value, ...}`, or nothing.
    fn attributes(&mut self) -> Result<Attributes, ParseError> {
        let mut attributes = Attributes::new();
        if !self.accept('{')? {
            return Ok(attributes);
        }
        while !self.accept('}')? {
            let offset = self.offset;
            if attributes.iter().count() == MAX_ATTRIBUTES {
                return Err(self.unexpected(format!("`}}` after at most {MAX_ATTRIBUTES} attributes")));
            }
            let name = self.word("an attribute's name or `}`")?;
            if attributes.iter().any(|(earlier, _)| earlier == name) {
                return Err(self.error(offset, "an attribute that is not given yet", format!("`{name}`")));
            }
            self.expect('=', "after the attribute's name")?;
            let value = self.attribute_value()?;
            attributes.push(name, value);
            if !self.accept(',')? && self.token != Token::Mark('}') {
                return Err(self.unexpected("`,` or `}` after an attribute"));
            }
        }
        Ok(attributes)
    }

    fn attribute_value(&mut self) -> Result<AttributeValue, ParseError> {
        const EXPECTED: &str = "an attribute's value: an integer, a number or a word";
        let value = match self.token {
            Token::Word(word @ ("inf" | "NaN")) => word.parse().ok().map(AttributeValue::Float),
            Token::Word(word) => Some(AttributeValue::Word(word.to_owned())),
            Token::Number(digits) => {
                let int = digits.parse().ok().map(AttributeValue::Int);
                int.or_else(|| digits.parse().ok().map(AttributeValue::Float))
            }
            Token::Value(_) | Token::Text(_) | Token::Mark(_) | Token::End => None,
        };
        let value = value.ok_or_else(|| self.unexpected(EXPECTED))?;
        self.advance()?;
        Ok(value)
    }

    fn ty(&mut self) -> Result<TensorType, ParseError> {
        const EXPECTED: &str = "a type (`f32[slots:8, 4]`; dtypes are f32, bf16, i32)";
        let offset = self.offset;
        let word = self.word(EXPECTED)?;
        let dtype: DType = word.parse().map_err(|_| self.error(offset, EXPECTED, format!("`{word}`")))?;
        self.expect('[', "before the dimensions")?;
        let mut dims: Vec<Dim> = Vec::new();
        let mut elements = 1usize;
        while !self.accept(']')? {
            let dim_offset = self.offset;
            let dim = self.dim()?;
            dims.push(dim);
            // A dimension of 0 must not hide the size of the others: kernels plan for products of some of them.
            elements = elements.saturating_mul(dim.bound.max(1));
            if elements > MAX_ELEMENTS {
                let expected = format!("at most {MAX_ELEMENTS} elements");
                return Err(self.error(dim_offset, expected, format!("a dimension {dim} that makes more")));
            }
            if !self.accept(',')? && self.token != Token::Mark(']') {
                return Err(self.unexpected("`,` or `]` after a dimension"));
            }
        }
        Ok(TensorType::new(dtype, dims))
    }

    fn dim(&mut self) -> Result<Dim, ParseError> {
        const EXPECTED: &str = "a dimension (`64`, `slots:64`, `rows:64`, `windows:8`, `segments:8`) or `]`";
        let mut extent = Extent::Fixed;
        if let Token::Word(word) = self.token {
            let known =
                Extent::ALL.into_iter().find(|extent| extent.name() == word && *extent != Extent::Fixed);
            extent = known.ok_or_else(|| self.unexpected(EXPECTED))?;
            self.advance()?;
            self.expect(':', "and the bound of the dimension")?;
        }
        let Token::Number(digits) = self.token else { return Err(self.unexpected(EXPECTED)) };
        let bound: usize = digits.parse().map_err(|_| self.unexpected(EXPECTED))?;
        self.advance()?;
        Ok(Dim { bound, extent })
    }

    fn outputs(&mut self, graph: &mut Graph) -> Result<(), ParseError> {
        let mut names = HashSet::new();
        while let Token::Text(_) = self.token {
            let offset = self.offset;
            let name = self.text("an output's name")?;
            if !names.insert(name.clone()) {
                let found = format!("a second output \"{name}\"");
                return Err(self.error(offset, "an output with a name of its own", found));
            }
            let value = self.value_name("the value of the output")?;
            let value = self.resolve(graph, value)?;
            graph.output(&name, value);
            if !self.accept(',')? {
                break;
            }
        }
        Ok(())
    }
}

/// The op whose name takes the fewest changes of a letter to become `name`.
fn nearest_op(name: &str) -> &'static str {
    let name = name.get(..name.len().min(LONGEST_COMPARED)).unwrap_or_default(); // words are ASCII
    Op::NAMES.iter().copied().min_by_key(|op| distance(op, name)).unwrap_or_default()
}

/// Letters that are looked at to find the nearest op.
const LONGEST_COMPARED: usize = 64;

/// Edit distance, by rows.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
