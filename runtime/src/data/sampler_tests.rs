//! Tests of [`super`]: counting as Hugging Face does, the order, and going on from a point.

use super::*;
use proptest::prelude::*;

fn options() -> SamplerOptions {
    SamplerOptions {
        windows: 23,
        batch: 4,
        accumulation: 2,
        seed: 42,
        shuffle: true,
        duration: Duration::Epochs(3.0),
    }
}

/// Everything that a sampler gives from where it is: (epoch, step, global step, windows).
fn rest(sampler: &mut Sampler) -> Vec<(u64, u64, u64, Vec<u32>)> {
    let mut steps = Vec::new();
    while let Some(step) = sampler.next_step() {
        steps.push((step.epoch, step.step, step.global_step, step.windows.to_vec()));
    }
    steps
}

#[test]
fn steps_are_counted_as_hugging_face_counts_them() {
    // windows, batch, accumulation -> max(ceil(ceil(windows / batch) / accumulation), 1)
    let cases =
        [(5000, 8, 1, 625), (5001, 8, 1, 626), (23, 4, 2, 3), (24, 4, 2, 3), (25, 4, 2, 4), (3, 8, 4, 1)];
    for (windows, batch, accumulation, expected) in cases {
        assert_eq!(
            steps_per_epoch(windows, batch, accumulation),
            expected,
            "{windows} {batch} {accumulation}"
        );
    }
    let total = |duration| Sampler::new(SamplerOptions { duration, ..options() }).unwrap().total_steps();
    assert_eq!(total(Duration::Epochs(3.0)), 9);
    assert_eq!(total(Duration::Epochs(1.5)), 5);
    assert_eq!(total(Duration::Epochs(0.01)), 1);
    assert_eq!(total(Duration::Steps(100)), 100);
}

#[test]
fn every_epoch_takes_each_window_once_in_another_order() {
    let steps = rest(&mut Sampler::new(options()).unwrap());
    let sizes: Vec<_> = steps.iter().map(|step| step.3.len()).collect();
    assert_eq!(sizes, [8, 8, 7, 8, 8, 7, 8, 8, 7], "the short batch is kept");
    let epoch = |epoch| -> Vec<u32> {
        steps.iter().filter(|step| step.0 == epoch).flat_map(|step| step.3.clone()).collect()
    };
    for index in 0..3 {
        let mut sorted = epoch(index);
        sorted.sort();
        assert_eq!(sorted, (0..23).collect::<Vec<_>>());
    }
    assert_ne!(epoch(0), epoch(1));
    assert_ne!(epoch(1), epoch(2));
}

#[test]
fn the_order_is_fixed_for_good() {
    // From ChaCha8 and the shuffle written out in Python. A change here changes every training that is resumed.
    assert_eq!(epoch_order(10, 42, 0), ORDER_42_0);
    assert_eq!(epoch_order(10, 42, 1), ORDER_42_1);
    assert_eq!(epoch_order(10, 43, 0), ORDER_43_0);
    assert_eq!(epoch_order(1, 42, 0), [0]);
}

const ORDER_42_0: [u32; 10] = [7, 8, 6, 4, 5, 2, 1, 9, 3, 0];
const ORDER_42_1: [u32; 10] = [4, 5, 0, 2, 7, 8, 1, 3, 6, 9];
const ORDER_43_0: [u32; 10] = [2, 7, 0, 5, 4, 9, 3, 6, 8, 1];

#[test]
fn the_shuffle_favours_no_place() {
    // 6 windows, 6000 epochs: each (window, place) is expected 1000 times with a standard deviation of 29.
    let mut counts = [[0i32; 6]; 6];
    for epoch in 0..6000 {
        for (place, window) in epoch_order(6, 7, epoch).into_iter().enumerate() {
            counts[window as usize][place] += 1;
        }
    }
    let worst = counts.iter().flatten().map(|&count| (count - 1000).abs()).max().unwrap();
    assert!(worst < 145, "five standard deviations: {counts:?}");
}

#[test]
fn the_order_does_not_depend_on_batch_or_accumulation() {
    let order = |batch, accumulation| -> Vec<u32> {
        let mut sampler = Sampler::new(SamplerOptions { batch, accumulation, ..options() }).unwrap();
        rest(&mut sampler).into_iter().flat_map(|step| step.3).collect()
    };
    for (batch, accumulation) in [(1, 1), (8, 1), (2, 4), (100, 100)] {
        assert_eq!(order(batch, accumulation), order(4, 2), "{batch} x {accumulation}");
    }
}

#[test]
fn without_shuffling_the_order_is_that_of_the_data() {
    let mut sampler = Sampler::new(SamplerOptions { shuffle: false, ..options() }).unwrap();
    let windows: Vec<_> = rest(&mut sampler).into_iter().flat_map(|step| step.3).collect();
    assert_eq!(windows, (0..3).flat_map(|_| 0..23).collect::<Vec<_>>());
}

#[test]
fn epochs_are_logged_as_hugging_face_logs_them() {
    let mut sampler = Sampler::new(SamplerOptions { windows: 20, ..options() }).unwrap(); // 5 batches, 3 steps
    let epochs: Vec<f64> =
        std::iter::from_fn(|| sampler.next_step().map(|step| step.epoch_after)).take(4).collect();
    assert_eq!(epochs, [0.4, 0.8, 1.0, 1.4]);
}

#[test]
fn steps_override_epochs_and_may_end_inside_one() {
    let mut sampler = Sampler::new(SamplerOptions { duration: Duration::Steps(4), ..options() }).unwrap();
    let steps = rest(&mut sampler);
    assert_eq!(steps.last().map(|step| (step.0, step.1, step.2)), Some((1, 0, 3)));
    assert_eq!(sampler.position(), (1, 1));
    assert!(sampler.next_step().is_none(), "after the end comes nothing");
}

#[test]
fn options_and_points_that_make_no_sense_are_refused() {
    let new = |change: fn(&mut SamplerOptions)| {
        let mut options = options();
        change(&mut options);
        Sampler::new(options).unwrap_err().to_string()
    };
    assert_eq!(new(|options| options.windows = 0), "windows is 0, expected at least 1");
    assert_eq!(new(|options| options.batch = 0), "batch is 0, expected at least 1");
    assert_eq!(new(|options| options.accumulation = 0), "accumulation is 0, expected at least 1");
    assert_eq!(new(|options| options.duration = Duration::Steps(0)), "max_steps is 0, expected at least 1");
    assert_eq!(
        new(|options| options.duration = Duration::Epochs(-1.0)),
        "the number of epochs is -1, expected a positive number"
    );
    assert!(new(|options| options.duration = Duration::Epochs(f64::NAN)).contains("NaN"));
    assert!(new(|options| options.windows = 1 << 32).starts_with("4294967296 windows are more than"));
    let mut sampler = Sampler::new(options()).unwrap();
    for (epoch, step) in [(0, 3), (3, 1), (4, 0), (u64::MAX, 0)] {
        let error = sampler.seek(epoch, step).unwrap_err();
        assert_eq!(error, SamplerError::NoSuchStep { epoch, step, steps_per_epoch: 3, total_steps: 9 });
    }
    sampler.seek(3, 0).unwrap();
    assert!(sampler.next_step().is_none(), "the end is a point, and nothing follows it");
}

proptest! {
    #[test]
    fn going_on_from_a_point_is_as_if_never_stopped(
        windows in 1usize..60, batch in 1usize..9, accumulation in 1usize..4, seed: u64, stop in 0usize..40,
    ) {
        let options = SamplerOptions { windows, batch, accumulation, seed, ..options() };
        let all = rest(&mut Sampler::new(options).unwrap());
        let mut first = Sampler::new(options).unwrap();
        let stop = stop.min(all.len());
        for _ in 0..stop {
            first.next_step();
        }
        let (epoch, step) = first.position();
        let mut resumed = Sampler::new(options).unwrap();
        resumed.seek(epoch, step).unwrap();
        prop_assert_eq!(resumed.position(), (epoch, step));
        prop_assert_eq!(rest(&mut resumed), &all[stop..]);
    }
}
