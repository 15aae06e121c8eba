//! Tests of `options`: the windows of a step.

use super::*;

fn step(global: Option<u64>, batch: Option<u64>, accumulation: Option<u64>) -> Result<StepShape, String> {
    step_of(1, global, batch, accumulation)
}

fn step_of(
    ranks: u64,
    global: Option<u64>,
    batch: Option<u64>,
    accumulation: Option<u64>,
) -> Result<StepShape, String> {
    let flags = WindowFlags {
        global_batch_size: global,
        per_device_train_batch_size: batch,
        gradient_accumulation_steps: accumulation,
        ranks,
        ..WindowFlags::default()
    };
    let options = CompileOptions {
        per_device_train_batch_size: BATCH,
        step_windows: BATCH,
        ..CompileOptions::default()
    };
    StepShape::new(&flags, &options).map_err(|error| crate::error::report(&error))
}

fn shape(batch: u64, accumulation: u64, most_at_a_time: u64) -> StepShape {
    StepShape { batch, accumulation, most_at_a_time }
}

#[test]
fn a_step_has_the_windows_of_its_batches() {
    assert_eq!(step(None, None, None), Ok(shape(8, 1, 8)));
    assert_eq!(step(None, Some(4), Some(3)), Ok(shape(4, 3, 4)));
    assert_eq!(step(None, None, Some(3)).unwrap().windows(), 24);
}

#[test]
fn a_global_batch_is_divided_by_what_else_is_given() {
    assert_eq!(step(Some(32), Some(4), None), Ok(shape(4, 8, 4)));
    assert_eq!(step(Some(32), None, Some(4)), Ok(shape(8, 4, 8)));
    assert_eq!(step(Some(32), Some(4), Some(8)), Ok(shape(4, 8, 4)));
    // Alone it need not be a multiple of anything.
    assert_eq!(step(Some(20), None, None), Ok(shape(20, 1, 8)));
    assert_eq!(step(Some(3), None, None), Ok(shape(3, 1, 3)));
}

#[test]
fn a_batch_is_of_each_rank_and_a_global_batch_of_all() {
    assert_eq!(step_of(4, None, None, None), Ok(shape(32, 1, 8)));
    assert_eq!(step_of(4, None, Some(2), Some(3)), Ok(shape(8, 3, 2)));
    assert_eq!(step_of(3, Some(20), None, None), Ok(shape(20, 1, 7)));
    assert_eq!(step_of(3, Some(20), None, Some(2)), Ok(shape(10, 2, 4)));
    assert_eq!(step_of(3, Some(24), Some(4), None), Ok(shape(12, 2, 4)));
    assert_eq!(step_of(3, Some(24), Some(4), Some(2)), Ok(shape(12, 2, 4)));
    let text = step_of(3, Some(8), Some(4), None).unwrap_err();
    let expected = "error: --global-batch-size 8 contradicts --per-device-train-batch-size 4 on 3 ranks, of which it is no multiple";
    assert!(text.starts_with(expected) && text.contains("give a multiple of 12"), "{text}");
}

#[test]
fn contradictions_show_the_values() {
    let text = step(Some(30), Some(4), None).unwrap_err();
    assert!(
        text.starts_with("error: --global-batch-size 30 contradicts --per-device-train-batch-size 4,"),
        "{text}"
    );
    let text = step(Some(30), None, Some(7)).unwrap_err();
    assert!(
        text.starts_with("error: --global-batch-size 30 contradicts --gradient-accumulation-steps 7,"),
        "{text}"
    );
    let text = step(Some(30), Some(4), Some(7)).unwrap_err();
    assert!(
        text.contains("--per-device-train-batch-size 4 times --gradient-accumulation-steps 7, which is 28")
    );
}
