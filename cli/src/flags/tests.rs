//! Command lines: what parses to what, and the pages of help.

use super::*;
use crate::argv::normalise;
use crate::settings::{defaults, overlay};
use clap::CommandFactory;
use gptjc_graphs::models::gptj::config;
use gptjc_graphs::plan::{CompileOptions, Packing, Precision, Target};
use gptjc_runtime::train::{Cadence, SchedulerKind};
use std::ffi::OsString;

/// The command of the reference workflow, with a local path for the model.
const REFERENCE: &str = "--model_name_or_path DIR --bf16 True --dataset_name glue --dataset_config_name mnli \
    --dataset_concatenation --config_name ./config.json --per_device_train_batch_size 8 \
    --per_device_eval_batch_size 8 --gradient_accumulation_steps 1 --do_train --do_eval \
    --learning_rate 3.3113761e-4 --num_train_epochs 3 --logging_steps 100 --save_total_limit 2 \
    --overwrite_output_dir --log_level info --save_strategy epoch --output_dir ./gptj_peft_finetuned_model \
    --peft lora --lora_alpha 54 --lora_target_modules q_proj,v_proj,k_proj,out_proj --use_fast_tokenizer false \
    --use_cpu --task completion --max_train_samples 5000 --max_eval_samples 500";

fn parse(line: &str) -> Result<Cli, String> {
    let words = ["gptjc"].into_iter().chain(line.split_whitespace()).map(OsString::from);
    Cli::try_parse_from(normalise(words).arguments).map_err(|error| error.to_string())
}

fn job(line: &str) -> JobFlags {
    match parse(&format!("finetune --model DIR --output-dir out {line}")).unwrap().command {
        Command::Finetune(command) => command.job,
        other => panic!("{other:?}"),
    }
}

const CONFIG: &str = r#"{"model_type": "gptj", "n_layer": 1, "n_embd": 64, "n_head": 4, "rotary_dim": 8,
    "vocab_size": 512, "n_positions": 2048}"#;

fn options(line: &str) -> Result<CompileOptions, String> {
    let mut options = defaults(config::parse(CONFIG).unwrap(), Target::default(), None);
    overlay(&job(line).compile, &mut options).map_err(|error| error.to_string())?;
    Ok(options)
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_reference_command_parses() {
    let cli = parse(&format!("finetune {REFERENCE}")).unwrap();
    assert_eq!(cli.log_level, LogLevel::Info);
    let Command::Finetune(command) = cli.command else { panic!("{:?}", cli.command) };
    let job = command.job;
    assert_eq!(job.compile.model.model.as_deref(), Some("DIR".as_ref()));
    assert_eq!(job.compile.model.bf16, Some(true));
    assert_eq!(job.compile.model.config_name.as_deref(), Some("./config.json".as_ref()));
    assert_eq!(job.compile.window.dataset_concatenation, Some(true));
    assert_eq!(job.compile.window.per_device_train_batch_size, Some(8));
    assert_eq!(job.compile.window.gradient_accumulation_steps, Some(1));
    assert_eq!(job.compile.lora.lora_alpha, Some(54.0));
    let targets = ["q_proj,v_proj,k_proj,out_proj".to_owned()];
    assert_eq!(job.compile.lora.lora_target_modules.as_deref(), Some(targets.as_slice()));
    assert_eq!(job.data.dataset_name.as_deref(), Some("glue"));
    assert_eq!(job.data.dataset_config_name.as_deref(), Some("mnli"));
    assert_eq!((job.data.max_train_samples, job.data.max_eval_samples), (Some(5000), Some(500)));
    assert_eq!((job.run.learning_rate, job.run.num_train_epochs), (3.3113761e-4, Some(3.0)));
    assert_eq!((job.logging.logging_steps, job.run.do_eval), (100, Some(true)));
    assert!(job.output.overwrite_output_dir);
    assert_eq!(job.output.output_dir, PathBuf::from("./gptj_peft_finetuned_model"));
    let verdicts = job.reference.verdicts().unwrap();
    let said = |texts: &[String], flag: &str| texts.iter().any(|text| text.starts_with(flag));
    for flag in ["--do-train", "--peft", "--task", "--use-cpu", "--use-fast-tokenizer"] {
        assert!(said(&verdicts.notes, flag), "{flag}: {verdicts:?}");
    }
    assert!(verdicts.warnings.is_empty(), "{verdicts:?}");
    assert_eq!((job.checkpoint.cadence(), job.checkpoint.save_total_limit), (Cadence::Epochs, Some(2)));
}

#[test]
fn dashes_and_underscores_are_the_same() {
    let dashes: Vec<String> = REFERENCE
        .split_whitespace()
        .map(|word| if word.starts_with("--") { word.replace('_', "-") } else { word.to_owned() })
        .collect();
    let (one, other) =
        (parse(&format!("finetune {REFERENCE}")), parse(&format!("finetune {}", dashes.join(" "))));
    assert_eq!(format!("{:?}", one.unwrap()), format!("{:?}", other.unwrap()));
}

#[test]
fn the_shell_script_of_the_workflow_means_the_same() {
    let script = REFERENCE.replace("q_proj,v_proj,k_proj,out_proj", "q_proj v_proj k_proj out_proj");
    let options = |line: &str| match parse(&format!("finetune {line}")).unwrap().command {
        Command::Finetune(command) => {
            let mut options = defaults(config::parse(CONFIG).unwrap(), Target::default(), None);
            overlay(&command.job.compile, &mut options).unwrap();
            options
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(options(&script), options(REFERENCE));
}

#[test]
fn the_readmes_typo_is_read_as_what_was_meant() {
    assert_eq!(job("--dataset_config_name, mnli").data.dataset_config_name.as_deref(), Some("mnli"));
}

#[test]
fn defaults_are_those_of_the_reference_workflow() {
    let flags = job("");
    let run = &flags.run;
    assert_eq!((run.learning_rate, run.weight_decay, run.max_grad_norm), (5e-5, 0.0, 1.0));
    assert_eq!((run.adam_beta1, run.adam_beta2, run.adam_epsilon), (0.9, 0.999, 1e-8));
    assert_eq!((run.warmup_steps, run.max_steps, run.seed, flags.logging.logging_steps), (0, -1, 42, 500));
    assert_eq!((run.lr_scheduler_type, run.warmup_ratio), (SchedulerKind::Linear, 0.0));
    assert!(!flags.output.overwrite_output_dir && !flags.data.train_on_inputs);
    let options = options("").unwrap();
    let lora = options.lora.as_ref().unwrap();
    assert_eq!((lora.rank, lora.alpha, lora.dropout, lora.use_rslora), (8, 16.0, 0.05, false));
    assert_eq!(lora.targets, ["q_proj", "v_proj"]);
    assert_eq!((options.precision(), options.packing()), (Precision::Bf16, Packing::Concat));
    assert_eq!(
        (options.max_seq_length, options.per_device_train_batch_size, options.step_windows),
        (512, 8, 8)
    );
    assert_eq!((options.micro_batch, options.memory_budget), (0, 0));
}

#[test]
fn flags_become_options() {
    let lora = |line: &str| options(line).unwrap().lora.unwrap();
    assert_eq!(lora("--lora_target_modules q_proj v_proj k_proj").targets, ["q_proj", "k_proj", "v_proj"]);
    assert_eq!(lora("--lora_target_modules v_proj, q_proj --seed 1").targets, ["q_proj", "v_proj"]);
    assert_eq!(lora("--lora_target_modules .*_proj").described(" "), "q_proj k_proj v_proj out_proj");
    assert_eq!(lora("--lora_layers 0 --lora_target_modules all-linear").targets.len(), 6);
    assert_eq!(lora("--lora-r 4").rank, 4);
    assert!(lora("--use_rslora").use_rslora);
    assert_eq!(options("--trainable all").unwrap().lora, None);
    assert_eq!(options("--bf16 False").unwrap().precision(), Precision::F32);
    assert_eq!(options("--bf16").unwrap().precision(), Precision::Bf16);
    assert_eq!(options("--precision f32").unwrap().precision(), Precision::F32);
    assert_eq!(options("--dataset_concatenation").unwrap().packing(), Packing::Concat);
    assert_eq!(options("--dataset_concatenation False").unwrap().packing(), Packing::Pad);
    assert_eq!(options("--packing segments").unwrap().packing(), Packing::Segments);
    assert_eq!(options("--memory_budget 8GiB").unwrap().memory_budget, 8 << 30);
    let step = options("--per_device_train_batch_size 4 --gradient_accumulation_steps 3").unwrap();
    assert_eq!((step.per_device_train_batch_size, step.step_windows), (4, 12));
    let step = options("--global_batch_size 20").unwrap();
    assert_eq!((step.per_device_train_batch_size, step.step_windows), (8, 20));
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let cases = [
        ("--bf16 True --precision f32", "--precision f32 contradicts --bf16 True"),
        ("--dataset_concatenation --packing pad", "--packing pad contradicts --dataset-concatenation True"),
        ("--trainable all --lora-rank 8", "--lora-rank contradicts --trainable all"),
    ];
    for (line, message) in cases {
        assert_eq!(options(line).unwrap_err(), message, "{line}");
    }
}

#[test]
fn what_is_no_value_is_refused() {
    let cases = [
        ("--bf16 maybe", "expected True or False"),
        ("--lora-rank 0", "expected a number from 1 to"),
        ("--lora-dropout 1", "expected a number of at least 0 and below 1"),
        ("--learning-rate -1", "unexpected argument '-1'"),
        ("--max-steps 0", "expected at least 1 step, or -1"),
        ("--memory-budget 8XB", "expected bytes, or a number with KiB"),
        ("--precision fp8", "[possible values: bf16, f32]"),
        ("--train-tokens a --train-file b", "cannot be used with"),
        ("--loraalpha 3", "unexpected argument '--loraalpha'"),
    ];
    for (line, message) in cases {
        let error = parse(&format!("finetune --model DIR --output-dir out {line}")).unwrap_err();
        assert!(error.contains(message), "{line}: {error}");
    }
}

/// The help of a command, as on a terminal of 110 columns.
fn help(command: &str) -> String {
    let mut cli = help::command().term_width(110);
    cli.build();
    let command = if command.is_empty() { Some(&mut cli) } else { cli.find_subcommand_mut(command) };
    command.unwrap().render_help().to_string()
}

#[test]
fn help_pages() {
    for command in [
        "",
        "compile",
        "train",
        "finetune",
        "data",
        "inspect",
        "validate",
        "generate",
        "synth",
        "synth-data",
        "bench",
        "doctor",
    ] {
        let name = if command.is_empty() { "gptjc" } else { command };
        insta::assert_snapshot!(format!("help_{name}"), help(command));
    }
}
