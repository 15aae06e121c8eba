//! Tests of [`super`]: by hand on tiny examples, and properties of each packing.

use super::*;
use proptest::prelude::*;

fn options(packing: Packing, window_length: usize) -> PackingOptions {
    let limits = WindowLimits { window_length, n_positions: 64, vocab_size: 1000 };
    PackingOptions { packing, limits, max_windows: None }
}

/// An example of `length` tokens from `first` on, the last `labelled` of them in the loss.
fn example(first: u32, length: u32, labelled: u32) -> Example {
    let ids: Vec<u32> = (first..first + length).collect();
    let labels = ids.iter().map(|&id| (id >= first + length - labelled).then_some(id)).collect();
    Example { ids, labels }
}

#[test]
fn concat_cuts_examples_at_window_edges_and_drops_the_remainder() {
    let examples = [example(10, 3, 1), example(20, 4, 2), example(30, 2, 2)];
    let packed = pack(&examples, &options(Packing::Concat, 4)).unwrap();
    assert_eq!(packed.windows.len(), 2);
    assert_eq!(packed.windows[0].tokens, [10, 11, 12, 20]);
    assert_eq!(packed.windows[0].targets, [None, Some(12), None, None]);
    assert_eq!(packed.windows[1].tokens, [21, 22, 23, 30]);
    assert_eq!(packed.windows[1].positions, [0, 1, 2, 3]);
    assert_eq!(packed.windows[1].targets, [Some(22), Some(23), Some(30), None]);
    assert_eq!(packed.windows[1].segments, [4]);
    let expected =
        PackingReport { examples: 3, remainder_tokens: 1, slots: 8, labelled: 4, ..Default::default() };
    assert_eq!(packed.report, expected);
}

#[test]
fn segments_go_to_the_earliest_window_with_room() {
    let lengths = [5, 4, 3, 6, 2, 8, 1];
    let examples: Vec<_> =
        lengths.iter().zip(0..).map(|(&length, index)| example(10 * index, length, 1)).collect();
    let packed = pack(&examples, &options(Packing::Segments, 8)).unwrap();
    let segments: Vec<_> = packed.windows.iter().map(|window| window.segments.clone()).collect();
    assert_eq!(segments, [vec![5, 3], vec![4, 2, 1], vec![6], vec![8]]);
    assert_eq!(packed.windows[1].tokens, [10, 11, 12, 13, 40, 41, 60]);
    assert_eq!(packed.windows[1].positions, [0, 1, 2, 3, 0, 1, 0]);
    assert_eq!(packed.windows[1].targets, [None, None, Some(13), None, Some(41), None, None]);
}

#[test]
fn pad_is_one_example_a_window_without_pad_slots() {
    let packed = pack(&[example(1, 2, 2), example(5, 3, 0)], &options(Packing::Pad, 8)).unwrap();
    assert_eq!(packed.windows[0].tokens, [1, 2]);
    assert_eq!(packed.windows[0].targets, [Some(2), None]);
    assert_eq!(packed.windows[1].tokens, [5, 6, 7]);
    assert_eq!(packed.windows[1].labelled(), 0);
}

#[test]
fn long_examples_lose_their_end_and_are_counted() {
    for &packing in Packing::ALL {
        let examples = [example(10, 6, 1), example(20, 6, 4), example(30, 4, 1)];
        let packed = pack(&examples, &options(packing, 4)).unwrap();
        let tokens: Vec<_> = packed.windows.iter().map(|window| window.tokens.clone()).collect();
        assert_eq!(tokens, [[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]], "{packing}");
        let report = packed.report;
        let counts = (report.truncated_examples, report.truncated_tokens, report.answers_lost);
        assert_eq!(counts, (2, 4, 1), "{packing}");
    }
}

#[test]
fn what_does_not_fit_the_model_is_named() {
    let bad = [example(1, 2, 0), example(999, 2, 0)];
    let error = pack(&bad, &options(Packing::Pad, 8)).unwrap_err().to_string();
    assert!(
        error.starts_with("example 1 (from 0): input_ids 1000 at column 1 is not in the vocabulary"),
        "{error}"
    );
    let concat = pack(&bad, &options(Packing::Concat, 4)).unwrap_err().to_string();
    assert!(concat.starts_with("window 0 (from 0): input_ids 1000 at column 3"), "{concat}");
    let uneven = Example { ids: vec![1, 2], labels: vec![None] };
    for &packing in Packing::ALL {
        let error = pack(std::slice::from_ref(&uneven), &options(packing, 8)).unwrap_err().to_string();
        assert_eq!(
            error, "example 0 (from 0): expected 2 labels, as many as input_ids, found 1",
            "{packing}"
        );
    }
    let positions = pack(&[example(0, 100, 0)], &options(Packing::Segments, 128)).unwrap_err().to_string();
    assert!(positions.contains("needs 100 positions, the model has 64 (n_positions)"), "{positions}");
}

#[test]
fn no_window_is_an_error() {
    let error = pack(&[example(1, 3, 1)], &options(Packing::Concat, 4)).unwrap_err().to_string();
    assert!(
        error.starts_with("1 examples with 3 tokens in all give no window of 4 tokens with --packing concat"),
        "{error}"
    );
    for &packing in Packing::ALL {
        assert!(matches!(pack(&[], &options(packing, 4)), Err(PackingError::NoWindows { .. })), "{packing}");
        assert_eq!(pack(&[], &options(packing, 0)), Err(PackingError::NoLength));
    }
}

#[test]
fn names_round_trip() {
    for &packing in Packing::ALL {
        assert_eq!(packing.to_string().parse(), Ok(packing));
    }
    let error = "block".parse::<Packing>().unwrap_err().to_string();
    assert_eq!(error, "expected one of concat, segments, pad, found `block`");
}

/// First fit as one would write it down: the oracle for the tree.
fn first_fit(sizes: &[usize], capacity: usize) -> Vec<usize> {
    let mut rooms: Vec<usize> = Vec::new();
    let mut places = Vec::new();
    for &size in sizes {
        let place = rooms.iter().position(|&room| room >= size).unwrap_or(rooms.len());
        if place == rooms.len() {
            rooms.push(capacity);
        }
        rooms[place] -= size;
        places.push(place);
    }
    places
}

fn examples() -> impl Strategy<Value = Vec<Example>> {
    let label = prop_oneof![Just(None), (0u32..1000).prop_map(Some)];
    let example = prop::collection::vec((0u32..1000, label), 0..40);
    let example = example.prop_map(|slots| {
        let (ids, labels) = slots.into_iter().unzip();
        Example { ids, labels }
    });
    prop::collection::vec(example, 1..30)
}

proptest! {
    #[test]
    fn the_tree_finds_the_first_fit(sizes in prop::collection::vec(1usize..=16, 0..200)) {
        let mut tree = FirstFit::default();
        let places: Vec<_> = sizes.iter().map(|&size| tree.place(size, 16)).collect();
        prop_assert_eq!(places, first_fit(&sizes, 16));
    }

    #[test]
    fn windows_are_well_formed(examples in examples(), length in 1usize..50, packing in 0usize..3) {
        let Ok(packed) = pack(&examples, &options(Packing::ALL[packing], length)) else { return Ok(()) };
        for window in &packed.windows {
            prop_assert!(window.tokens.len() <= length);
            prop_assert_eq!(window.positions.len(), window.tokens.len());
            prop_assert_eq!(window.targets.len(), window.tokens.len());
            prop_assert_eq!(window.segments.iter().sum::<u32>() as usize, window.tokens.len());
            let mut end = 0;
            for &segment in &window.segments {
                let positions = &window.positions[end..end + segment as usize];
                prop_assert!(positions.iter().copied().eq(0..segment));
                end += segment as usize;
                prop_assert_eq!(window.targets[end - 1], None, "a target would cross a segment's end");
            }
        }
    }

    #[test]
    fn segments_lose_no_example(examples in examples(), length in 1usize..50) {
        let kept = |example: &Example| {
            let cut = example.ids.len().min(length);
            let mut targets = example.labels[..cut].iter().copied().skip(1).collect::<Vec<_>>();
            targets.push(None);
            (example.ids[..cut].to_vec(), targets)
        };
        let mut expected: Vec<_> = examples.iter().filter(|example| !example.ids.is_empty()).map(kept).collect();
        let Ok(packed) = pack(&examples, &options(Packing::Segments, length)) else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        let mut found = Vec::new();
        for window in &packed.windows {
            let mut start = 0;
            for &segment in &window.segments {
                let slots = start..start + segment as usize;
                found.push((window.tokens[slots.clone()].to_vec(), window.targets[slots.clone()].to_vec()));
                start = slots.end;
            }
        }
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn concat_keeps_every_token_but_the_remainder(examples in examples(), length in 1usize..50) {
        let stream: Vec<u32> = examples.iter().flat_map(|example| example.ids.iter().copied().take(length)).collect();
        let Ok(packed) = pack(&examples, &options(Packing::Concat, length)) else {
            prop_assert!(stream.len() < length);
            return Ok(());
        };
        let found: Vec<u32> = packed.windows.iter().flat_map(|window| window.tokens.iter().copied()).collect();
        prop_assert_eq!(&found, &stream[..stream.len() / length * length]);
        prop_assert_eq!(packed.report.remainder_tokens, stream.len() % length);
    }
}
