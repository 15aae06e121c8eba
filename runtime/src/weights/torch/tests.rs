//! Tests of `torch`: files that torch itself wrote (see `tests/golden/make_torch_files.py`), and what becomes of them
//! when they are damaged.

use std::fs;
use std::path::PathBuf;

use safetensors::Dtype;

use super::*;
use crate::weights::test_files::golden;

fn is_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

fn file(name: &str) -> PathBuf {
    golden("torch").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(file(name)).unwrap()
}

/// The message for the file `bytes`.
fn message(bytes: &[u8]) -> String {
    entries(Path::new("model.bin"), bytes, is_buffer).map(|table| table.len()).unwrap_err().to_string()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn files_of_torch_are_read_in_all_its_formats() {
    let base: Vec<f32> = (0..24).map(|index| index as f32 / 8.0 - 1.0).collect();
    for name in ["zip.bin", "zip_protocol_4.bin", "legacy.bin"] {
        let (mapped, table) = open(&file(name), is_buffer).unwrap();
        let get = |tensor: &str| {
            let entry = table.get(tensor).unwrap_or_else(|| panic!("{name}: no {tensor}"));
            (entry.dtype, entry.shape.as_slice(), &mapped.bytes()[entry.start..entry.end])
        };
        let (dtype, shape, bytes) = get("transformer.wte.weight");
        assert_eq!((dtype, shape, f32s(bytes)), (Dtype::F32, &[4, 6][..], base.clone()), "{name}");
        let (dtype, shape, bytes) = get("transformer.h.0.ln_1.weight");
        assert_eq!((dtype, shape), (Dtype::F16, &[4][..]));
        let halves: Vec<u16> =
            bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        assert_eq!(halves, [0x3c00, 0x3c01, 0xfbff, 0x0001], "{name}");
        let (dtype, shape, bytes) = get("transformer.h.0.attn.q_proj.weight");
        let rounded: Vec<u8> =
            base[6..18].iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
        assert_eq!((dtype, shape, bytes), (Dtype::BF16, &[2, 6][..], rounded.as_slice()), "{name}");
        // A window on the storage of another tensor, and two names of one.
        let (_, shape, bytes) = get("rows_of_wte");
        assert_eq!((shape, f32s(bytes)), (&[2, 6][..], base[6..18].to_vec()), "{name}");
        assert_eq!(f32s(get("tied.one").2), [0.5, -2.0, 3.25]);
        assert_eq!(table["tied.one"], table["tied.other"], "{name}");
        assert_eq!(get("parameter").1, [1, 1]);
        assert_eq!((get("scalar").1, f32s(get("scalar").2)), (&[][..], vec![2.5]));
        assert_eq!((get("empty").1, get("empty").2.len()), (&[0, 3][..], 0));
        for (tensor, dtype, last) in [
            ("other.torch.float64", Dtype::F64, &[0, 0, 0, 0, 0, 0, 0, 0x40][..]),
            ("other.torch.int64", Dtype::I64, &[2, 0, 0, 0, 0, 0, 0, 0]),
            ("other.torch.int32", Dtype::I32, &[2, 0, 0, 0]),
            ("other.torch.int16", Dtype::I16, &[2, 0]),
            ("other.torch.int8", Dtype::I8, &[2]),
        ] {
            let (found, _, bytes) = get(tensor);
            assert_eq!((found, &bytes[last.len()..]), (dtype, last), "{name}");
        }
        assert!(table.keys().all(|tensor| !is_buffer(tensor)) && table.len() == 14, "{:?}", table.keys());
    }
}

#[test]
fn windows_that_are_no_run_of_elements_are_refused_with_the_way_to_save_them() {
    let text = message(&bytes_of("strided.bin"));
    assert!(text.contains("tensor `w` of `model.bin`: shape [3, 2] with strides [1, 3]"), "{text}");
    assert!(text.contains(".contiguous()"), "{text}");
    // A mask that is transposed is no weight.
    assert!(entries(Path::new("x"), &bytes_of("zip.bin"), |_| false).is_err());
}

#[test]
fn whole_modules_are_refused_by_the_name_of_their_class() {
    let text = message(&bytes_of("module.bin"));
    assert!(text.contains("`model.bin` is not read: it asks for `torch.nn.modules.linear.Linear`"), "{text}");
    assert!(text.contains("torch.save(model.state_dict(), FILE)"), "{text}");
}

#[test]
fn every_truncation_is_noticed() {
    for name in ["zip.bin", "legacy.bin"] {
        let whole = bytes_of(name);
        for length in (0..whole.len()).step_by(7) {
            let text = message(&whole[..length]);
            assert!(text.contains("`model.bin`"), "{name} {length}: {text}");
        }
        let text = message(&whole[..whole.len() - 1]);
        assert!(text.contains("truncated") && text.contains("copy or download it again"), "{text}");
    }
}

/// `bytes` with the last occurrence of `from` made `to`, of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn damage_is_told_from_what_is_not_supported() {
    let zip = bytes_of("zip.bin");
    for (from, to, expected) in [
        (&b"little"[..], &b"gittle"[..], "from a big-endian machine"),
        (
            b"zip/data/0",
            b"zip/data/x",
            "tensor `rows_of_wte` of `model.bin`: there is no record `zip/data/0`",
        ),
        (b"zip/data.pkl", b"zip/data.pkx", "there is no record `data.pkl`"),
        (b"HalfStorage", b"XalfStorage", "it asks for `torch.XalfStorage`"),
        (b"collections", b"collectionz", "it asks for `collectionz.OrderedDict`"),
    ] {
        let text = message(&replaced(&zip, from, to));
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // A storage of 24 elements that says it has 25.
    let text = message(&replaced(&zip, b"cpuq\x07K\x18t", b"cpuq\x07K\x19t"));
    assert!(text.contains("its storage of 25 elements takes 96 bytes in the file"), "{text}");

    let legacy = bytes_of("legacy.bin");
    let text = message(&replaced(&legacy, b"little_endianq\x02\x88", b"little_endianq\x02\x89"));
    assert!(text.contains("from a big-endian machine"), "{text}");
    let text = message(&replaced(&legacy, b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."));
    assert!(text.contains("the version of its format is Int(1002), expected 1001"), "{text}");
}

#[test]
fn what_is_no_file_of_torch_is_named() {
    for (bytes, expected) in [
        (&b""[..], "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x00\x01\x02", "of an unknown format"),
        (b"PK\x03\x04", "no directory at its end"),
    ] {
        let text = message(bytes);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
