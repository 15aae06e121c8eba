//! Runs of tiny plans, and what the executor refuses.

use super::*;
use crate::topology::Pretended;
use gptjc_graphs::attributes::Attributes;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::plan::{Buffer, EntryPoint, FORMAT_VERSION, Memory, Partition, Step};
use gptjc_graphs::shape::Dim;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

const SLOTS: usize = 7;
const WIDTH: usize = 16;
const BYTES: u64 = 512; // of a buffer: at least SLOTS * WIDTH * 4, a multiple of 64

fn step(op: &str, attributes: Attributes, operands: &[u32], results: &[u32]) -> Step {
    Step {
        kernel: format!("{op}-f32-portable"),
        attributes: Step::encode_attributes(&attributes),
        operands: operands.to_vec(),
        results: results.to_vec(),
        partition: Partition { rows: 1, columns: 0 },
        module: "m".to_owned(),
        flops: 1,
        bytes: 1,
        workspace: Vec::new(),
        seconds: 0.0,
    }
}

/// `y = (2 x + x) + 2 x` over two temporaries; with `tokens`, rows of `table` are added in an entry point of their own.
fn plan() -> Plan {
    let none = Attributes::new;
    let matrix = TensorType::f32([Dim::slots(SLOTS), WIDTH.into()]);
    let (tokens, table) = (TensorType::i32([Dim::slots(SLOTS)]), TensorType::f32([4.into(), WIDTH.into()]));
    let buffers = vec![
        Buffer::new("x", Memory::Batch, &matrix, 0),
        Buffer::new("m", Memory::Arena, &matrix, 0),
        Buffer::new("m", Memory::Arena, &matrix, BYTES),
        Buffer::new("y", Memory::Result, &matrix, BYTES),
        Buffer::new("tokens", Memory::Batch, &tokens, 2 * BYTES),
        Buffer::new("table", Memory::Parameter, &table, 3 * BYTES),
        Buffer::new("m", Memory::Arena, &matrix, 0),
    ];
    let entry = |name: &str, steps| EntryPoint {
        name: name.to_owned(),
        steps,
        live_bytes: 2 * BYTES,
        ..EntryPoint::default()
    };
    let scale = step("scale", none().float("factor", 2.0), &[0], &[1]);
    let look_up = vec![
        step("scale", none().float("factor", 1.0), &[0], &[2]),
        step("embedding", none(), &[5, 4], &[6]),
        step("add", none(), &[6, 2], &[3]),
    ];
    let forward = vec![scale, step("add", none(), &[1, 0], &[2]), step("add", none(), &[2, 1], &[3])];
    Plan {
        format_version: FORMAT_VERSION,
        compiler_version: "0.0.0".to_owned(),
        buffers,
        entries: vec![entry("forward", forward), entry("look_up", look_up), entry("nothing", Vec::new())],
        arena_bytes: 2 * BYTES,
        persistent_bytes: 4 * BYTES,
        ..Plan::default()
    }
}

fn executor(threads: usize) -> Executor {
    Executor::new(plan(), WeightStore::none(), threads).unwrap()
}

fn slots(slots: usize) -> Extents {
    Extents { slots, ..Extents::default() }
}

fn message<T>(result: Result<T, ExecutorError>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

fn numbers() -> Vec<f32> {
    (0..SLOTS * WIDTH).map(|index| (index as f32 - 50.0) / 7.0).collect()
}

/// Runs `body` on a thread of its own and panics if it does not end.
fn ends(body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the team waits for a thread that never comes"),
    }
}

#[test]
fn every_number_of_threads_gives_the_same() {
    let x = numbers();
    for threads in [0, 1, 2, 5] {
        let mut executor = executor(threads);
        assert_eq!(executor.threads(), threads.max(1));
        executor.write("x", &x).unwrap();
        executor.run("forward", &slots(SLOTS)).unwrap();
        let expected: Vec<f32> = x.iter().map(|x| (2.0 * x + x) + 2.0 * x).collect();
        assert_eq!(executor.read::<f32>("y").unwrap(), expected, "{threads} threads");
    }
}

#[test]
fn only_the_used_part_is_computed() {
    let mut executor = executor(2);
    executor.write("x", &numbers()).unwrap();
    executor.run("forward", &slots(3)).unwrap();
    let y = executor.read::<f32>("y").unwrap();
    assert!(y[..3 * WIDTH].iter().all(|&y| y != 0.0) && y[3 * WIDTH..].iter().all(|&y| y == 0.0), "{y:?}");
    executor.run("forward", &slots(0)).unwrap();
    executor.run("nothing", &slots(SLOTS)).unwrap();
    assert_eq!(
        executor.read::<f32>("y").unwrap(),
        y,
        "an empty batch and an empty entry point write nothing"
    );
}

#[test]
fn many_runs_in_a_row_work() {
    ends(|| {
        let mut executor = executor(3);
        let table: Vec<f32> = (0..4 * WIDTH).map(|index| index as f32).collect();
        executor.write("table", &table).unwrap();
        for run in 0..1000 {
            let x = vec![run as f32; SLOTS * WIDTH];
            executor.write("x", &x).unwrap();
            executor.write("tokens", &[run % 4; SLOTS]).unwrap();
            executor.run("nothing", &slots(SLOTS)).unwrap();
            executor.run("forward", &slots(SLOTS)).unwrap();
            assert_eq!(
                executor.read::<f32>("y").unwrap(),
                vec![5.0 * run as f32; SLOTS * WIDTH],
                "run {run}"
            );
            executor.run("look_up", &slots(SLOTS)).unwrap();
            let y = executor.read::<f32>("y").unwrap();
            assert_eq!(y[17], run as f32 + table[(run % 4) as usize * WIDTH + 1], "run {run}");
        }
    });
}

#[test]
fn more_than_the_bounds_is_refused() {
    let mut executor = executor(1);
    let expected = "the batch has 8 slots, the plan was compiled for at most 7";
    assert_eq!(message(executor.run("forward", &slots(SLOTS + 1))), expected);
    // The entry point has no windows, so their number says nothing.
    executor.run("forward", &Extents { windows: 99, ..slots(SLOTS) }).unwrap();
}

#[test]
fn the_smallest_bound_of_an_entry_point_counts() {
    let mut plan = plan();
    let (longer, short) =
        (TensorType::f32([Dim::slots(SLOTS), 1.into()]), TensorType::f32([Dim::slots(2), 1.into()]));
    plan.buffers[0] = Buffer::new("x", Memory::Batch, &longer, 0);
    plan.buffers[1] = Buffer::new("m", Memory::Arena, &longer, 0);
    plan.buffers[2] = Buffer::new("z", Memory::Batch, &short, 2 * BYTES);
    plan.buffers[3] = Buffer::new("y", Memory::Result, &short, BYTES);
    let double = |from, to| step("scale", Attributes::new().float("factor", 2.0), &[from], &[to]);
    plan.buffers.truncate(4);
    plan.entries.truncate(1);
    plan.entries[0].steps = vec![double(0, 1), double(2, 3)];
    let mut executor = Executor::new(plan, WeightStore::none(), 1).unwrap();
    executor.run("forward", &slots(2)).unwrap();
    let expected = "the batch has 3 slots, the plan was compiled for at most 2";
    assert_eq!(message(executor.run("forward", &slots(3))), expected);
}

#[test]
fn unknown_names_are_refused() {
    let mut executor = executor(1);
    let rest = "compile it again with `gptjc compile`";
    assert_eq!(
        message(executor.run("decode", &slots(1))),
        format!("the plan has no entry point `decode`; {rest}")
    );
    assert_eq!(message(executor.write("z", &[0f32])), format!("the plan has no buffer `z`; {rest}"));
    assert_eq!(
        message(executor.read::<f32>("m")),
        format!("the plan has no buffer `m`; {rest}"),
        "a temporary"
    );
}

#[test]
fn data_of_another_type_or_size_are_refused() {
    let mut executor = executor(1);
    let mut write = |data: &[f32]| message(executor.write("x", data));
    assert_eq!(write(&[1.0; SLOTS * WIDTH]), "");
    let expected = "buffer `x` is f32[slots:7, 16]; 113 elements of f32 do not fit";
    assert_eq!(write(&[1.0; SLOTS * WIDTH + 1]), expected);
    let expected = "buffer `x` is f32[slots:7, 16]; 2 elements of i32 do not fit";
    assert_eq!(message(executor.write("x", &[1i32, 2])), expected);
    assert!(message(executor.read::<half::bf16>("x")).starts_with("buffer `x` is f32"));
}

#[test]
fn a_plan_that_does_not_hold_is_refused() {
    let refused = |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        message(Executor::new(plan, WeightStore::none(), 1))
    };
    let error = refused(|plan| plan.buffers[2].offset = 0);
    assert!(error.starts_with("the plan contradicts itself: entry `forward`, step 1"), "{error}");
    let error = refused(|plan| plan.buffers[3].offset = 1 << 40);
    assert!(error.starts_with("the plan contradicts itself: buffer 3 `y`"), "{error}");
    let error = refused(|plan| plan.entries[0].steps[1].kernel = "add-f32-neon".to_owned());
    assert!(
        error.starts_with("entry `forward`, step 1: kernel `add-f32-neon` is not part of this gptjc"),
        "{error}"
    );
    let error = refused(|plan| plan.buffers[5].memory = Memory::Weight.into());
    assert!(error.starts_with("the plan has no buffer `table`"), "a weight without a checkpoint: {error}");
    let error = refused(|plan| {
        for buffer in [0, 1, 2, 3, 6] {
            plan.buffers[buffer].dtype =
                DType::ALL.iter().position(|&dtype| dtype == DType::Bf16).unwrap() as u32;
        }
        plan.entries.truncate(1);
    });
    let expected =
        "entry `forward`, step 0: kernel `scale-f32-portable` does not take bf16[slots:7, 16] as its operand";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_panic_of_a_kernel_ends_the_run_of_every_thread() {
    ends(|| {
        let x = numbers();
        for round in 0..200 {
            let mut executor = executor(1 + round % 4);
            executor.write("x", &x).unwrap();
            executor.write("tokens", &[0, 1, 4, 1, 0, 9, -1]).unwrap();
            let expected =
                "a kernel of entry `look_up` panicked: this is an error in gptjc, please report it";
            assert_eq!(message(executor.run("look_up", &slots(SLOTS))), expected);
            assert!(
                message(executor.run("forward", &slots(SLOTS))).contains("panicked"),
                "what it left is not used"
            );
        }
    });
}

#[test]
fn pretended_sockets_give_the_same() {
    let x = numbers();
    let run = |topology: &str, threads: usize| {
        let topology = topology.parse::<Pretended>().unwrap().topology();
        let mut executor = Executor::on(&topology, plan(), WeightStore::none(), threads).unwrap();
        executor.write("x", &x).unwrap();
        executor.run("forward", &slots(SLOTS)).unwrap();
        (executor.read::<f32>("y").unwrap(), executor.remarks())
    };
    let expected = run("1x1", 1);
    assert!(expected.1.is_empty(), "nothing is bound, so nothing is refused: {:?}", expected.1);
    for (topology, threads) in [("2x1", 2), ("3x2", 6), ("2x2", 3), ("2x1", 5)] {
        assert_eq!(run(topology, threads), expected, "{topology}");
    }
}

#[test]
fn cores_that_cannot_be_bound_to_are_a_remark() {
    let mut topology = "1x2".parse::<Pretended>().unwrap().topology();
    topology.pretended = false;
    for core in &mut topology.cores {
        core.cpu = 1000; // inside the largest mask, and not on the machines that run this
    }
    let mut executor = Executor::on(&topology, plan(), WeightStore::none(), 2).unwrap();
    let remarks = executor.remarks();
    assert!(remarks.len() == 1 && remarks[0].starts_with("threads are not bound to cores: "), "{remarks:?}");
    executor.run("forward", &slots(SLOTS)).unwrap();
}

#[test]
fn the_caller_is_bound_while_it_runs_only() {
    let before = crate::topology::allowed();
    let mut executor = executor(Topology::host().threads());
    executor.run("forward", &slots(SLOTS)).unwrap();
    assert_eq!(crate::topology::allowed(), before);
}

#[test]
fn a_raised_stop_flag_ends_runs_until_it_is_taken_back() {
    ends(|| {
        for threads in [1, 3] {
            let mut executor = executor(threads);
            executor.write("x", &numbers()).unwrap();
            let flag = executor.stop_flag();
            flag.store(true, Ordering::Release);
            assert_eq!(message(executor.run("forward", &slots(SLOTS))), "entry `forward` was stopped");
            flag.store(false, Ordering::Release);
            executor.run("forward", &slots(SLOTS)).unwrap();
            // Raised at any time: the run is either whole or says that it was stopped.
            let expected = executor.read::<f32>("y").unwrap();
            let mut stopped = 0;
            for round in 0..300 {
                executor.write("y", &vec![0f32; SLOTS * WIDTH]).unwrap();
                flag.store(false, Ordering::Release);
                let raise = Arc::clone(&flag);
                let thread = std::thread::spawn(move || {
                    (0..round * 10).for_each(|_| std::hint::spin_loop());
                    raise.store(true, Ordering::Release);
                });
                match executor.run("forward", &slots(SLOTS)) {
                    Ok(()) => assert_eq!(executor.read::<f32>("y").unwrap(), expected),
                    Err(ExecutorError::Stopped(_)) => stopped += 1,
                    Err(other) => panic!("{other}"),
                }
                thread.join().unwrap();
            }
            println!("{stopped} of 300 runs were stopped with {threads} threads");
        }
    });
}

#[test]
fn steps_are_timed_if_asked_for() {
    let mut executor = executor(2);
    executor.run("forward", &slots(SLOTS)).unwrap();
    assert!(executor.timings().is_empty());
    executor.record(true);
    for (entry, name, steps) in [(0, "forward", 3), (1, "look_up", 3), (2, "nothing", 0)] {
        executor.run(name, &slots(SLOTS)).unwrap();
        let timings = executor.timings();
        assert_eq!(timings.len(), steps);
        for (index, timing) in timings.iter().enumerate() {
            assert_eq!((timing.entry, timing.step, timing.stall_ns), (entry, index, 0));
            assert!(timing.start_ns <= timing.end_ns);
            assert!(index == 0 || timings[index - 1].end_ns <= timing.start_ns);
        }
    }
    executor.record(false);
    executor.run("forward", &slots(SLOTS)).unwrap();
    assert!(executor.timings().is_empty());
}

#[test]
fn the_parts_of_a_run_are_the_run() {
    for threads in [1, 2] {
        let mut executor = executor(threads);
        executor.write("x", &numbers()).unwrap();
        executor.run("forward", &slots(SLOTS)).unwrap();
        let expected = executor.read::<f32>("y").unwrap();
        let nothing = vec![0f32; SLOTS * WIDTH];
        executor.write("y", &nothing).unwrap();
        // A flag that is raised ends whole runs only.
        executor.stop_flag().store(true, Ordering::Release);
        for end in [0, 1, 2] {
            executor.run_until("forward", &slots(SLOTS), end).unwrap();
            assert_eq!(executor.read::<f32>("y").unwrap(), nothing, "the last step is still to come");
        }
        executor.run_until("forward", &slots(SLOTS), usize::MAX).unwrap();
        assert_eq!(executor.read::<f32>("y").unwrap(), expected, "{threads} threads");
        // A run that is whole does not go on: the next call begins a new one, as after another entry point.
        executor.write("y", &nothing).unwrap();
        executor.run_until("forward", &slots(SLOTS), 2).unwrap();
        executor.run_until("nothing", &slots(SLOTS), usize::MAX).unwrap();
        executor.run_until("forward", &slots(SLOTS), 2).unwrap();
        assert_eq!(executor.read::<f32>("y").unwrap(), nothing);
        executor.run_until("forward", &slots(SLOTS), usize::MAX).unwrap();
        assert_eq!(executor.read::<f32>("y").unwrap(), expected);
    }
}

#[test]
fn numbers_that_are_none_are_found_in_what_is_in_use() {
    let mut executor = executor(2);
    let mut x = numbers();
    x[3 * WIDTH + 2] = f32::INFINITY;
    executor.write("x", &x).unwrap();
    executor.run_until("forward", &slots(SLOTS), 1).unwrap();
    let found = NotFinite { index: vec![3, 2], extent: gptjc_graphs::shape::Extent::Slots };
    assert_eq!(executor.first_not_finite(1, &slots(SLOTS)), Some(found.clone()), "a temporary");
    assert_eq!(executor.first_not_finite(0, &slots(SLOTS)), Some(found), "a batch");
    assert_eq!(executor.first_not_finite(0, &slots(3)), None, "three slots are in use");
    assert_eq!(executor.first_not_finite(4, &slots(SLOTS)), None, "integers");
    assert_eq!(executor.first_not_finite(99, &slots(SLOTS)), None);
}
