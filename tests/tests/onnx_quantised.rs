//! Quantised exports under ONNX Runtime, against plain f32 exports of the very values that they stand for.
//!
//! Without libonnxruntime these tests say loudly that they were skipped; with `GPTJC_REQUIRE_ONNXRUNTIME` set they fail.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use gptjc_graphs::onnx::gptj::ExportOptions;
use gptjc_graphs::onnx::{Blockwise, CodeBits, ElementType, Storage};
use gptjc_runtime::validate::library::OnnxRuntime;
use gptjc_runtime::validate::ort_engine::OrtEngine;
use gptjc_runtime::validate::{Engine, RowLogits};
use gptjc_tests::onnx::{exported, lora, rows, runtime};

fn logits(options: &ExportOptions, runtime: &OnnxRuntime) -> Vec<RowLogits> {
    let exported = exported(options);
    let mut engine = OrtEngine::open(&exported.directory(), runtime, Some(1)).unwrap();
    let all = engine.logits(&rows()).unwrap();
    // In parts through the cache: other numbers of rows, which other kernels may take.
    for (whole, parts) in all.iter().zip(&engine.logits_by_chunks(&rows(), 3).unwrap()) {
        let (worst, spread) = difference(std::slice::from_ref(parts), std::slice::from_ref(whole));
        assert!(worst <= 0.05 * spread, "in parts: {worst} of {spread}");
    }
    all
}

/// The largest difference, and the root mean square of the expected logits.
fn difference(found: &[RowLogits], expected: &[RowLogits]) -> (f32, f32) {
    let pairs = || found.iter().zip(expected).flat_map(|(f, e)| f.values.iter().zip(&e.values));
    assert!(pairs().all(|(found, _)| found.is_finite()));
    let worst = pairs().map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    let squared: f32 = pairs().map(|(_, expected)| expected * expected).sum();
    (worst, (squared / pairs().count() as f32).sqrt())
}

fn quantised(bits: CodeBits, size: usize) -> ExportOptions {
    ExportOptions::quantised(Blockwise { bits, size }, lora())
}

#[test]
fn logits_are_those_of_the_dequantised_model() {
    let Some(runtime) = runtime() else { return };
    for bits in [CodeBits::Four, CodeBits::Eight] {
        for size in [16, 32, 64, 256] {
            let expected = logits(&ExportOptions { widened: true, ..quantised(bits, size) }, &runtime);
            for (level, share) in [(0, 2e-5), (1, 2e-5), (4, 0.15)] {
                let options = ExportOptions { accuracy_level: level, ..quantised(bits, size) };
                let (worst, spread) = difference(&logits(&options, &runtime), &expected);
                assert!(worst <= share * spread, "{bits:?}/{size}, level {level}: {worst} of {spread}");
            }
        }
    }
}

#[test]
fn less_is_lost_with_more_bits_and_smaller_blocks() {
    let Some(runtime) = runtime() else { return };
    let exact = logits(&ExportOptions::plain(ElementType::F32, lora()), &runtime);
    let mut errors = Vec::new();
    for (bits, size) in [(CodeBits::Eight, 16), (CodeBits::Four, 16), (CodeBits::Four, 64)] {
        let options = ExportOptions { accuracy_level: 1, ..quantised(bits, size) };
        let weights = exported(&options).report.storages;
        let of_blocks = weights.iter().find(|storage| storage.storage == options.matrices).unwrap();
        let found = logits(&options, &runtime);
        let pairs = || found.iter().zip(&exact).flat_map(|(f, e)| f.values.iter().zip(&e.values));
        let squared: f64 = pairs().map(|(f, e)| f64::from(f - e).powi(2)).sum();
        let whole: f64 = pairs().map(|(_, e)| f64::from(*e).powi(2)).sum();
        errors.push((of_blocks.relative_rms_error, (squared / whole).sqrt()));
    }
    for ((weight, logit), (low, high)) in errors.iter().zip([(0.001, 0.01), (0.04, 0.08), (0.06, 0.12)]) {
        assert!((low..high).contains(weight), "weights: {errors:?}");
        // Thirteen products in a row, of which each adds about its weight's error.
        assert!(*logit > 0.3 * weight && *logit < 6.0 * weight, "logits: {errors:?}");
    }
    assert!(errors[0].1 < errors[1].1 && errors[1].1 < errors[2].1, "{errors:?}");
}

#[test]
fn lm_head_may_have_another_storage() {
    let Some(runtime) = runtime() else { return };
    let plain = ExportOptions {
        lm_head: Storage::Plain(ElementType::F32),
        accuracy_level: 1,
        ..quantised(CodeBits::Eight, 32)
    };
    let expected = logits(&ExportOptions { widened: true, ..plain.clone() }, &runtime);
    let (worst, spread) = difference(&logits(&plain, &runtime), &expected);
    assert!(worst <= 2e-5 * spread, "{worst} of {spread}");
}
