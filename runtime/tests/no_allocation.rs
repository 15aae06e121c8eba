//! A run of an entry point allocates nothing: every allocation of the process is counted while one is under way.
//!
//! The file has this one test, because other tests of a process allocate at the same time.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::attributes::Attributes;
use gptjc_graphs::plan::{
    Buffer, EntryPoint, FORMAT_VERSION, Load, Memory, Partition, Plan, STREAM_ALIGNMENT, Step,
};
use gptjc_graphs::shape::{Dim, Extents, TensorType};
use gptjc_runtime::executor::{Executor, WeightStore};
use gptjc_runtime::topology::Topology;
use gptjc_runtime::weights::Checkpoint;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(address, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SLOTS: usize = 12;
const WIDTH: usize = 8;
const BYTES: u64 = 1024; // of each buffer at most twice as many
const NAMES: [&str; 11] =
    ["x", "w", "h", "segment", "segment_table", "s", "p", "o", "a", "window_table", "y"];

fn step(op: &str, attributes: &Attributes, operands: &[u32], results: &[u32]) -> Step {
    Step {
        kernel: format!("{op}-f32-portable"),
        attributes: Step::encode_attributes(attributes),
        operands: operands.to_vec(),
        results: results.to_vec(),
        partition: Partition { rows: 2, columns: 4 },
        module: "m".to_owned(),
        flops: 1,
        bytes: 1,
        workspace: Vec::new(),
        seconds: 0.0,
    }
}

/// A projection, attention over itself, its activation and the sum of what comes out, window by window.
fn plan() -> Plan {
    let none = Attributes::new();
    let heads = Attributes::new().int("heads", 2).int("window", SLOTS);
    let matrix = TensorType::f32([Dim::slots(SLOTS), WIDTH.into()]);
    let scores = TensorType::f32([Dim::slots(SLOTS), 2.into(), SLOTS.into()]);
    let (segment, table) = (TensorType::i32([Dim::slots(SLOTS)]), [Dim::segments(2), Dim::windows(2)]);
    let [segments, windows] = table.map(|dim| TensorType::i32([dim, 2.into()]));
    let sums = TensorType::f32([Dim::windows(2), WIDTH.into()]);
    let square = TensorType::f32([WIDTH.into(), WIDTH.into()]);
    let kinds = [
        (Memory::Batch, matrix.clone()),
        (Memory::Parameter, square),
        (Memory::Arena, matrix.clone()),
        (Memory::Batch, segment),
        (Memory::Batch, segments),
        (Memory::Arena, scores.clone()),
        (Memory::Arena, scores),
        (Memory::Arena, matrix.clone()),
        (Memory::Arena, matrix),
        (Memory::Batch, windows),
        (Memory::Result, sums),
    ];
    let place = |index: usize| index as u64 * BYTES;
    let buffer = |(index, (memory, ty)): (usize, &(Memory, TensorType))| {
        assert!(ty.bytes() as u64 <= 2 * BYTES, "{ty}");
        Buffer::new(NAMES[index], *memory, ty, 2 * place(index))
    };
    let steps = vec![
        step("matmul", &Attributes::new().word("form", "nt"), &[0, 1], &[2]),
        step("segment_scores", &heads, &[2, 2, 3, 4], &[5]),
        step("masked_softmax", &none, &[5, 3, 4], &[6]),
        step("segment_mix", &none, &[6, 2, 3, 4], &[7]),
        step("gelu_tanh", &none, &[7], &[8]),
        step("window_sum", &none, &[8, 9], &[10]),
    ];
    Plan {
        format_version: FORMAT_VERSION,
        buffers: kinds.iter().enumerate().map(buffer).collect(),
        entries: vec![EntryPoint {
            name: "forward".to_owned(),
            steps,
            live_bytes: 0,
            ..EntryPoint::default()
        }],
        arena_bytes: 2 * place(kinds.len()),
        persistent_bytes: 2 * place(kinds.len()),
        ..Plan::default()
    }
}

/// The same plan with `w` streamed: each run reads it again.
fn streamed(mut plan: Plan) -> Plan {
    plan.buffers[1].memory = Memory::Stream.into();
    plan.buffers[1].offset = 0;
    plan.stream_bytes = STREAM_ALIGNMENT;
    plan.entries[0].loads = vec![Load { buffer: 1, before_step: 0, after_step: 0, previous_after_step: 1 }];
    plan
}

/// A checkpoint of one f16 tensor `w`, all 0.25.
fn checkpoint(dir: &Path) -> Arc<Checkpoint> {
    let bytes = f16::from_f32(0.25).to_le_bytes().repeat(WIDTH * WIDTH);
    let tensor = TensorView::new(Dtype::F16, vec![WIDTH, WIDTH], &bytes).unwrap();
    let file = safetensors::serialize([("w", tensor)], None).unwrap();
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
    Arc::new(Checkpoint::open(dir).unwrap())
}

/// 100 runs of `executor`, whose weights are there; what they allocate and the last result.
fn allocations(executor: &mut Executor) -> (usize, Vec<f32>) {
    let extents = Extents { slots: 11, rows: 0, windows: 1, segments: 2 };
    executor.write("x", &[0.5f32; SLOTS * WIDTH]).unwrap();
    executor.write("segment", &[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]).unwrap();
    executor.write("segment_table", &[0, 4, 4, 7]).unwrap();
    executor.write("window_table", &[0, 11]).unwrap();
    executor.record(true);
    // The reader allocates while it starts.
    executor.run("forward", &extents).unwrap();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    for _ in 0..100 {
        executor.run("forward", &extents).unwrap();
    }
    let found = ALLOCATIONS.load(Ordering::SeqCst) - before;
    (found, executor.read_first("y", WIDTH).unwrap())
}

#[test]
fn a_run_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path());
    let cores = Topology::host().threads();
    for threads in [1, cores, 3] {
        let mut executor = Executor::new(plan(), WeightStore::none(), threads).unwrap();
        executor.write("w", &[0.25f32; WIDTH * WIDTH]).unwrap();
        let (found, resident) = allocations(&mut executor);
        assert_eq!(found, 0, "allocations in 100 runs with {threads} threads");
        let weights = WeightStore::new(Arc::clone(&checkpoint));
        let mut executor = Executor::new(streamed(plan()), weights, threads).unwrap();
        let (found, read) = allocations(&mut executor);
        assert_eq!(found, 0, "allocations in 100 runs with {threads} threads and a reader");
        assert_eq!(read, resident);
        assert!(executor.streamed().bytes >= 101 * (2 * WIDTH * WIDTH) as u64);
    }
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(vec![1u8; 7]));
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 1, "the counter counts");
}
