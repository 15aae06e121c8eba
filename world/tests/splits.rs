//! What the splits may share, and that every label is proved.

use gptjc_world::forms::FORMS;
use gptjc_world::judge::judge;
use gptjc_world::lexicon::{Lexicon, Part, TIMES};
use gptjc_world::rows::{Split, made, rows};
use std::collections::{BTreeMap, BTreeSet};

const ROWS: usize = 4000;

#[test]
fn every_label_holds_in_all_possible_worlds() {
    let lexicon = Lexicon::new();
    for split in Split::ALL {
        for (pair, row) in made(split, ROWS, 5) {
            let judged = judge(&lexicon, &pair.premise, &pair.hypothesis);
            assert_eq!(
                judged,
                Some(row.gold_label),
                "{}: {} | {}",
                row.pair_id,
                row.sentence1,
                row.sentence2
            );
        }
    }
}

/// Words of all rows of a split, in lower case.
fn words(split: Split) -> BTreeSet<String> {
    let text: String =
        rows(split, ROWS, 5).iter().map(|row| format!("{} {} ", row.sentence1, row.sentence2)).collect();
    text.replace('.', " ").split_whitespace().map(str::to_lowercase).collect()
}

#[test]
fn validation_uses_no_name_word_or_noun_of_training() {
    let lexicon = Lexicon::new();
    let of = |part: Part| -> BTreeSet<String> {
        let words = lexicon.dimensions.iter().flat_map(|dimension| &dimension.words);
        let words = words.filter(|word| word.part == part).map(|word| word.text.clone());
        let people =
            lexicon.people.iter().filter(|person| person.part == part).map(|person| person.text.to_owned());
        let times =
            TIMES.iter().filter(|(of, _)| *of == part).flat_map(|(_, times)| times.map(str::to_owned));
        let content = words.chain(people).chain(times).collect::<Vec<_>>().join(" ").to_lowercase();
        // What names of people, quantities and times are made of besides content words.
        let grammar = ["the", "more", "fewer", "than", "in", "at"];
        content.split_whitespace().filter(|word| !grammar.contains(word)).map(str::to_owned).collect()
    };
    let (training, validation) = (of(Part::Training), of(Part::Validation));
    assert!(training.is_disjoint(&validation));
    for split in [Split::ValidationMatched, Split::ValidationMismatched] {
        let found = words(split);
        assert_eq!(found.intersection(&training).collect::<Vec<_>>(), Vec::<&String>::new(), "{split:?}");
        let used = found.intersection(&validation).count();
        assert_eq!(used, validation.len(), "{split:?} does not show all of its words");
    }
    let found = words(Split::Train);
    assert_eq!(found.intersection(&validation).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(found.intersection(&training).count(), training.len());
}

/// Sentences with their people, words and nouns taken out.
fn skeletons(split: Split) -> BTreeSet<String> {
    let lexicon = Lexicon::new();
    let mut found = BTreeSet::new();
    for (pair, row) in made(split, ROWS, 5) {
        let sentences: Vec<&str> =
            row.sentence1.split_inclusive('.').map(str::trim).chain([&*row.sentence2]).collect();
        for (said, sentence) in pair.premise.iter().chain([&pair.hypothesis]).zip(sentences) {
            let styles = split.scope().styles;
            let dimension = &lexicon.dimensions[said.variable.dimension];
            let forms = FORMS.iter().filter(|form| form.family == dimension.family);
            let written: Vec<_> = forms.filter(|form| said.sentence(&lexicon, form) == sentence).collect();
            assert!(written.iter().any(|form| styles.contains(&form.style)), "{sentence}");
            let pattern =
                |form: &gptjc_world::forms::Form| if said.negated { form.negative } else { form.affirmative };
            found.extend(written.iter().map(|form| format!("{:?} {}", form.family, pattern(form))));
        }
    }
    found
}

#[test]
fn splits_share_no_sentence_form() {
    let [train, matched, mismatched] = Split::ALL.map(skeletons);
    assert!(
        train.is_disjoint(&matched) && train.is_disjoint(&mismatched) && matched.is_disjoint(&mismatched)
    );
    assert_eq!((train.len(), matched.len(), mismatched.len()), (24, 24, 24));
}

#[test]
fn rows_depend_on_the_seed_alone_and_none_is_there_twice() {
    let first = rows(Split::Train, 500, 1);
    assert_eq!(first, rows(Split::Train, 500, 1));
    assert_ne!(first, rows(Split::Train, 500, 2));
    let mut times = BTreeMap::new();
    for row in rows(Split::Train, ROWS, 1) {
        *times.entry((row.sentence1, row.sentence2)).or_insert(0) += 1;
    }
    assert!(times.values().all(|&count| count == 1));
}
