//! Readers that see one of the two sentences only, or that count words, must not find the label.
//!
//! Two readers, naive Bayes and logistic regression, both on words and pairs of neighbouring words. Guessing gives 1/3.
#![allow(clippy::print_stdout)] // the accuracies that docs/world.md gives

use gptjc_world::Label;
use gptjc_world::dice::Dice;
use gptjc_world::rows::{Row, Split, rows};
use std::collections::{BTreeMap, BTreeSet};

/// What no shallow reader may reach.
const MOST: f64 = 0.5;
const TRAIN_ROWS: usize = 12_000;
const TEST_ROWS: usize = 3_000;
const SEED: u64 = 20_260;

/// What a reader sees of a row.
type Sentence = fn(&Row) -> &str;

/// Words and pairs of neighbours of a text.
fn features(text: &str) -> BTreeSet<String> {
    let text = text.to_lowercase().replace('.', " .");
    let words: Vec<&str> = text.split_whitespace().collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    words.iter().map(|word| (*word).to_owned()).chain(pairs).collect()
}

/// Features as numbers, and labels.
struct Examples {
    features: Vec<Vec<usize>>,
    labels: Vec<usize>,
}

/// Gives each feature of the first rows a number.
#[derive(Default)]
struct Numbering(BTreeMap<String, usize>);

impl Numbering {
    fn examples(&mut self, rows: &[Row], sentence: fn(&Row) -> &str, grow: bool) -> Examples {
        let mut all = Vec::new();
        for row in rows {
            let mut found = Vec::new();
            for feature in features(sentence(row)) {
                let next = self.0.len();
                match self.0.get(&feature) {
                    Some(&index) => found.push(index),
                    None if grow => {
                        self.0.insert(feature, next);
                        found.push(next);
                    }
                    None => {}
                }
            }
            all.push(found);
        }
        let labels = rows.iter().map(|row| row.gold_label as usize).collect();
        Examples { features: all, labels }
    }
}

fn accuracy(examples: &Examples, scores: impl Fn(&[usize]) -> [f64; 3]) -> f64 {
    let right = examples.features.iter().zip(&examples.labels).filter(|(features, label)| {
        let scores = scores(features);
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best == Some(**label)
    });
    right.count() as f64 / examples.labels.len() as f64
}

fn naive_bayes(train: &Examples, size: usize, test: &Examples) -> f64 {
    let mut counts = vec![[1.0f64; 3]; size];
    let mut rows = [2.0f64; 3];
    for (features, &label) in train.features.iter().zip(&train.labels) {
        rows[label] += 1.0;
        features.iter().for_each(|&feature| counts[feature][label] += 1.0);
    }
    accuracy(test, |features| {
        std::array::from_fn(|label| {
            features.iter().map(|&feature| (counts[feature][label] / rows[label]).ln()).sum::<f64>()
                + rows[label].ln()
        })
    })
}

fn logistic_regression(train: &Examples, size: usize, test: &Examples) -> f64 {
    let mut weights = vec![[0.0f64; 3]; size];
    let score = |weights: &[[f64; 3]], features: &[usize]| -> [f64; 3] {
        std::array::from_fn(|label| features.iter().map(|&feature| weights[feature][label]).sum())
    };
    let mut order: Vec<usize> = (0..train.labels.len()).collect();
    let mut dice = Dice::new(SEED, 0);
    for epoch in 0..4 {
        dice.shuffle(&mut order);
        let rate = 0.1 / f64::from(1 + epoch);
        for &index in &order {
            let features = &train.features[index];
            let scores = score(&weights, features);
            let most = scores.into_iter().fold(f64::MIN, f64::max);
            let exponentials = scores.map(|score| (score - most).exp());
            let sum: f64 = exponentials.iter().sum();
            for label in 0..3 {
                let target = f64::from(u8::from(label == train.labels[index]));
                let step = rate * (target - exponentials[label] / sum);
                features.iter().for_each(|&feature| weights[feature][label] += step);
            }
        }
    }
    accuracy(test, |features| score(&weights, features))
}

/// The best accuracy of both readers, having learnt from `train`, on `test`.
fn best_reader(train: &[Row], test: &[Row], sentence: fn(&Row) -> &str) -> f64 {
    let mut numbering = Numbering::default();
    let train = numbering.examples(train, sentence, true);
    let test = numbering.examples(test, sentence, false);
    let size = numbering.0.len();
    naive_bayes(&train, size, &test).max(logistic_regression(&train, size, &test))
}

#[test]
fn one_sentence_alone_does_not_give_the_label_away() {
    let train = rows(Split::Train, TRAIN_ROWS + TEST_ROWS, SEED);
    let (train, held_out) = train.split_at(TRAIN_ROWS);
    let sides: [(&str, Sentence); 2] =
        [("premise", |row| &row.sentence1), ("hypothesis", |row| &row.sentence2)];
    for (side, sentence) in sides {
        check(side, "rows to train on, held out", best_reader(train, held_out, sentence));
        for split in [Split::ValidationMatched, Split::ValidationMismatched] {
            let rows = rows(split, TRAIN_ROWS + TEST_ROWS, SEED);
            check(side, split.file_name(), best_reader(train, &rows[..TEST_ROWS], sentence));
            // A reader that has even seen the words of the validation split.
            let (seen, unseen) = rows.split_at(TRAIN_ROWS);
            check(side, "rows to validate on, held out", best_reader(seen, unseen, sentence));
        }
    }
}

fn check(side: &str, what: &str, accuracy: f64) {
    println!("{side} alone, {what}: {:.1} %", 100.0 * accuracy);
    assert!(accuracy < MOST, "{side} alone, {what}: {accuracy}");
}

/// The readers can learn: without this, the test above could pass because they cannot.
#[test]
fn readers_find_what_a_sentence_does_give_away() {
    let mut given_away = rows(Split::Train, 3000, SEED);
    for row in &mut given_away {
        let word = ["thus", "perhaps", "never"][row.gold_label as usize];
        row.sentence2 = format!("{} {word}", row.sentence2);
    }
    let (train, test) = given_away.split_at(2000);
    assert!(best_reader(train, test, |row| &row.sentence2) > 0.95);
}

#[test]
fn labels_are_balanced() {
    for split in Split::ALL {
        let rows = rows(split, 3000, SEED);
        for label in Label::ALL {
            assert_eq!(rows.iter().filter(|row| row.gold_label == label).count(), 1000);
        }
    }
}
