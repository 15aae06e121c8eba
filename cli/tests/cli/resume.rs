//! Runs that are stopped and go on: by kill -9, by a signal, by a disk that is full; and what is refused.

use crate::case::Case;
use crate::common::{Run, edit_tensor, golden, gptjc_in};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a run that hangs, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Exit code of a run that a signal stopped.
const STOPPED: i32 = 75;

/// The case `accumulate`: six windows an optimizer step, here one a micro-batch; 16 steps; dropout.
const FLAGS: [(&str, &str); 7] = [
    ("--lora-dropout", "0.1"),
    ("--precision", "f32"),
    ("--gradient-accumulation-steps", "3"),
    ("--micro-batch", "1"),
    ("--num-train-epochs", "2"),
    ("--logging-steps", "1"),
    ("--threads", "1"),
];
/// A checkpoint after every micro-batch.
const ALWAYS: &str = "--rolling-checkpoint-minutes 0.000001";

impl Case {
    /// The flags of the case, but for those that `more` has.
    fn arguments(&self, out: &str, more: &str) -> Vec<String> {
        self.words(&FLAGS, out, more)
    }

    fn run(&self, out: &str, more: &str) -> Run {
        gptjc_in(self.root.path(), &self.arguments(out, more))
    }

    fn start(&self, out: &str, more: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_gptjc"))
            .args(self.arguments(out, more))
            .current_dir(self.root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The adapter's bytes and the log of the steps.
    fn result(&self, out: &str) -> (Vec<u8>, Vec<Value>) {
        let state = json(&self.out(out).join("trainer_state.json"));
        let log = state["log_history"].as_array().unwrap().clone();
        let steps = log.into_iter().filter(|entry| entry.get("loss").is_some()).collect();
        (self.adapter(out), steps)
    }

    #[track_caller]
    fn assert_same(&self, out: &str, other: &str) {
        let (found, expected) = (self.result(out), self.result(other));
        assert!(found.0 == expected.0, "{out}: other adapter bytes");
        assert_eq!(found.1, expected.1, "{out}: another log");
    }

    /// Step and windows of the next one of the checkpoint `name`.
    fn position(&self, out: &str, name: &str) -> Option<(u64, u64)> {
        let text = fs::read(self.out(out).join(name).join("training_state.json")).ok()?;
        let state: Value = serde_json::from_slice(&text).ok()?;
        Some((state["global_step"].as_u64()?, state["windows_done"].as_u64()?))
    }

    fn names(&self, out: &str) -> Vec<String> {
        let entries = fs::read_dir(self.out(out)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn checkpoints(&self, out: &str) -> Vec<String> {
        let mut names = self.names(out);
        names.retain(|name| name.starts_with("checkpoint-"));
        names
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits until `ready` or until the process ends.
fn wait_until(child: &mut Child, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the run hangs");
        sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_run_that_is_killed_goes_on_as_if_nothing_had_been() {
    let case = Case::new();
    case.run("whole", "--save-strategy no").ok();
    assert_eq!(
        case.checkpoints("whole"),
        [""; 0],
        "without a strategy there is no checkpoint when all is done"
    );
    let mut inside = 0;
    for (index, target) in [(0, 2), (1, 5), (3, 0), (7, 3), (11, 1)].into_iter().enumerate() {
        let out = format!("killed-{index}");
        let mut child = case.start(&out, &format!("--save-strategy no {ALWAYS}"));
        wait_until(&mut child, || case.position(&out, "checkpoint-rolling") >= Some(target));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "the run was over before it was killed");
        let position = case.position(&out, "checkpoint-rolling").unwrap();
        inside += usize::from(position.1 > 0);
        let run =
            case.run(&out, "--save-strategy no --resume-from-checkpoint --micro-batch 4 --threads 2").ok();
        assert!(run.out.contains("resumed"), "{}", run.out);
        case.assert_same(&out, "whole");
        assert!(
            case.names(&out).iter().all(|name| !name.starts_with('.')),
            "left over: {:?}",
            case.names(&out)
        );
    }
    assert!(inside > 0, "no kill came inside a step");
}

#[test]
fn a_signal_stops_at_the_next_plan_step_and_a_resumed_run_ends_the_same() {
    let case = Case::new();
    let long = "--num-train-epochs 20 --save-strategy no";
    for name in ["TERM", "INT"] {
        let mut child = case.start(name, long);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("step 3/160")), "no step is done");
        signal(&child, name);
        lines.for_each(drop);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(STOPPED), "{said}");
        assert!(said.contains("--resume-from-checkpoint"), "{said}");
        assert_eq!(case.checkpoints(name), ["checkpoint-rolling"]);
        assert!(!case.out(name).join("adapter_model.safetensors").exists());
    }
    case.run("whole", long).ok();
    case.run("TERM", &format!("{long} --resume-from-checkpoint True")).ok();
    case.assert_same("TERM", "whole");
    assert_eq!(case.checkpoints("TERM"), [""; 0], "the rolling checkpoint goes when the result is there");
    let from = case.out("INT").join("checkpoint-rolling");
    case.run("elsewhere", &format!("{long} --resume-from-checkpoint {}", from.display())).ok();
    case.assert_same("elsewhere", "whole");
}

#[test]
fn the_newest_checkpoints_stay() {
    let case = Case::new();
    case.run("all", "--save-steps 6").ok();
    assert_eq!(case.checkpoints("all"), ["checkpoint-12", "checkpoint-16", "checkpoint-6"]);
    case.run("two", "--save-strategy epoch --save-total-limit 1").ok();
    assert_eq!(case.checkpoints("two"), ["checkpoint-16"]);
    let expected = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer_state.json",
        "training_state.json",
    ];
    assert_eq!(case.names("two/checkpoint-16"), expected);
    // The last checkpoint is the result.
    let adapter = |path: &str| fs::read(case.out(path).join("adapter_model.safetensors")).unwrap();
    assert!(adapter("two/checkpoint-16") == adapter("two"));
    // From any of them the rest is the same.
    let from = case.out("all").join("checkpoint-6");
    case.run("rest", &format!("--save-strategy no --resume-from-checkpoint {}", from.display())).ok();
    case.assert_same("rest", "two");
}

#[test]
fn a_checkpoint_that_has_no_room_leaves_those_before() {
    let case = Case::new();
    case.run("out", "--save-steps 6").ok();
    for name in ["checkpoint-12", "checkpoint-16"] {
        fs::remove_dir_all(case.out("out").join(name)).unwrap();
    }
    let adapter = fs::read(case.out("out").join("adapter_model.safetensors")).unwrap();
    // 512-byte blocks: the adapter fits, the moments do not. Without the trap the process would be killed.
    let script = "trap '' XFSZ; ulimit -f 90; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_gptjc")])
        .args(case.arguments("out", "--save-steps 6 --resume-from-checkpoint"))
        .current_dir(case.root.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "cannot write the checkpoint `out/checkpoint-12` of",
        "optimizer.safetensors`: File too large",
        "resumed",
    ] {
        assert!(said.contains(part), "expected `{part}` in: {said}");
    }
    assert_eq!(case.checkpoints("out"), ["checkpoint-6"]);
    assert!(
        case.names("out").iter().all(|name| !name.starts_with('.')),
        "left over: {:?}",
        case.names("out")
    );
    assert!(
        fs::read(case.out("out").join("adapter_model.safetensors")).unwrap() == adapter,
        "the old result stays"
    );
    case.run("out", "--save-steps 6 --resume-from-checkpoint").ok();
    assert!(fs::read(case.out("out").join("adapter_model.safetensors")).unwrap() == adapter);
}

#[test]
fn one_run_writes_into_a_directory() {
    let case = Case::new();
    fs::create_dir(case.out("out")).unwrap();
    let file = fs::File::create(case.out("out").join(".gptjc-lock")).unwrap();
    fs::write(case.out("out").join(".gptjc-lock"), "4711\n").unwrap();
    file.lock().unwrap();
    let message = case.run("out", "").error();
    assert!(message.contains("process 4711 is writing into `out`"), "{message}");
    drop(file);
    // Whoever had the lock was killed: its file says nothing.
    case.run("out", "--max-steps 1").ok();
}

#[test]
fn what_does_not_belong_to_the_run_is_refused() {
    let case = Case::new();
    case.run("out", "--save-steps 4 --save-total-limit 1").ok();
    let refused = |more: &str, parts: &[&str]| {
        let message = case.run("out", &format!("--save-steps 4 --resume-from-checkpoint {more}")).error();
        for part in parts {
            assert!(message.contains(part), "{more}: expected `{part}` in: {message}");
        }
    };
    refused("--seed 7", &["belongs to another run", "--seed: given 7, the checkpoint has 42"]);
    refused(
        "--learning-rate 1 --lora-dropout 0",
        &[
            "--learning-rate: given 1, the checkpoint has 0.00005",
            "--lora-dropout: given 0, the checkpoint has 0.1",
        ],
    );
    refused(
        "--gradient-accumulation-steps 2",
        &["windows of an optimizer step", "given 4, the checkpoint has 6"],
    );
    refused("--max-steps 15", &["optimizer steps", "given 15, the checkpoint has 16"]);
    let tokens = case.out("other.safetensors");
    // The lowest bit of the last token, and of the last element of a weight.
    edit_tensor(&golden("accumulate/batches.safetensors"), &tokens, "input_ids", |ids| {
        *ids.iter_mut().nth_back(7).unwrap() ^= 1
    });
    refused(&format!("--train-tokens {}", tokens.display()), &["the data: these are other windows"]);
    let model = case.model("other", |weight| *weight.iter_mut().nth_back(3).unwrap() ^= 1);
    refused(&format!("--model {}", model.display()), &["the model: it has other weights"]);
    case.run(
        "out",
        "--save-steps 4 --resume-from-checkpoint --micro-batch 2 --threads 2 --memory-budget 1GiB",
    )
    .ok();
}

#[test]
fn files_that_are_none_of_a_checkpoint_are_refused() {
    let case = Case::new();
    case.run("out", "--save-steps 8").ok();
    let newest = case.out("out/checkpoint-16");
    let refused = |from: &Path, parts: &[&str]| {
        let run = case.run("new", &format!("--resume-from-checkpoint {}", from.display()));
        let message = run.error();
        for part in parts {
            assert!(message.contains(part), "expected `{part}` in: {message}");
        }
    };
    let moments = newest.join("optimizer.safetensors");
    let whole = fs::read(&moments).unwrap();
    fs::write(&moments, &whole[..whole.len() - 10]).unwrap();
    let lengths = [format!("expected {} bytes", whole.len()), format!("found {} bytes", whole.len() - 10)];
    refused(&newest, &["optimizer.safetensors` is not what was written", &lengths[0], &lengths[1]]);
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&moments, &changed).unwrap();
    refused(&newest, &["optimizer.safetensors` is not what was written: expected checksum"]);
    // The newest that is whole is the one before.
    let run = case.run("out", "--save-steps 8 --resume-from-checkpoint").ok();
    assert!(run.err.contains("passed over") && run.out.contains("resumed from out/checkpoint-8"), "{run:?}");
    fs::write(&moments, &whole).unwrap();
    fs::write(newest.join("training_state.json"), "{\"format\": 1}").unwrap();
    refused(&newest, &["training_state.json` is damaged", "missing field"]);
    fs::write(newest.join("training_state.json"), "{\"format\": 99}").unwrap();
    refused(&newest, &["has format 99, this gptjc reads format 1"]);
    fs::remove_file(newest.join("training_state.json")).unwrap();
    refused(&newest, &["is no checkpoint of gptjc", "expected training_state.json"]);
    fs::write(newest.join("optimizer.pt"), "").unwrap();
    refused(&newest, &["is a checkpoint of transformers", "--adapter"]);
    refused(&case.out("none"), &["there is no checkpoint in", "none`"]);
    let message = case.run("empty", "--resume-from-checkpoint").error();
    assert!(message.contains("there is no checkpoint in `empty`"), "{message}");
}

#[test]
#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "the portable kernels are the only ones: there is one rounding class"
)]
fn kernels_that_round_otherwise_are_refused_unless_asked_for() {
    let case = Case::new();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compiler/targets/avx2-2c.toml");
    let text = fs::read_to_string(target).unwrap().replace("\"avx2\"", "\"portable\"");
    assert!(text.contains("\"portable\""), "{text}");
    fs::write(case.out("portable.toml"), text).unwrap();
    case.run("out", "--save-strategy epoch --target portable.toml").ok();
    fs::remove_dir_all(case.out("out/checkpoint-16")).unwrap();
    let message = case.run("out", "--resume-from-checkpoint").error();
    for part in ["rounding class `portable`, this plan's are of `", "--resume-on-other-isa"] {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
    let run = case.run("out", "--resume-from-checkpoint --resume-on-other-isa").ok();
    assert!(run.err.contains("`portable` before: the low bits are not those"), "{}", run.err);
}

#[test]
fn a_step_without_a_finite_loss_ends_the_run_and_is_not_saved() {
    let case = Case::new();
    let refused = |out: &str, more: &str, parts: &[&str]| {
        let message = case.run(out, more).error();
        for part in parts {
            assert!(message.contains(part), "{more}: expected `{part}` in: {message}");
        }
        assert!(!case.out(out).join("adapter_model.safetensors").exists());
    };
    let model = case.model("infinite", |weight| {
        let end = weight.len();
        weight[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    let parts = [
        "optimizer step 1: the loss is ",
        "the first tensor that went wrong is weight `transformer.h.1.mlp.fc_in.weight` (element 16383), in window 0 ",
        "(of this step's windows 0, 1, 2, 3, 4, 5, counted from 0 in the data)",
    ];
    refused("weight", &format!("--model {} --save-steps 1", model.display()), &parts);
    assert_eq!(case.checkpoints("weight"), [""; 0]);
    // A rate at which the second step has no finite loss; the first one's checkpoint stays.
    let rate = "--learning-rate 1e20 --save-steps 1 --lora-dropout 0";
    let parts = ["optimizer step 2: the loss is ", "went wrong is result ", "transformer.h.0.", "window"];
    refused("rate", rate, &parts);
    assert_eq!(case.checkpoints("rate"), ["checkpoint-1"]);
    refused("rate", &format!("{rate} --resume-from-checkpoint"), &parts);
    // One at which the first update overflows.
    let parts = ["after optimizer step 1, parameter `", "is not finite", "lower the learning rate"];
    refused("update", "--learning-rate 1e38 --save-steps 1", &parts);
    assert_eq!(case.checkpoints("update"), [""; 0]);
}
