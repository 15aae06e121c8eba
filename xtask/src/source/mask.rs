//! Blanks out comments and literals, so that what is left is code.
//!
//! Invariant: the result has as many bytes as the text and its line ends stand in the same places.
//! Does not: understand macros, or string literals that a macro builds.

/// What stands at a place of the text.
enum Piece {
    /// A comment or a literal, up to this offset.
    Blank(usize),
    /// Code, up to this offset.
    Code(usize),
}

/// `text` with every byte of its comments, strings and character literals replaced by a space.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        at = match piece(bytes, at) {
            Piece::Code(end) => end,
            Piece::Blank(end) => {
                for byte in &mut out[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                end
            }
        };
    }
    // Whole comments and literals were blanked, so no multi-byte character was cut in two.
    String::from_utf8_lossy(&out).into_owned()
}

fn piece(bytes: &[u8], at: usize) -> Piece {
    let rest = &bytes[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => Piece::Blank(at + line_comment(rest)),
        b'/' if rest.starts_with(b"/*") => Piece::Blank(at + block_comment(rest)),
        b'"' => Piece::Blank(at + string(rest)),
        b'\'' => match char_literal(rest) {
            Some(length) => Piece::Blank(at + length),
            None => Piece::Code(at + 1), // a lifetime or a label
        },
        byte if is_identifier(byte) => word(bytes, at),
        _ => Piece::Code(at + 1),
    }
}

/// An identifier, or a literal that starts with a prefix such as `b`, `r#` or `br`.
fn word(bytes: &[u8], at: usize) -> Piece {
    let length = bytes[at..].iter().take_while(|&&byte| is_identifier(byte)).count();
    let end = at + length;
    let rest = &bytes[end..];
    let literal = match &bytes[at..end] {
        b"r" | b"br" | b"cr" => raw_string(rest),
        b"b" if rest.first() == Some(&b'\'') => char_literal(rest),
        b"b" | b"c" if rest.first() == Some(&b'"') => Some(string(rest)),
        _ => None,
    };
    match literal {
        Some(length) => Piece::Blank(end + length),
        None => Piece::Code(end),
    }
}

fn is_identifier(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a string literal that starts with its quote.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `#"…"#` after the `r`; `None` for a raw identifier.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = &rest[hashes + 1..];
    let length = body.windows(close.len()).position(|window| window == close.as_slice());
    Some(length.map_or(rest.len(), |length| hashes + 1 + length + close.len()))
}

/// The length of a character literal that starts with its quote; `None` for a lifetime.
fn char_literal(rest: &[u8]) -> Option<usize> {
    let first = *rest.get(1)?;
    if first == b'\\' {
        // The byte after the backslash may be the quote itself.
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'')?;
        return Some(3 + close + 1);
    }
    let width = match first {
        0x00..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(2 + width)
}

#[cfg(test)]
mod tests {
    use super::mask;

    /// Each row: a text, and what must be left of it once blanks are squeezed.
    #[test]
    fn comments_and_literals_are_blanked() {
        let rows = [
            ("a // b {\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"f("x { \" y", z)"#, "f( , z)"),
            ("g(r#\"x \" { \"#, z)", "g( , z)"),
            ("h(br\"\\\", z)", "h( , z)"),
            ("k('{', b'}', '\\'', '\\u{7d}')", "k( , , , )"),
            ("fn f<'a>(x: &'a str) { 'l: loop {} }", "fn f<'a>(x: &'a str) { 'l: loop {} }"),
            ("r#type + b", "r#type + b"),
            ("'é' + 'x'", " + "),
            ("\"never closed {", " "),
        ];
        for (text, expected) in rows {
            let masked = mask(text);
            assert_eq!(masked.len(), text.len(), "length of {text:?}");
            let squeezed = squeeze(&masked);
            assert_eq!(squeezed, expected, "for {text:?}");
        }
    }

    #[test]
    fn line_ends_stay_where_they_are() {
        let text = "a\n/* b\n c */\n\"d\ne\"\nf";
        let ends = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(ends(&mask(text)), ends(text));
    }

    fn squeeze(text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            let c = if c == '\n' { ' ' } else { c };
            if c != ' ' || !out.ends_with(' ') {
                out.push(c);
            }
        }
        out
    }
}
