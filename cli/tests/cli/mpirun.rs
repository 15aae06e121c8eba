//! Runs of several processes under mpirun. Each is small; the machine may have fewer cores than they have ranks.

use crate::case::Case;
use crate::tiny_model::{TinyModel, office_row};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GPTJC: &str = env!("CARGO_BIN_EXE_gptjc");
const FLAGS: [(&str, &str); 6] = [
    ("--lora-dropout", "0.1"),
    ("--precision", "f32"),
    ("--micro-batch", "1"),
    ("--logging-steps", "1"),
    ("--threads", "1"),
    ("--global-batch-size", "6"),
];

impl Case {
    /// A run of one process.
    fn unlaunched(&self, out: &str, more: &str) -> Command {
        let mut command = Command::new(GPTJC);
        command.args(self.words(&FLAGS, out, more)).current_dir(self.root.path());
        command
    }

    /// A run of so many ranks.
    fn mpirun(&self, ranks: usize, out: &str, more: &str) -> Command {
        let mut command = mpirun();
        command.args(["-n", &ranks.to_string(), GPTJC]).args(self.words(&FLAGS, out, more));
        command.current_dir(self.root.path());
        command
    }
}

fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none"]);
    // Tests may be run as root in a container; Open MPI wants to be told twice.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command
}

#[track_caller]
fn ok(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn ranks_write_the_bytes_of_one_process_and_go_on_with_others() {
    let case = Case::new();
    ok(case.unlaunched("alone", "").output().unwrap());
    let out = ok(case.mpirun(2, "two", "--save-strategy steps --save-steps 2").output().unwrap());
    assert!(out.contains("2 ranks, 2 of them on") && out.contains("rank 0 sent"), "{out}");
    assert_eq!(out.matches("trainable params").count(), 1, "one rank shows: {out}");
    assert!(case.adapter("two") == case.adapter("alone"));
    let from = case.out("two").join("checkpoint-2");
    let more = format!("--resume-from-checkpoint {}", from.display());
    ok(case.mpirun(3, "three", &more).output().unwrap());
    assert!(case.adapter("three") == case.adapter("alone"));
}

#[test]
fn a_rank_that_is_killed_ends_the_run_and_the_next_one_goes_on() {
    let case = Case::new();
    const EPOCHS: &str = "--num-train-epochs 40";
    ok(case.unlaunched("alone", EPOCHS).output().unwrap());
    let more = &format!("{EPOCHS} --rolling-checkpoint-minutes 0.000001");
    let mut child =
        case.mpirun(3, "out", more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // When the third step is logged, the checkpoint of the second is there.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().filter(|line| line.contains("loss")).nth(2).is_some());
    let killed = Command::new("pkill").args(["-9", "-n", "-P", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    lines.for_each(drop);
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success());
    let message = String::from_utf8_lossy(&ended.stderr);
    assert!(message.contains("rank 2") && message.contains("signal 9"), "{message}");
    ok(case.mpirun(2, "out", &format!("{EPOCHS} --resume-from-checkpoint")).output().unwrap());
    assert!(case.adapter("out") == case.adapter("alone"));
}

#[test]
fn a_rank_with_another_model_or_a_broken_one_is_named() {
    let case = Case::new();
    let other = case.model("model", |bytes| bytes[0] ^= 1);
    let mixed = |out: &str| {
        let mut command = mpirun();
        command.args(["-n", "1", GPTJC]).args(case.words(&FLAGS, out, ""));
        let with_other = case.words(&FLAGS, out, &format!("--model {}", other.display()));
        command.args([":", "-n", "1", GPTJC]).args(with_other).current_dir(case.root.path());
        command.output().unwrap()
    };
    let message = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
        text
    };
    let text = message(mixed("out"));
    assert!(
        text.contains("on rank 0 of 2") && text.contains("rank 1 would not do what rank 0 does"),
        "{text}"
    );
    assert!(text.contains("the model: it has other weights"), "{text}");
    fs::remove_file(other.join("model.safetensors")).unwrap();
    let text = message(mixed("out2"));
    assert!(text.contains("on rank 1 of 2: error: cannot load the model"), "{text}");
    assert!(!case.out("out").join("adapter_model.safetensors").exists());
}

/// What is measured of the tiny model that is trained by `launcher`, which is given gptjc and its words.
fn measured(mut launcher: Command, tiny: &TinyModel, rows: usize, out: &Path) -> Vec<Value> {
    let data = tiny.path("rows.jsonl");
    fs::write(&data, (0..rows).map(office_row).collect::<String>()).unwrap();
    let (model, data, out_dir) = (tiny.model(), data.display().to_string(), out.display().to_string());
    launcher.args(["train", "--model", &model.display().to_string(), "--train-file", &data]);
    launcher.args([
        "--validation-file",
        &data,
        "--output-dir",
        &out_dir,
        "--eval-metrics",
        "loss,score,generate",
    ]);
    launcher.args(
        "--eval-strategy steps --eval-steps 1 --max-steps 2 --precision f32 --packing pad --max-seq-length 48 \
         --global-batch-size 2 --threads 1"
            .split_whitespace(),
    );
    ok(launcher.output().unwrap());
    let state: Value = serde_json::from_slice(&fs::read(out.join("trainer_state.json")).unwrap()).unwrap();
    let log = state["log_history"].as_array().unwrap().iter().filter(|entry| entry["eval_loss"].is_number());
    let timeless = |entry: &Value| {
        let mut entry = entry.as_object().unwrap().clone();
        entry.retain(|name, _| !name.contains("runtime") && !name.contains("per_second"));
        Value::from(entry)
    };
    log.map(timeless).collect()
}

#[test]
fn ranks_measure_what_one_process_does_even_if_there_are_fewer_rows() {
    let tiny = TinyModel::new();
    for rows in [2, 7] {
        let alone = measured(Command::new(GPTJC), &tiny, rows, &tiny.path(&format!("alone-{rows}")));
        assert!(alone.len() == 2 && alone[0]["eval_generated_accuracy"].is_number(), "{alone:?}");
        let mut launcher = mpirun();
        launcher.args(["-n", "3", GPTJC]);
        let together = measured(launcher, &tiny, rows, &tiny.path(&format!("together-{rows}")));
        assert_eq!(together, alone);
    }
}

#[test]
fn a_command_line_that_cannot_be_read_is_refused_once() {
    let output = mpirun().args(["-n", "3", GPTJC, "train", "--no-such"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(2), 1), "{text}");
}

#[test]
fn a_rank_that_hangs_is_named() {
    let case = Case::new();
    let more = "--rank-timeout 5 --num-train-epochs 2000";
    let mut child =
        case.mpirun(2, "out", more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("loss")));
    let stop = Command::new("pkill").args(["-STOP", "-n", "-P", &child.id().to_string()]).status().unwrap();
    assert!(stop.success());
    lines.for_each(drop);
    let ended = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && text.contains("rank 1 has not answered for 5 s"), "{text}");
}
