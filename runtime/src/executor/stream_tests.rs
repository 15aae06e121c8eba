//! Weights that come through a small stream region give what resident ones give.

use super::*;
use crate::topology::Pretended;
use crate::weights::{Checkpoint, test_files};
use gptjc_graphs::attributes::Attributes;
use gptjc_graphs::plan::{Buffer, EntryPoint, FORMAT_VERSION, Load, Memory, Partition, Step};
use gptjc_graphs::shape::Dim;
use half::{bf16, f16};
use safetensors::Dtype;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

const SLOTS: usize = 3;
const WIDTH: usize = 24; // a weight of 2304 bytes: three pieces of the reader's
const WEIGHTS: usize = 5;
const PLACE: u64 = 4096;
const ROW: u64 = 512; // of an activation: at least SLOTS * WIDTH * 4

/// Weights `w0` ... of f32, f16 and bf16 in turn.
fn checkpoint() -> (TempDir, Arc<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..WEIGHTS).map(|index| format!("w{index}")).collect();
    let tensors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let value = |element: usize| ((element * 7 + index * 13) % 23) as f32 / 40.0 - 0.27;
            let values: Vec<f32> = (0..WIDTH * WIDTH).map(value).collect();
            let (dtype, bytes) = match index % 3 {
                0 => (Dtype::F32, test_files::f32_bytes(&values)),
                1 => (Dtype::F16, values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
                _ => (Dtype::BF16, values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()),
            };
            (name.as_str(), dtype, vec![WIDTH, WIDTH], bytes)
        })
        .collect();
    test_files::write(&dir.path().join("model.safetensors"), &tensors);
    let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
    (dir, checkpoint)
}

fn step(op: &str, attributes: Attributes, operands: &[u32], results: &[u32]) -> Step {
    Step {
        kernel: format!("{op}-f32-portable"),
        attributes: Step::encode_attributes(&attributes),
        operands: operands.to_vec(),
        results: results.to_vec(),
        partition: Partition { rows: 1, columns: 0 },
        ..Step::default()
    }
}

/// Which weight each step of an entry point multiplies by.
const FORTH: [usize; 5] = [0, 1, 2, 3, 4];
const FORTH_AND_BACK: [usize; 9] = [0, 1, 2, 3, 4, 3, 2, 1, 0];

/// `forth` and `forth_and_back` multiply `x` by weight after weight, into `y`; `double` writes `x` from `y` and has no
/// weights. With `places`, the weights of a step come through one of so many places in the stream region.
fn plan(places: Option<usize>) -> Plan {
    let matrix = TensorType::f32([Dim::slots(SLOTS), WIDTH.into()]);
    let square = TensorType::f32([WIDTH.into(), WIDTH.into()]);
    let mut plan = Plan {
        format_version: FORMAT_VERSION,
        buffers: vec![
            Buffer::new("x", Memory::State, &matrix, 0),
            Buffer::new("y", Memory::Result, &matrix, ROW),
        ],
        arena_bytes: 2 * ROW,
        persistent_bytes: 2 * ROW,
        stream_bytes: places.unwrap_or(0) as u64 * PLACE,
        ..Plan::default()
    };
    for (name, order) in [("forth", FORTH.as_slice()), ("forth_and_back", &FORTH_AND_BACK)] {
        let mut entry = EntryPoint { name: name.to_owned(), ..EntryPoint::default() };
        let mut input = 0;
        for (index, weight) in order.iter().enumerate() {
            let offset = places.map_or(0, |places| (index % places) as u64 * PLACE);
            let memory = if places.is_some() { Memory::Stream } else { Memory::Weight };
            let id = plan.buffers.len() as u32;
            plan.buffers.push(Buffer::new(&format!("w{weight}"), memory, &square, offset));
            let output = if index + 1 == order.len() { 1 } else { id + 1 };
            if output != 1 {
                plan.buffers.push(Buffer::new("m", Memory::Arena, &matrix, (index % 2) as u64 * ROW));
            }
            entry.steps.push(step("matmul", Attributes::new().word("form", "nt"), &[input, id], &[output]));
            if let Some(places) = places {
                entry.loads.push(load(id, index, places, order.len()));
            }
            input = output;
        }
        plan.entries.push(entry);
    }
    let double = vec![step("scale", Attributes::new().float("factor", 2.0), &[1], &[0])];
    plan.entries.push(EntryPoint { name: "double".to_owned(), steps: double, ..EntryPoint::default() });
    plan
}

/// The load of step `index` of `steps` steps that take turns in `places` places.
fn load(buffer: u32, index: usize, places: usize, steps: usize) -> Load {
    // The last step of the previous run that reads the same place.
    let last = (0..steps).rev().find(|step| step % places == index % places).unwrap();
    Load {
        buffer,
        before_step: index as u32,
        after_step: (index + 1).saturating_sub(places) as u32,
        previous_after_step: last as u32 + 1,
    }
}

const EXTENTS: Extents = Extents { slots: SLOTS, rows: 0, windows: 0, segments: 0 };

fn executor(checkpoint: &Arc<Checkpoint>, places: Option<usize>, topology: &str, threads: usize) -> Executor {
    let topology = topology.parse::<Pretended>().unwrap().topology();
    let weights = WeightStore::new(Arc::clone(checkpoint));
    let mut executor = Executor::on(&topology, plan(places), weights, threads).unwrap();
    let x: Vec<f32> = (0..SLOTS * WIDTH).map(|index| index as f32 / 50.0 - 0.7).collect();
    executor.write("x", &x).unwrap();
    executor
}

/// Runs `entries` and returns what each left.
fn results(executor: &mut Executor, entries: &[&str]) -> Vec<Vec<f32>> {
    let mut found = Vec::new();
    for entry in entries {
        executor.run(entry, &EXTENTS).unwrap();
        found.push(executor.read::<f32>("y").unwrap());
        found.push(executor.read::<f32>("x").unwrap());
    }
    found
}

const RUNS: [&str; 12] = [
    "forth_and_back",
    "forth_and_back",
    "double",
    "forth_and_back",
    "forth",
    "forth",
    "double",
    "double",
    "forth",
    "forth_and_back",
    "forth",
    "forth_and_back",
];

#[test]
fn streamed_weights_give_the_same_bits_whatever_the_timing() {
    let (_dir, checkpoint) = checkpoint();
    let mut resident = executor(&checkpoint, None, "1x1", 1);
    let expected = results(&mut resident, &RUNS);
    assert!(expected[0].iter().all(|y| y.is_finite()) && expected[0] != expected[2 * 9]);
    assert_eq!(resident.streamed(), Streamed::default());
    jitter::switch(true);
    for round in 0..60 {
        let (places, threads) = (1 + round % 4, 1 + round / 4 % 3);
        let topology = if round % 2 == 0 { "1x2" } else { "2x1" };
        let mut streamed = executor(&checkpoint, Some(places), topology, threads);
        assert_eq!(results(&mut streamed, &RUNS), expected, "{places} places, {threads} threads");
        assert!(streamed.streamed().bytes > 0);
    }
    jitter::switch(false);
}

#[test]
fn what_the_next_run_needs_is_read_before_it_begins() {
    let (_dir, checkpoint) = checkpoint();
    let mut streamed = executor(&checkpoint, Some(FORTH.len()), "1x1", 1);
    let bytes = |weights: &[usize]| -> u64 {
        weights.iter().map(|weight| (WIDTH * WIDTH * if weight % 3 == 0 { 4 } else { 2 }) as u64).sum()
    };
    streamed.run("forth", &EXTENTS).unwrap();
    // With a place for each weight, all of the next run may be read, whatever runs without loads come between.
    let wait_for = |streamed: &Executor, expected: u64| {
        for _ in 0..5000 {
            if streamed.streamed().bytes == expected {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("expected {expected} bytes, found {}", streamed.streamed().bytes);
    };
    wait_for(&streamed, 2 * bytes(&FORTH));
    streamed.run("double", &EXTENTS).unwrap();
    streamed.record(true);
    streamed.run("forth", &EXTENTS).unwrap();
    assert!(streamed.timings().iter().all(|timing| timing.stall_ns == 0), "{:?}", streamed.timings());
    wait_for(&streamed, 3 * bytes(&FORTH));
    // Another entry point loses what was read ahead, and reads its own.
    let stall = streamed.streamed().stall;
    streamed.run("forth_and_back", &EXTENTS).unwrap();
    let stalls: u64 = streamed.timings().iter().map(|timing| timing.stall_ns).sum();
    assert_eq!(streamed.streamed().stall - stall, std::time::Duration::from_nanos(stalls));
    assert!(streamed.streamed().bytes >= 3 * bytes(&FORTH) + bytes(&FORTH_AND_BACK));
}

#[test]
fn a_stopped_run_is_followed_by_whole_ones() {
    let (_dir, checkpoint) = checkpoint();
    let expected = results(&mut executor(&checkpoint, None, "1x1", 1), &["forth_and_back"]);
    let mut streamed = executor(&checkpoint, Some(2), "1x2", 2);
    let flag = streamed.stop_flag();
    let mut stopped = 0;
    for round in 0..100 {
        let raise = Arc::clone(&flag);
        let thread = std::thread::spawn(move || {
            (0..round * 200).for_each(|_| std::hint::spin_loop());
            raise.store(true, Ordering::Release);
        });
        stopped += usize::from(streamed.run("forth_and_back", &EXTENTS).is_err());
        thread.join().unwrap();
        flag.store(false, Ordering::Release);
        assert_eq!(results(&mut streamed, &["forth_and_back"]), expected);
    }
    println!("{stopped} of 100 runs were stopped");
}

#[test]
fn a_file_that_is_cut_off_ends_the_run_with_its_name_and_the_tensors() {
    for threads in [1, 3] {
        let (dir, checkpoint) = checkpoint();
        let mut streamed = executor(&checkpoint, Some(2), "1x2", threads);
        let expected = results(&mut streamed, &["forth"]);
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        // The last tensor of the file loses its last byte; mapped pages are not touched by streamed weights.
        let last = (0..WEIGHTS).max_by_key(|w| checkpoint.tensor(&format!("w{w}")).unwrap().offset).unwrap();
        file.set_len(whole.len() as u64 - 1).unwrap();
        for _ in 0..3 {
            let error = streamed.run("forth_and_back", &EXTENTS).unwrap_err().to_string();
            let start =
                format!("cannot read tensor `w{last}` from `{}`: the file was cut off", path.display());
            assert!(error.starts_with(&start), "{error}");
        }
        // The same file, whole again: nothing is left of the failure.
        std::io::Write::write_all(&mut &file, &whole).unwrap();
        assert_eq!(results(&mut streamed, &["forth"]), expected);
    }
}

#[test]
fn a_tensor_that_the_checkpoint_lacks_is_refused() {
    let (_dir, checkpoint) = checkpoint();
    let refused = |change: fn(&mut Plan)| {
        let mut plan = plan(Some(2));
        change(&mut plan);
        let result = Executor::new(plan, WeightStore::new(Arc::clone(&checkpoint)), 1);
        result.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let error = refused(|plan| plan.buffers[2].name = "w9".to_owned());
    assert!(error.starts_with("the plan has no buffer `w9`"), "{error}");
    let error = refused(|plan| plan.entries[0].loads[2].after_step = 0);
    assert!(error.contains("entry `forth`, load 2 of `w2`"), "{error}");
}

#[test]
fn the_parts_of_a_run_wait_for_their_weights() {
    let (_dir, checkpoint) = checkpoint();
    let expected = results(&mut executor(&checkpoint, None, "1x1", 1), &RUNS);
    for (places, threads) in [(1, 1), (2, 2)] {
        let mut streamed = executor(&checkpoint, Some(places), "1x2", threads);
        let mut found = Vec::new();
        for name in RUNS {
            let steps = streamed.plan().entry(name).unwrap().steps.len();
            for end in 1..=steps {
                streamed.run_until(name, &EXTENTS, end).unwrap();
            }
            found.push(streamed.read::<f32>("y").unwrap());
            found.push(streamed.read::<f32>("x").unwrap());
        }
        assert_eq!(found, expected, "{places} places, {threads} threads");
    }
}
