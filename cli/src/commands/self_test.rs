//! The self-test of kernels: run once for a CPU and this program, and on demand by `gptjc doctor --self-test`.

use super::compile;
use crate::console::Console;
use crate::error::CliError;
use crate::settings;
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::plan::{CompileOptions, Isa, LoraOptions, ModelConfig, Packing, Precision, Target};
use gptjc_runtime::bench::isolated::Inputs;
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::isa;
use gptjc_runtime::self_test::{self, Report, Sample};
use gptjc_runtime::validate::library::cache_folder;
use std::path::PathBuf;

/// Tokens of a window at most.
const WINDOW: usize = 19;
/// Windows of a micro-batch at most: one more than there are, so that no extent is at its bound.
const WINDOWS: u64 = 3;

/// Makes sure that no kernel is used that is wrong on this CPU: by the verdict that was kept, or by a test now.
///
/// A test that cannot be run or kept is no reason to stop: it is said, and the kernels are used untested.
pub(crate) fn ensure(console: Console) {
    if isa::best() == Isa::Portable {
        return;
    }
    match kept() {
        Some(report) => apply(&report, console),
        None => match run_and_keep(console) {
            Ok(report) => apply(&report, console),
            Err(error) => console.warn(&format!("the self-test of kernels did not run: {error}")),
        },
    }
}

/// Says and switches off what failed.
pub(crate) fn apply(report: &Report, console: Console) {
    report.apply(isa::switch_off).iter().for_each(|message| console.warn(message));
}

/// The verdict that was kept for this CPU and this program.
pub(crate) fn kept() -> Option<Report> {
    self_test::load(&file()?, &self_test::identity().ok()?)
}

/// Runs the test and keeps its verdict.
pub(crate) fn run_and_keep(console: Console) -> Result<Report, CliError> {
    let report = self_test::run(&samples()?).map_err(|source| CliError::SelfTest(source.into()))?;
    if let (Some(file), Ok(identity)) = (file(), self_test::identity())
        && let Err(error) = self_test::save(&file, &identity, &report)
    {
        console.note(&format!("the verdict on kernels is not kept: {error}"));
    }
    Ok(report)
}

fn file() -> Option<PathBuf> {
    Some(cache_folder()?.join("self-test.json"))
}

/// Small plans of odd sizes in which every kernel occurs.
fn samples() -> Result<Vec<Sample>, CliError> {
    let model = ModelConfig {
        n_layer: 2,
        n_embd: 66,
        n_head: 3,
        rotary_dim: 6,
        n_inner: 101,
        vocab_size: 83,
        n_positions: 32,
        layer_norm_epsilon: 1e-5,
    };
    let inputs = Inputs::new(&windows(), 7);
    let mut samples = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let all = ModelConfig { n_layer: 1, ..model };
        for options in
            [training(model, precision, true), training(all, precision, false), decoding(model, precision)]
        {
            samples.push(Sample { plan: compile::plan(&options)?, inputs: inputs.clone() });
        }
    }
    Ok(samples)
}

fn training(model: ModelConfig, precision: Precision, with_adapters: bool) -> CompileOptions {
    let target = Target { isa: Isa::Portable.name().to_owned(), cores: 2, ..Target::default() };
    let mut options = settings::defaults(model, target.with_guesses(), None);
    options.precision = precision.into();
    options.packing = Packing::Segments.into();
    options.max_seq_length = WINDOW as u64;
    options.micro_batch = WINDOWS;
    (options.per_device_train_batch_size, options.step_windows) = (WINDOWS, WINDOWS);
    options.memory_budget = u64::MAX;
    let targets = Projection::ALL.map(|projection| projection.name().to_owned()).to_vec();
    let lora =
        LoraOptions { rank: 3, alpha: 6.0, dropout: 0.1, targets, use_rslora: false, only_in: Vec::new() };
    options.lora = with_adapters.then_some(lora);
    options
}

fn decoding(model: ModelConfig, precision: Precision) -> CompileOptions {
    let mut options = training(model, precision, true);
    options.decode_sequences = WINDOWS;
    options.decode_slots = WINDOWS * WINDOW as u64;
    options
}

/// A full window of one segment, and one of several with few labels.
fn windows() -> Vec<Window> {
    let limits = WindowLimits { window_length: WINDOW, n_positions: 32, vocab_size: 83 };
    let mut windows = vec![Window::default(), Window::default()];
    let mut token = 5;
    for (window, lengths) in windows.iter_mut().zip([&[WINDOW][..], &[1, 7, 3][..]]) {
        for &length in lengths {
            let ids: Vec<u32> = (0..length)
                .map(|_| {
                    token = (token * 31 + 7) % 83;
                    token
                })
                .collect();
            let labels: Vec<Option<u32>> = ids
                .iter()
                .enumerate()
                .map(|(at, &id)| (length == WINDOW || at % 3 == 2).then_some(id))
                .collect();
            // Sizes and ids are within the limits.
            let _ = window.push_segment(&ids, &labels, &limits);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_compile_and_their_batch_has_every_extent() {
        let samples = samples().unwrap();
        assert_eq!(samples.len(), 6);
        let extents = samples[0].inputs.extents;
        assert_eq!((extents.slots, extents.windows, extents.segments), (WINDOW + 11, 2, 4));
        assert!(extents.rows > 1 && extents.rows < extents.slots);
    }

    /// Whatever this CPU has, its kernels agree: that is what the test is for.
    #[test]
    fn every_variant_of_this_cpu_agrees_with_the_portable_kernels() {
        let report = self_test::run(&samples().unwrap()).unwrap();
        for verdict in &report.verdicts {
            assert!(verdict.differ.is_empty(), "{verdict:#?}");
        }
        let tested = report.verdicts.iter().map(|verdict| verdict.isa.parse::<Isa>().unwrap());
        let usable = Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa::usable(isa));
        assert!(tested.eq(usable));
    }
}
