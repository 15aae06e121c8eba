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
        }],
        arena_bytes: 4 * ROW,
        persistent_bytes: 4 * ROW,
        ..Plan::default()
    }
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
    assert!(text.contains("entry forward: 3 steps, 3 flops, 6 bytes moved, 256 bytes live"), "{text}");
    assert!(text.contains("@3:y = add-f32-portable @2+128, @1+0 tile 1x0 @ m"), "{text}");
}
