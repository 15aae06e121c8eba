//! Valid bytes, changed.

use proptest::prelude::*;
use proptest::sample::Index;

/// The longest input.
pub(crate) const LONGEST: usize = 1 << 20;

/// Numbers that lengths and offsets may not have thought of.
const NUMBERS: [u64; 12] = [
    0,
    1,
    7,
    255,
    256,
    65_535,
    65_536,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// Decimal numbers in texts.
const DIGITS: [&[u8]; 10] = [
    b"0",
    b"1",
    b"-1",
    b"65536",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e999",
    b"0.5",
];

/// An input.
#[derive(Clone, Debug)]
pub(crate) enum Case {
    /// Bytes of no seed.
    Random(Vec<u8>),
    /// A seed with changes.
    Mutated(Index, Vec<Mutation>),
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    /// Turns a bit over.
    Flip(Index, u8),
    /// Puts a byte in the place of one.
    Set(Index, u8),
    /// Puts a little-endian number of 2, 4 or 8 bytes in the place of as many.
    Word(Index, u32, Index),
    /// Puts another decimal number in the place of one.
    Decimal(Index, Index),
    /// Takes bytes out.
    Remove(Index, usize),
    /// Cuts off the rest.
    Truncate(Index),
    /// Puts in a piece, so many times.
    Piece(Index, Index, usize),
    /// Puts in bytes.
    Bytes(Index, Vec<u8>),
    /// Puts in a part of the input itself.
    Copy(Index, usize, Index),
    /// Puts in a part of the input itself again and again, until so many bytes were added.
    Repeat(Index, usize, usize),
    /// Goes on with the rest of another seed.
    Splice(Index, Index, Index),
}

/// Cases for seeds with `pieces` pieces.
pub(crate) fn case(pieces: usize) -> impl Strategy<Value = Case> {
    let mutations = prop::collection::vec(mutation(pieces > 0), 1..6);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(Case::Random),
        19 => (any::<Index>(), mutations).prop_map(|(seed, mutations)| Case::Mutated(seed, mutations)),
    ]
}

fn mutation(has_pieces: bool) -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let pieces = if has_pieces { 4 } else { 0 };
    prop_oneof![
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        3 => (at(), 1..4u32, at()).prop_map(|(at, width, number)| Mutation::Word(at, 1 << width, number)),
        2 => (at(), at()).prop_map(|(at, number)| Mutation::Decimal(at, number)),
        2 => (at(), 1..40usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => at().prop_map(Mutation::Truncate),
        pieces => (at(), at(), prop_oneof![20 => Just(1), 1 => 1..LONGEST]).prop_map(|(at, piece, times)| Mutation::Piece(at, piece, times)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Bytes(at, bytes)),
        2 => (at(), 1..200usize, at()).prop_map(|(from, count, at)| Mutation::Copy(from, count, at)),
        1 => (at(), 1..60usize, prop_oneof![4 => 0..4000usize, 1 => 0..LONGEST])
            .prop_map(|(at, count, bytes)| Mutation::Repeat(at, count, bytes)),
        1 => (at(), at(), at()).prop_map(|(seed, from, at)| Mutation::Splice(seed, from, at)),
    ]
}

impl Case {
    /// The input.
    pub(crate) fn bytes(&self, seeds: &[Vec<u8>], pieces: &[&[u8]]) -> Vec<u8> {
        match self {
            Case::Random(bytes) => bytes.clone(),
            Case::Mutated(seed, mutations) => {
                let mut bytes = seed.get(seeds).clone();
                for mutation in mutations {
                    mutation.apply(&mut bytes, seeds, pieces);
                }
                bytes.truncate(LONGEST);
                bytes
            }
        }
    }
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], pieces: &[&[u8]]) {
        let length = bytes.len();
        let place = |at: &Index| at.index(length + 1);
        let part = |from: &Index, count: usize| place(from)..(place(from) + count).min(length);
        match self {
            Mutation::Flip(at, bit) => put(bytes, place(at), |byte| byte ^ (1 << bit)),
            Mutation::Set(at, byte) => put(bytes, place(at), |_| *byte),
            Mutation::Word(at, width, number) => {
                let word = number.get(&NUMBERS).to_le_bytes();
                let range = part(at, *width as usize);
                let count = range.len();
                bytes[range].copy_from_slice(&word[..count]);
            }
            Mutation::Decimal(at, number) => replace_decimal(bytes, place(at), number.get::<&[u8]>(&DIGITS)),
            Mutation::Remove(at, count) => drop(bytes.drain(part(at, *count))),
            Mutation::Truncate(at) => bytes.truncate(place(at)),
            Mutation::Piece(at, piece, times) => {
                let piece = *piece.get::<&[u8]>(pieces);
                let times = (*times).min(LONGEST.saturating_sub(length) / piece.len());
                insert(bytes, place(at), &piece.repeat(times.max(1)));
            }
            Mutation::Bytes(at, more) => insert(bytes, place(at), more),
            Mutation::Copy(from, count, at) => {
                let copied = bytes[part(from, *count)].to_vec();
                insert(bytes, place(at), &copied);
            }
            Mutation::Repeat(at, count, total) => {
                let range = part(at, *count);
                let copied = bytes[range.clone()].to_vec();
                let room = LONGEST.saturating_sub(length).min(*total);
                let times = room / copied.len().max(1);
                insert(bytes, range.end, &copied.repeat(if copied.is_empty() { 0 } else { times }));
            }
            Mutation::Splice(seed, from, at) => {
                let other = seed.get(seeds);
                bytes.truncate(place(at));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

fn put(bytes: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

/// Replaces the first run of digits behind `at`.
fn replace_decimal(bytes: &mut Vec<u8>, at: usize, number: &[u8]) {
    let digits = |byte: &u8| byte.is_ascii_digit();
    if let Some(start) = bytes[at..].iter().position(digits).map(|offset| at + offset) {
        let count = bytes[start..].iter().take_while(|byte| digits(byte)).count();
        bytes.splice(start..start + count, number.iter().copied());
    }
}
