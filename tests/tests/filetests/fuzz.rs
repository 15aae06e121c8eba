//! Mutations of every filetest: whatever the bytes, the parser returns, and what it accepts prints and parses back.

use crate::case::Case;
use crate::{AnyError, files, root};
use gptjc_graphs::text::{parse, parse_all, print};
use gptjc_graphs::verify::verify;
use proptest::prelude::*;
use proptest::sample::Index;
use std::fs;

/// Pieces that a text is made of, to be put where they do not belong.
const PIECES: [&str; 24] = [
    "graph",
    "return",
    "@",
    "%0",
    "%999999999999",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "=",
    "\"",
    "\\u{110000}",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "slots:",
    "bf16",
    ";",
    "é\u{2028}\0",
];

/// Numbers that a shape rule may not have thought of.
const NUMBERS: [&str; 8] = ["0", "1", "2", "3", "7", "65536", "4294967296", "9223372036854775807"];

/// One change of a text.
#[derive(Clone, Debug)]
enum Mutation {
    /// Takes out this many characters.
    Remove(Index, usize),
    /// Puts in a piece.
    Insert(Index, Index),
    /// Puts in a part of the text itself.
    Copy(Index, Index, usize),
    /// Puts another number in the place of one.
    Number(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => (any::<Index>(), 1..12usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        1 => (any::<Index>(), any::<Index>(), 1..80usize)
            .prop_map(|(at, from, count)| Mutation::Copy(at, from, count)),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(which, number)| Mutation::Number(which, number)),
    ]
}

fn mutate(text: &str, mutations: &[Mutation]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for mutation in mutations {
        let place = |at: &Index| at.index(chars.len() + 1);
        let part = |from: usize, count: usize| from..(from + count).min(chars.len());
        match mutation {
            Mutation::Remove(at, count) => drop(chars.drain(part(place(at), *count))),
            Mutation::Insert(at, piece) => {
                let at = place(at);
                chars.splice(at..at, piece.get(&PIECES).chars());
            }
            Mutation::Copy(at, from, count) => {
                let copied = chars[part(place(from), *count)].to_vec();
                let at = place(at);
                chars.splice(at..at, copied);
            }
            Mutation::Number(which, number) => {
                let starts_number =
                    |at: usize| chars[at].is_ascii_digit() && (at == 0 || !chars[at - 1].is_alphanumeric());
                let starts: Vec<usize> = (0..chars.len()).filter(|&at| starts_number(at)).collect();
                if let Some(&start) = (!starts.is_empty()).then(|| which.get(&starts)) {
                    let digits = chars[start..].iter().take_while(|c| c.is_ascii_digit()).count();
                    chars.splice(start..start + digits, number.get(&NUMBERS).chars());
                }
            }
        }
    }
    chars.into_iter().collect()
}

/// The graphs of all files, without the expectations.
fn sources() -> Result<Vec<String>, AnyError> {
    files(&root())?
        .iter()
        .map(|path| Ok(Case::parse(&fs::read_to_string(path)?)?.source.to_owned()))
        .collect()
}

/// Parses; what is accepted must print to what parses to the same.
fn parses_or_not(text: &str) {
    let graphs = match parse_all(text) {
        Ok(graphs) => graphs,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for graph in graphs {
        let printed = print(&graph);
        let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\nin: {printed}"));
        assert_eq!(print(&again), printed);
        let _ = verify(&graph); // a verdict, either way
    }
}

#[test]
fn mutations_never_panic() {
    let sources = sources().unwrap();
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(file in any::<Index>(), mutations in prop::collection::vec(mutation(), 1..4))| {
        let source: &String = file.get(&sources);
        parses_or_not(&mutate(source, &mutations));
    });
}

#[test]
fn any_text_never_panics() {
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in "\\PC{0,60}", pieces in prop::collection::vec(any::<Index>(), 0..40))| {
        parses_or_not(&text);
        let pieces: Vec<&str> = pieces.iter().map(|piece| *piece.get(&PIECES)).collect();
        parses_or_not(&pieces.join(" "));
    });
}

#[test]
fn the_files_themselves_round_trip() {
    let accepted = sources().unwrap().iter().filter(|source| parse_all(source).is_ok()).count();
    assert!(accepted > 20, "only {accepted} files parse");
    sources().unwrap().iter().for_each(|source| parses_or_not(source));
}
