//! Tokens of the text form.

use super::ParseError;
use std::fmt;

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// A letter or `_`, then letters, digits and `_`.
    Word(&'s str),
    /// `%` and its word.
    Value(&'s str),
    /// A digit or `-`, then what a number can be made of.
    Number(&'s str),
    /// A string in double quotes, without them and with its escapes resolved.
    Text(String),
    /// One of `( ) { } [ ] , : = @`.
    Mark(char),
    /// The end of the text.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) | Token::Number(word) => write!(f, "`{word}`"),
            Token::Value(name) => write!(f, "`%{name}`"),
            Token::Text(text) => write!(f, "{}", Quoted(text)),
            Token::Mark(mark) => write!(f, "`{mark}`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// A string as it is written in the text form.
pub(super) struct Quoted<'s>(pub(super) &'s str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// True for what a word is made of.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Reads tokens from a text.
pub(super) struct Lexer<'s> {
    source: &'s str,
    offset: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, offset: 0 }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.offset..]
    }

    /// Takes the longest prefix of characters that are `wanted`.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.offset += taken.len();
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with(';') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// The next token and the byte at which it starts.
    ///
    /// # Errors
    /// [`ParseError`] at a character that starts no token, or in a string that is not well formed.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'s>), ParseError> {
        self.skip_blanks();
        let start = self.offset;
        let Some(first) = self.rest().chars().next() else { return Ok((start, Token::End)) };
        let token = match first {
            '(' | ')' | '{' | '}' | '[' | ']' | ',' | ':' | '=' | '@' => {
                self.offset += 1;
                Token::Mark(first)
            }
            '%' => {
                self.offset += 1;
                match self.take_while(is_word) {
                    "" => return Err(self.error(start, "a value's name after `%`")),
                    name => Token::Value(name),
                }
            }
            '"' => Token::Text(self.string()?),
            '-' | '0'..='9' => Token::Number(self.number()),
            c if is_word(c) => Token::Word(self.take_while(is_word)),
            _ => {
                return Err(
                    self.error(start, "a word, a value, a number, a string or one of `( ) { } [ ] , : = @`")
                );
            }
        };
        Ok((start, token))
    }

    /// A sign, digits, a point, an exponent with its own sign; what of that is a number is the parser's to say.
    fn number(&mut self) -> &'s str {
        let rest = self.rest();
        let mut previous = 'e'; // so that a sign may come first
        let end = rest.find(|c: char| {
            let sign = (c == '-' || c == '+') && matches!(previous, 'e' | 'E');
            previous = c;
            !(sign || is_word(c) || c == '.')
        });
        let taken = &rest[..end.unwrap_or(rest.len())];
        self.offset += taken.len();
        taken
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = self.offset;
        self.offset += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != '"' && c != '\\' && c != '\n'));
            let rest = self.rest();
            if rest.starts_with('"') {
                self.offset += 1;
                return Ok(text);
            }
            if !rest.starts_with('\\') {
                let found = "the end of the line";
                return Err(ParseError::at(self.source, start, "a string that ends on its line", found));
            }
            text.push(self.escape()?);
        }
    }

    /// One of `\"`, `\\`, `\u{hex}`.
    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.offset;
        let rest = &self.rest()[1..];
        let (length, c) = match rest.chars().next() {
            Some(c @ ('"' | '\\')) => (2, Some(c)),
            _ => {
                let digits =
                    rest.strip_prefix("u{").and_then(|rest| rest.split_once('}')).map_or("", |(hex, _)| hex);
                let number = u32::from_str_radix(digits, 16).ok();
                (digits.len() + 4, number.and_then(char::from_u32))
            }
        };
        let c = c.ok_or_else(|| self.error(start, "`\\\"`, `\\\\` or `\\u{hexadecimal number}`"))?;
        self.offset += length;
        Ok(c)
    }

    /// The error that shows the character at `offset`.
    fn error(&self, offset: usize, expected: &str) -> ParseError {
        let found = match self.source[offset..].chars().next() {
            Some(c) if c.is_control() => format!("`{}`", c.escape_debug()),
            Some(c) => format!("`{c}`"),
            None => Token::End.to_string(),
        };
        ParseError::at(self.source, offset, expected, found)
    }
}
