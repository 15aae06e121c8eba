//! Tests of `pretokenized`: golden batches, defaults, and every way a file can be wrong.

use super::*;
use crate::weights::test_files::{golden, i64_bytes, write};

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn int64(name: &'static str, shape: [usize; 3], values: &[i64]) -> Tensor {
    (name, Dtype::I64, shape.to_vec(), i64_bytes(values))
}

fn open(tensors: &[Tensor]) -> Result<TokenBatches, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batches.safetensors");
    write(&path, tensors);
    TokenBatches::open(&path).map_err(|error| error.to_string())
}

fn ids() -> Tensor {
    int64(IDS, [2, 2, 3], &(0..12).collect::<Vec<_>>())
}

fn row<'a>(tokens: &'a [u32], mask: &'a [u8], labels: &'a [i32], used: Range<usize>) -> PretokenizedRow<'a> {
    PretokenizedRow { tokens, mask, labels, used }
}

#[test]
fn golden_batches_open_with_either_padding() {
    let plain = TokenBatches::open(&golden("plain/batches.safetensors")).unwrap();
    assert_eq!((plain.steps(), plain.batch_size(), plain.sequence_length()), (20, 2, 16));
    assert!(plain.rows(19).all(|row| row.used == (0..16)));
    for (case, vocab, left) in [("padded", 512, false), ("accumulate", 256, true)] {
        let batches = TokenBatches::open(&golden(case).join("batches.safetensors")).unwrap();
        batches.check(vocab).unwrap();
        let row = batches.row(3, 1).unwrap();
        assert_eq!((row.used.start > 0, row.used.end < batches.sequence_length()), (left, !left), "{case}");
        let labelled: Vec<usize> = (0..row.labels.len()).filter(|t| row.labels[*t] != IGNORED).collect();
        assert_eq!(labelled, (row.used.end - 3..row.used.end).collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn mask_and_labels_have_defaults() {
    let batches = open(&[ids()]).unwrap();
    assert_eq!(batches.row(1, 0), Some(row(&[6, 7, 8], &[1; 3], &[6, 7, 8], 0..3)));
    let masked = open(&[ids(), int64(MASK, [2, 2, 3], &[1, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0])]).unwrap();
    assert_eq!(masked.row(0, 1), Some(row(&[3, 4, 5], &[0, 0, 1], &[-100, -100, 5], 2..3)));
    assert_eq!(masked.row(1, 0), Some(row(&[6, 7, 8], &[1, 1, 0], &[6, 7, -100], 0..2)));
    assert_eq!((masked.row(2, 0), masked.row(0, 2), masked.rows(2).count()), (None, None, 0));
}

#[test]
fn int32_is_read_too_and_labels_are_taken_as_they_are() {
    let bytes = |values: [i32; 3]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let batches = open(&[
        (IDS, Dtype::I32, vec![1, 1, 3], bytes([1, 2, 3])),
        (LABELS, Dtype::I32, vec![1, 1, 3], bytes([-100, 7, 0])),
    ])
    .unwrap();
    assert_eq!(batches.row(0, 0), Some(row(&[1, 2, 3], &[1; 3], &[-100, 7, 0], 0..3)));
}

#[test]
fn a_wrong_file_says_which_tensor_and_what_was_expected() {
    let mask = |values: [i64; 3]| [int64(IDS, [1, 1, 3], &[0; 3]), int64(MASK, [1, 1, 3], &values)];
    let float = (IDS, Dtype::F32, vec![1, 1, 1], vec![0; 4]);
    let flat = (IDS, Dtype::I64, vec![2, 3], i64_bytes(&[0; 6]));
    for (tensors, expected) in [
        (vec![int64(LABELS, [1, 1, 1], &[0])], "has no tensor `input_ids`"),
        (vec![ids(), int64("position_ids", [1, 1, 1], &[0])], "has tensor `position_ids`, which is not used"),
        (vec![float], "`input_ids`: expected dtype I64 or I32, found F32"),
        (vec![flat], "`input_ids`: expected shape [STEPS, B, S], none of them 0, found [2, 3]"),
        (vec![int64(IDS, [0, 2, 3], &[])], "found [0, 2, 3]"),
        (
            vec![ids(), int64(LABELS, [2, 1, 3], &[0; 6])],
            "`labels`: expected the shape of input_ids, [2, 2, 3], found [2, 1, 3]",
        ),
        (
            vec![int64(IDS, [1, 2, 2], &[0, 0, 0, -3])],
            "input_ids at step 0, row 1, column 1: expected an id of 0 or more, found -3",
        ),
        (vec![int64(IDS, [1, 1, 1], &[1 << 31])], "found 2147483648"),
        (
            vec![ids(), int64(LABELS, [2, 2, 3], &[0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0])],
            "labels at step 1, row 0, column 0",
        ),
        (mask([1, 2, 1]).into(), "attention_mask at step 0, row 0, column 1: expected 0 or 1, found 2"),
        (mask([1, 0, 1]).into(), "attention_mask at step 0, row 0: padding inside the row, at column 1"),
        (mask([0, 1, 0]).into(), "padding at both ends (used columns 1 to 1)"),
        (mask([0, 0, 0]).into(), "all slots are padding"),
    ] {
        let message = open(&tensors).unwrap_err();
        assert!(message.contains(expected) && message.contains("batches.safetensors"), "{message}");
    }
}

#[test]
fn ids_and_labels_outside_the_vocabulary_are_named_by_their_place() {
    let batches = open(&[ids()]).unwrap();
    batches.check(12).unwrap();
    let message = batches.check(11).unwrap_err().to_string();
    assert!(
        message.contains(
            "input_ids at step 1, row 1, column 2: expected an id below the vocabulary's size 11, found 11"
        ),
        "{message}"
    );
    let labelled =
        open(&[ids(), int64(LABELS, [2, 2, 3], &[-100, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]).unwrap();
    let message = labelled.check(12).unwrap_err().to_string();
    assert!(message.contains("labels at step 0, row 0, column 1"), "{message}");
}
