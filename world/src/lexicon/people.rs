//! Who is spoken of, and when.

use super::Part;

/// Somebody, by a name or by a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// How the person is called inside a sentence.
    pub text: &'static str,
    /// Which rows speak of the person.
    pub part: Part,
}

/// Times of a row, by part: two each.
pub const TIMES: [(Part, [&str; 2]); 2] =
    [(Part::Training, ["in the morning", "in the evening"]), (Part::Validation, ["at noon", "last night"])];

const TRAINING: [&str; 30] = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Greta",
    "Henry",
    "Ida",
    "Jacob",
    "Karin",
    "Leo",
    "Martha",
    "Nora",
    "Oscar",
    "Paula",
    "Robert",
    "Sarah",
    "Tom",
    "Vera",
    "Walter",
    "Zoe",
    "the baker",
    "the farmer",
    "the teacher",
    "the sailor",
    "the smith",
    "the nurse",
    "the hunter",
    "the clerk",
];

const VALIDATION: [&str; 20] = [
    "Albert",
    "Bella",
    "Carl",
    "Diana",
    "Eric",
    "Fiona",
    "Gustav",
    "Helen",
    "Igor",
    "Julia",
    "Kurt",
    "Laura",
    "Max",
    "Olga",
    "Peter",
    "the miller",
    "the doctor",
    "the soldier",
    "the weaver",
    "the widow",
];

/// Everybody.
pub(super) fn people() -> Vec<Person> {
    let of = |part, names: &'static [&str]| names.iter().map(move |&text| Person { text, part });
    of(Part::Training, &TRAINING).chain(of(Part::Validation, &VALIDATION)).collect()
}
