//! The table of the reference workflow's flags in docs/flags.md is made of the code; here it is held against it.
//!
//! `GPTJC_BLESS=1 cargo test -p gptjc readme` writes the table anew.

use super::{Answer, Row, Values, rows};
use crate::flags::Cli;
use clap::{Arg, CommandFactory};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const BEGIN: &str = "<!-- reference flags: begin (GPTJC_BLESS=1 cargo test -p gptjc readme) -->\n";
const END: &str = "<!-- reference flags: end -->\n";

/// Fields of the classes that `finetune_clm.py` of Intel Extension for Transformers parses, but for those of
/// transformers: ModelArguments, DataArguments, FinetuningArguments.
const FINETUNE_CLM: &str = "model_name_or_path config_name tokenizer_name cache_dir use_fast_tokenizer model_revision \
    use_auth_token trust_remote_code dataset_name dataset_config_name train_file validation_file max_seq_length \
    validation_split_percentage overwrite_cache pad_to_max_length max_train_samples max_eval_samples keep_in_memory \
    dataset_seed dataset_cache_directory dataset_concatenation special_tokens max_source_length max_target_length \
    num_beams eval_dataset_size streaming preprocessing_num_workers lora_rank lora_alpha lora_dropout \
    lora_target_modules adapter_layers adapter_len num_virtual_tokens ptun_hidden_size peft train_on_inputs device \
    lora_all_linear task do_lm_eval lm_eval_tasks qlora double_quant quant_type bits";

/// Fields of TrainingArguments in transformers 4.34.1 and in 4.57.6.
const TRAINING_ARGUMENTS: &str = "output_dir overwrite_output_dir do_train do_eval do_predict eval_strategy \
    evaluation_strategy prediction_loss_only per_device_train_batch_size per_device_eval_batch_size \
    per_gpu_train_batch_size per_gpu_eval_batch_size gradient_accumulation_steps eval_accumulation_steps eval_delay \
    torch_empty_cache_steps learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm \
    num_train_epochs max_steps lr_scheduler_type lr_scheduler_kwargs warmup_ratio warmup_steps log_level \
    log_level_replica log_on_each_node logging_dir logging_strategy logging_first_step logging_steps \
    logging_nan_inf_filter save_strategy save_steps save_total_limit save_safetensors save_on_each_node \
    save_only_model restore_callback_states_from_checkpoint no_cuda use_cpu use_mps_device seed data_seed \
    jit_mode_eval use_ipex bf16 fp16 fp16_opt_level half_precision_backend bf16_full_eval fp16_full_eval tf32 \
    local_rank ddp_backend tpu_num_cores tpu_metrics_debug debug dataloader_drop_last eval_steps \
    dataloader_num_workers dataloader_prefetch_factor past_index run_name disable_tqdm remove_unused_columns \
    label_names load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip fsdp \
    fsdp_min_num_params fsdp_config fsdp_transformer_layer_cls_to_wrap accelerator_config parallelism_config \
    deepspeed label_smoothing_factor optim optim_args adafactor group_by_length length_column_name report_to project \
    trackio_space_id ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers dataloader_pin_memory \
    dataloader_persistent_workers skip_memory_metrics use_legacy_prediction_loop push_to_hub resume_from_checkpoint \
    hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision gradient_checkpointing \
    gradient_checkpointing_kwargs include_inputs_for_metrics include_for_metrics eval_do_concat_batches fp16_backend \
    push_to_hub_model_id push_to_hub_organization push_to_hub_token mp_parameters auto_find_batch_size \
    full_determinism torchdynamo ray_scope ddp_timeout torch_compile torch_compile_backend torch_compile_mode \
    dispatch_batches split_batches include_tokens_per_second include_num_input_tokens_seen neftune_noise_alpha \
    optim_target_modules batch_eval_metrics eval_on_start use_liger_kernel liger_kernel_config \
    eval_use_gather_object average_tokens_across_devices";

/// What wins, and what is refused, of flags that choose something.
const NOTES: &[(&str, &str)] = &[
    (
        "model-name-or-path",
        "gptjc never opens the network: a name that is not in the cache is refused with the command that downloads it",
    ),
    (
        "config-name",
        "wins over the model's own config.json; refused if tensors do not fit it, or if it is no GPT-J's",
    ),
    ("bf16", "refused beside another `--precision`"),
    ("lora-alpha", "refused if it is another than the plan's or the adapter's, as all `lora` flags"),
    ("lora-target-modules", "names that no module has are refused with those that there are"),
    (
        "per-device-train-batch-size",
        "refused if it is another than that of `--train-tokens`, or `--global-batch-size` is no multiple",
    ),
    (
        "gradient-accumulation-steps",
        "refused if batch times accumulation is not `--global-batch-size`, or more than the plan's",
    ),
    ("max-seq-length", "refused above the model's n_positions"),
    ("dataset-concatenation", "refused beside another `--packing`: True is `concat`, False is `pad`"),
    ("dataset-config-name", "with GLUE others than `mnli` are refused"),
    ("max-train-samples", "counts windows, after packing"),
    (
        "weight-decay",
        "with `--trainable all` biases and norms decay, too, which Hugging Face's Trainer leaves out",
    ),
    ("max-steps", "wins over `--num-train-epochs`, unless it is -1"),
    (
        "lr-scheduler-type",
        "reduce_lr_on_plateau, cosine_with_min_lr, cosine_warmup_with_min_lr and warmup_stable_decay are refused",
    ),
    ("warmup-steps", "wins over `--warmup-ratio`, unless it is 0"),
    ("overwrite-output-dir", "without it a directory that is not empty is refused"),
    ("eval-strategy", "refused beside `--do-eval False`"),
    ("load-best-model-at-end", "refused unless models are saved where they are evaluated"),
    ("metric-for-best-model", "refused if it is not measured"),
    ("report-to", "trackers that send over the network are refused"),
    ("train-file", "wins over the dataset's own rows"),
    ("validation-file", "wins over the dataset's own rows"),
];

/// Every flag of the reference, with dashes.
fn reference() -> BTreeSet<String> {
    let names = FINETUNE_CLM.split_whitespace().chain(TRAINING_ARGUMENTS.split_whitespace());
    names.map(|name| name.replace('_', "-")).collect()
}

/// The flags of `gptjc finetune`, in the order of its help.
fn arguments() -> Vec<Arg> {
    let mut cli = Cli::command();
    cli.build();
    cli.find_subcommand("finetune").unwrap().get_arguments().cloned().collect()
}

/// The names of a flag that the reference has.
fn names(argument: &Arg, reference: &BTreeSet<String>) -> Vec<String> {
    let aliases = argument.get_all_aliases().unwrap_or_default().into_iter();
    let names = argument.get_long().into_iter().chain(aliases).map(str::to_owned);
    names.filter(|name| reference.contains(name)).collect()
}

fn flag(name: &str) -> String {
    format!("`--{}`", name.replace('-', "_"))
}

/// The lines of the table: flags, what they do, what is refused and what wins. Flags of which the same is said share one.
fn table() -> String {
    let reference = reference();
    let mut lines: Vec<(String, [String; 2])> = Vec::new();
    let mut add = |flags: String, said: [String; 2]| match lines.iter_mut().find(|(_, other)| *other == said)
    {
        Some((others, _)) => *others += &format!(", {flags}"),
        None => lines.push((flags, said)),
    };
    let mut notes: BTreeMap<&str, &str> = NOTES.iter().copied().collect();
    let is_row = |argument: &Arg| rows().any(|row| Some(row.flag) == argument.get_long());
    for argument in arguments().iter().filter(|argument| !is_row(argument)) {
        let names = names(argument, &reference);
        let Some(first) = names.first() else { continue };
        let note = notes.remove(first.as_str()).unwrap_or_default();
        let flags: Vec<String> = names.iter().map(|name| flag(name)).collect();
        add(flags.join(", "), [argument.get_help().unwrap().to_string(), note.to_owned()]);
    }
    assert!(notes.is_empty(), "notes about flags that are no flags: {notes:?}");
    rows().for_each(|row| add(flag(row.flag), said(row)));
    let mut text = "| flag | here | refused, and what wins |\n| --- | --- | --- |\n".to_owned();
    for (flags, [does, refused]) in lines {
        text += &format!("| {flags} | {} | {} |\n", does.replace('|', r"\|"), refused.replace('|', r"\|"));
    }
    text
}

/// What a row says: what holds or happens instead, and what is refused.
fn said(row: &Row) -> [String; 2] {
    let mut said = [Vec::new(), Vec::new()];
    for (values, answer) in row.answers {
        let (column, text) = match answer {
            Answer::Holds(text) => (0, (*text).to_owned()),
            Answer::Instead(text) => (0, format!("{text} (a warning)")),
            Answer::Refused(text) => (1, (*text).to_owned()),
        };
        let values = match values {
            Values::Words([]) => String::new(),
            Values::Words(["true", "false"]) => "either: ".to_owned(),
            Values::Words(words) => {
                let words = words
                    .iter()
                    .map(|word| if word.is_empty() { "nothing".to_owned() } else { format!("`{word}`") });
                words.collect::<Vec<_>>().join(", ") + ": "
            }
            Values::Count | Values::Other if row.answers.len() == 1 => "any: ".to_owned(),
            Values::Count | Values::Other => "others: ".to_owned(),
        };
        said[column].push(values + &text);
    }
    said.map(|texts| texts.join("; "))
}

#[test]
fn the_document_lists_every_flag_of_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("docs/flags.md has the beginning of the table");
    let (found, after) = rest.split_once(END).expect("docs/flags.md has the end of the table");
    let expected = table();
    if std::env::var_os("GPTJC_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert!(
            found == expected,
            "GPTJC_BLESS=1 cargo test -p gptjc readme writes the table anew:\n{expected}"
        );
    }
}

#[test]
fn every_flag_of_the_reference_is_known() {
    let arguments = arguments();
    let known: BTreeSet<&str> = arguments
        .iter()
        .flat_map(|argument| {
            argument.get_long().into_iter().chain(argument.get_all_aliases().unwrap_or_default())
        })
        .collect();
    let unknown: Vec<String> =
        reference().into_iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "flags of the reference that gptjc does not know: {unknown:?}");
}
