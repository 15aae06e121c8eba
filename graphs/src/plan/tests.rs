//! Tests of the plan's file and of its verifier, on a plan of three steps.

use super::*;
use crate::dtype::DType;
use crate::shape::{Dim, TensorType};

const ROW: u64 = 16 * 4;

fn vector(rows: usize) -> TensorType {
    TensorType::new(DType::F32, [Dim::slots(rows), Dim::fixed(16)])
}

fn step(kernel: &str, attributes: crate::attributes::Attributes, operands: &[u32], results: &[u32]) -> Step {
    Step {
        kernel: kernel.to_owned(),
        attributes: Step::encode_attributes(&attributes),
        operands: operands.to_vec(),
        results: results.to_vec(),
        partition: Partition { rows: 1, columns: 0 },
        module: "m".to_owned(),
        flops: 1,
        bytes: 2,
        workspace: Vec::new(),
        seconds: 0.0,
    }
}

/// `t1 = 2 x; t2 = t1 + x; y = t2 + t1`: both temporaries are live at once.
fn plan() -> Plan {
    let none = crate::attributes::Attributes::new;
    let temporary = |offset| Buffer::new("m", Memory::Arena, &vector(2), offset);
    Plan {
        format_version: FORMAT_VERSION,
        compiler_version: "0.0.0".to_owned(),
        buffers: vec![
            Buffer::new("x", Memory::Batch, &vector(2), 0),
            temporary(0),
            temporary(2 * ROW),
            Buffer::new("y", Memory::Result, &vector(2), 2 * ROW),
        ],
        entries: vec![EntryPoint {
            name: "forward".to_owned(),
            steps: vec![
                step("scale-f32-portable", none().float("factor", 2.0), &[0], &[1]),
                step("add-f32-portable", none(), &[1, 0], &[2]),
                step("add-f32-portable", none(), &[2, 1], &[3]),
            ],
            live_bytes: 4 * ROW,
            ..EntryPoint::default()
        }],
        arena_bytes: 4 * ROW,
        persistent_bytes: 4 * ROW,
        ..Plan::default()
    }
}

/// A plan whose parts are empty, and many.
#[test]
fn a_plan_of_empty_parts_is_refused_before_it_is_decoded() {
    let of_empty = |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        let error = artifact::decode(&artifact::encode(&plan)).unwrap_err().to_string();
        assert!(error.contains("full of empty parts") && error.contains("gptjc compile"), "{error}");
    };
    of_empty(|plan| plan.buffers.resize(100_000, Buffer::default()));
    of_empty(|plan| plan.entries.resize(100_000, EntryPoint::default()));
    of_empty(|plan| plan.entries[0].steps.resize(100_000, Step::default()));
    of_empty(|plan| plan.entries[0].loads.resize(100_000, Load::default()));
    of_empty(|plan| plan.buffers[0].dims.resize(200_000, Dimension::default()));
    of_empty(|plan| plan.remarks.resize(100_000, String::new()));
    of_empty(|plan| plan.options.lora.get_or_insert_default().targets.resize(100_000, String::new()));
    let mut plan = plan();
    plan.options.lora.get_or_insert_default().targets.resize(100_000, String::new());
    assert!(artifact::decode_options(&artifact::encode(&plan)).is_err());
}

fn refusal(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = plan();
    change(&mut plan);
    verify::verify(&plan).unwrap_err().to_string()
}

#[test]
fn a_plan_round_trips_through_its_file() {
    let bytes = artifact::encode(&plan());
    assert_eq!(artifact::decode(&bytes).unwrap(), plan());
}

#[test]
fn files_that_are_no_plan_of_this_version_are_refused() {
    let mut other = plan();
    other.format_version = 99;
    let error = artifact::decode(&artifact::encode(&other)).unwrap_err().to_string();
    assert!(error.starts_with("the plan has format version 99, this gptjc reads version"), "{error}");
    assert_eq!(artifact::decode_options(&artifact::encode(&other)).unwrap(), other.options);
    let error = artifact::decode(b"PK\x03\x04").unwrap_err().to_string();
    assert!(error.starts_with("this is not a gptjc plan"), "{error}");
    let bytes = artifact::encode(&plan());
    for length in 8..bytes.len() {
        let error = artifact::decode(&bytes[..length]).unwrap_err().to_string();
        assert!(error.starts_with("the plan is cut off: expected"), "cut after {length} bytes: {error}");
    }
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    let error = artifact::decode(&damaged).unwrap_err().to_string();
    assert!(error.starts_with("the plan is damaged: its checksum is"), "{error}");
}

#[test]
fn temporaries_that_overlap_while_both_live_are_found() {
    let error = refusal(|plan| plan.buffers[2].offset = ROW);
    assert!(error.ends_with("its result 2 `m` overlaps 1 `m`, which is still live"), "{error}");
    // `t2` may not be written over `t1`, which is read again.
    let error = refusal(|plan| plan.buffers[2].offset = 0);
    assert!(error.ends_with("its result 2 `m` overlaps 1 `m`, which is still live"), "{error}");
}

#[test]
fn a_result_may_be_written_over_an_operand_that_dies() {
    let mut plan = plan();
    plan.entries[0].steps[2].operands = vec![2, 0];
    plan.buffers[2].offset = 0;
    assert_eq!(verify::verify(&plan), Ok(()));
}

#[test]
fn what_steps_may_not_do_is_found() {
    let error = refusal(|plan| plan.entries[0].steps[0].operands = vec![2]);
    assert!(error.ends_with("it reads temporary 2, which no earlier step wrote"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[2].results = vec![0]);
    assert!(error.ends_with("it writes the batch buffer `x`"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[1].results = vec![1]);
    assert!(error.ends_with("temporary 1 is written twice"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[1].operands = vec![1, 9]);
    assert!(error.ends_with("buffer 9 does not exist"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[0].kernel = "scale2-f32-portable".to_owned());
    assert!(error.ends_with("no op is called `scale2`"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[0].attributes.clear());
    assert!(error.ends_with("attribute `factor` is missing: expected a number"), "{error}");
    let error = refusal(|plan| plan.entries[0].steps[0].partition.rows = 0);
    assert!(error.ends_with("a tile has 0 rows"), "{error}");
}

#[test]
fn a_persistent_buffer_is_written_over_only_in_place() {
    let square = TensorType::f32([Dim::fixed(16), Dim::fixed(16)]);
    let with = |kernel: &str, attributes: crate::attributes::Attributes| {
        let mut plan = plan();
        plan.buffers = vec![Buffer::new("s", Memory::State, &square, 0)];
        plan.persistent_bytes = 16 * ROW;
        plan.entries[0].steps = vec![step(kernel, attributes, &[0, 0], &[0])];
        verify::verify(&plan)
    };
    let none = crate::attributes::Attributes::new;
    assert_eq!(with("add-f32-portable", none()), Ok(()));
    let error = with("matmul-f32-portable", none().word("form", "nt")).unwrap_err().to_string();
    assert!(error.ends_with("it writes result 0 over operand 0, which `matmul` may not"), "{error}");
}

#[test]
fn buffers_that_cannot_be_are_found() {
    let error = refusal(|plan| plan.buffers[1].offset = 4);
    assert_eq!(error, "buffer 1 `m`: offset 4 is not a multiple of 64");
    let error = refusal(|plan| plan.buffers[1].offset = 64 * ROW);
    assert_eq!(error, "buffer 1 `m`: it ends at byte 4224 of a region of 256 bytes");
    let error = refusal(|plan| plan.buffers[3].offset = ROW);
    assert_eq!(error, "buffer 3 `y`: it overlaps `x`");
    let error = refusal(|plan| plan.buffers[0].dims[0].bound = u64::MAX);
    assert_eq!(error, "buffer 0 `x`: its size is more than can be counted");
    let error = refusal(|plan| plan.buffers[0].dtype = 7);
    assert!(error.ends_with("element type number 7 is unknown to this version"), "{error}");
    let error = refusal(|plan| plan.buffers[0].memory = 99);
    assert_eq!(error, "buffer 0 `x`: memory kind 99 is unknown");
}

#[test]
fn a_plan_prints() {
    let mut text = String::new();
    text::print(&plan(), &mut text).unwrap();
    assert!(
        text.contains("entry forward: 3 steps, 3 flops, 6 bytes moved, 256 bytes live, 0 bytes read, 0.0"),
        "{text}"
    );
    assert!(text.contains("@3:y = add-f32-portable @2+128, @1+0 tile 1x0, 0.000000 s @ m"), "{text}");
}

/// Five steps `y = x + w`; steps 0 and 1 read the tensor `a`, step 2 reads `b`, step 3 `c`, step 4 `a` again, in two
/// places of the stream region.
fn streaming() -> Plan {
    let none = crate::attributes::Attributes::new;
    let tensor = |name: &str, offset| Buffer::new(name, Memory::Stream, &vector(2), offset);
    let load = |buffer, before_step, after_step, previous_after_step| Load {
        buffer,
        before_step,
        after_step,
        previous_after_step,
    };
    let add = |operand, result| step("add-f32-portable", none(), &[0, operand], &[result]);
    let mut plan = plan();
    plan.buffers = vec![
        Buffer::new("x", Memory::Batch, &vector(2), 0),
        Buffer::new("y", Memory::Result, &vector(2), 2 * ROW),
        tensor("a", 0),
        tensor("b", STREAM_ALIGNMENT),
        tensor("c", 0),
        tensor("a", STREAM_ALIGNMENT),
    ];
    plan.stream_bytes = 2 * STREAM_ALIGNMENT;
    plan.entries[0].steps = vec![add(2, 1), add(2, 1), add(3, 1), add(4, 1), add(5, 1)];
    plan.entries[0].loads = vec![load(2, 0, 0, 4), load(3, 2, 0, 5), load(4, 3, 2, 0), load(5, 4, 3, 0)];
    plan
}

fn stream_refusal(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = streaming();
    change(&mut plan);
    verify::verify(&plan).unwrap_err().to_string()
}

#[test]
fn loads_that_wait_long_enough_hold() {
    assert_eq!(verify::verify(&streaming()), Ok(()));
    let mut text = String::new();
    text::print(&streaming(), &mut text).unwrap();
    assert!(text.contains("load    2 @4:c before step 3, after 2 steps, or 0 of the previous run"), "{text}");
}

#[test]
fn loads_that_start_too_early_are_found() {
    let load = |index: usize, field: fn(&mut Load) -> &mut u32, value: u32| {
        stream_refusal(|plan| *field(&mut plan.entries[0].loads[index]) = value)
    };
    let error = load(2, |load| &mut load.after_step, 1);
    assert!(error.ends_with("load 2 of `c`: it may start while step 1 still reads `a` there"), "{error}");
    let error = load(0, |load| &mut load.previous_after_step, 3);
    assert!(
        error.ends_with("it may start while step 3 of the previous run still reads `c` there"),
        "{error}"
    );
    let error = load(1, |load| &mut load.previous_after_step, 4);
    assert!(
        error.ends_with("it may start while step 4 of the previous run still reads `a` there"),
        "{error}"
    );
    // The buffer itself is read in the previous run as well.
    let error = load(0, |load| &mut load.previous_after_step, 1);
    assert!(
        error.ends_with("it may start while step 1 of the previous run still reads `a` there"),
        "{error}"
    );
}

#[test]
fn loads_that_come_too_late_or_cannot_be_are_found() {
    let error = stream_refusal(|plan| plan.entries[0].loads[2].before_step = 4);
    assert!(error.ends_with("load 2 of `c`: it is there before step 4, but step 3 reads it"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads[2].after_step = 4);
    assert!(error.ends_with("it waits for 4 steps and must be there before step 3"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads[0].previous_after_step = 6);
    assert!(error.ends_with("it waits for 6 steps of a run of 5"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads.swap(2, 3));
    assert!(error.ends_with("it is needed before the load in front of it"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads.retain(|load| load.buffer != 3));
    assert!(error.ends_with("step 2 `add-f32-portable`: it reads `b`, which no load brings"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads[3].buffer = 3);
    assert!(error.ends_with("load 3 of `b`: buffer 3 is loaded twice"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads[3].buffer = 1);
    assert!(error.ends_with("load 3 of `y`: it is in result memory"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].loads[3].buffer = 9);
    assert!(error.ends_with("load 3 of ``: buffer 9 does not exist"), "{error}");
    let error = stream_refusal(|plan| drop(plan.entries[0].steps.pop()));
    assert!(error.ends_with("load 1 of `b`: it waits for 5 steps of a run of 4"), "{error}");
    let error = stream_refusal(|plan| {
        plan.entries[0].steps.pop();
        plan.entries[0].loads[1].previous_after_step = 4;
    });
    assert!(error.ends_with("load 3 of `a`: no step reads it"), "{error}");
    let error = stream_refusal(|plan| plan.entries[0].steps[0].results = vec![3]);
    assert!(error.ends_with("it writes the stream buffer `b`"), "{error}");
    let error = stream_refusal(|plan| plan.buffers[3].offset = 64);
    assert_eq!(error, "buffer 3 `b`: offset 64 is not a multiple of 4096");
    let error = stream_refusal(|plan| plan.stream_bytes = 4096);
    assert_eq!(error, "buffer 3 `b`: it ends at byte 4224 of a region of 4096 bytes");
}
