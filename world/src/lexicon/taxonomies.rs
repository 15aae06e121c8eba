//! Kinds of places, things, colours and actions: groups of kinds, and words for both.
//!
//! Each group has one value more than it has kinds, and each dimension one more than its groups have: who is in the
//! house and in none of its rooms named here is somewhere else in it. So `not in the kitchen` leaves open where.

use super::{Dimension, Family, Part, Set, Word};

/// A group of kinds. Words with `/` between them mean the same.
struct Group {
    part: Part,
    name: &'static str,
    kinds: &'static [&'static str],
}

const fn training(name: &'static str, kinds: &'static [&'static str]) -> Group {
    Group { part: Part::Training, name, kinds }
}

const fn validation(name: &'static str, kinds: &'static [&'static str]) -> Group {
    Group { part: Part::Validation, name, kinds }
}

const PLACES: [Group; 4] = [
    training("house/home", &["kitchen", "cellar/basement", "bedroom", "attic/loft"]),
    training("town/city", &["market", "shop/store", "chapel", "tavern/inn"]),
    validation("farm/ranch", &["barn", "stable", "orchard", "meadow/pasture"]),
    validation("castle/fortress", &["tower/turret", "dungeon", "hall", "courtyard"]),
];

const THINGS: [Group; 6] = [
    training("flower/blossom", &["rose", "tulip", "daisy", "lily"]),
    training("tool", &["hammer/mallet", "saw", "spade/shovel", "chisel"]),
    training("pet", &["cat", "dog/hound", "rabbit/bunny", "parrot"]),
    validation("fruit", &["pear", "plum", "cherry", "peach"]),
    validation("weapon", &["sword/blade", "dagger", "spear/lance", "bow"]),
    validation("dish/vessel", &["bowl/basin", "cup", "jug/pitcher", "plate"]),
];

const COLOURS: [Group; 4] = [
    training("red", &["scarlet", "crimson/carmine", "ruby"]),
    training("blue", &["navy", "azure", "cobalt"]),
    validation("green", &["emerald", "olive", "lime"]),
    validation("brown", &["chestnut/hazel", "tan", "bronze"]),
];

const ACTIONS: [Group; 4] = [
    training("moving", &["walking/strolling", "running/sprinting", "crawling", "climbing"]),
    training("resting", &["sitting", "lying", "sleeping/slumbering", "waiting"]),
    validation("working", &["digging", "sewing/stitching", "baking", "painting"]),
    validation("performing", &["singing/chanting", "dancing", "juggling", "drumming"]),
];

/// The dimensions of this file.
pub(super) fn dimensions() -> Vec<Dimension> {
    vec![
        dimension(Family::Place, &PLACES),
        dimension(Family::Thing, &THINGS),
        dimension(Family::Coat, &COLOURS),
        dimension(Family::Action, &ACTIONS),
    ]
}

fn dimension(family: Family, groups: &[Group]) -> Dimension {
    let mut words = Vec::new();
    let mut next = 0;
    for group in groups {
        let first = next;
        for kind in group.kinds {
            words.extend(synonyms(kind, Set::one(next), group.part));
            next += 1;
        }
        next += 1; // another kind of the group
        words.extend(synonyms(group.name, Set::range(first..next), group.part));
    }
    Dimension { family, noun: "", values: next + 1, words }
}

pub(super) fn synonyms(texts: &'static str, set: Set, part: Part) -> impl Iterator<Item = Word> {
    texts.split('/').map(move |text| Word { text: text.to_owned(), set, part })
}
