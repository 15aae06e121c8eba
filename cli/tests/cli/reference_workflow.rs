//! The command of the reference workflow as it stands, on a model of one narrow block with GPT-J's vocabulary.

use crate::common::{gptjc_in, safetensors, tokenizer};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Width, width of the MLP, vocabulary of the model.
const SIZES: (usize, usize, usize) = (8, 32, 50400);

const COMMAND: &str = "finetune --model_name_or_path model --bf16 True --dataset_name glue --dataset_config_name, mnli \
    --dataset_concatenation --config_name ./config.json --per_device_train_batch_size 8 \
    --per_device_eval_batch_size 8 --gradient_accumulation_steps 1 --do_train --do_eval \
    --learning_rate 3.3113761e-4 --num_train_epochs 3 --logging_steps 1 --save_total_limit 2 \
    --overwrite_output_dir --log_level info --save_strategy epoch --output_dir ./gptj_peft_finetuned_model \
    --peft lora --lora_alpha 54 --lora_target_modules q_proj,v_proj,k_proj,out_proj --use_fast_tokenizer false \
    --use_cpu --task completion --max_train_samples 4 --max_eval_samples 2 --data_dir data";

pub(crate) fn config() -> Value {
    let (width, inner, vocabulary) = SIZES;
    json!({"model_type": "gptj", "n_layer": 1, "n_embd": width, "n_head": 2, "rotary_dim": 4, "n_inner": inner,
        "vocab_size": vocabulary, "n_positions": 48, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"})
}

/// Writes a model with small weights that look random, and GPT-J's tokenizer.
pub(crate) fn write_model(directory: &Path) {
    let (width, inner, vocabulary) = SIZES;
    let block = |name: &str| format!("transformer.h.0.{name}");
    let mut tensors = vec![
        ("transformer.wte.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.bias".to_owned(), vec![vocabulary]),
        (block("mlp.fc_in.weight"), vec![inner, width]),
        (block("mlp.fc_in.bias"), vec![inner]),
        (block("mlp.fc_out.weight"), vec![width, inner]),
        (block("mlp.fc_out.bias"), vec![width]),
    ];
    for norm in ["transformer.ln_f", "transformer.h.0.ln_1"] {
        tensors.extend(["weight", "bias"].map(|part| (format!("{norm}.{part}"), vec![width])));
    }
    let projections = ["q_proj", "k_proj", "v_proj", "out_proj"];
    tensors.extend(projections.map(|name| (block(&format!("attn.{name}.weight")), vec![width, width])));
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), 1u32);
    for (name, shape) in tensors {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(&((state >> 8) as f32 / 8_388_608.0 * 0.1 - 0.1).to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("model.safetensors"), safetensors(&header.into(), &data)).unwrap();
    for file in ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"] {
        fs::write(directory.join(file), fs::read(tokenizer().join(file)).unwrap()).unwrap();
    }
}

/// Writes rows of MNLI, the first of them without a label.
fn write_data(directory: &Path) {
    let row = |number: usize, label: Value| {
        let premise = format!("The clerk of office {number} put {number} letters on the desk.");
        let hypothesis = format!("There were {number} letters on a desk.");
        format!("{}\n", json!({"premise": premise, "hypothesis": hypothesis, "label": label}))
    };
    let rows = |count: usize| -> String { (0..count).map(|number| row(number, json!(number % 3))).collect() };
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("train.jsonl"), row(99, json!(-1)) + &rows(12)).unwrap();
    fs::write(directory.join("validation_matched.jsonl"), rows(3)).unwrap();
}

/// A directory with all that the command names.
fn prepared() -> TempDir {
    let directory = TempDir::new().unwrap();
    write_model(&directory.path().join("model"));
    write_data(&directory.path().join("data"));
    fs::write(directory.path().join("config.json"), config().to_string()).unwrap();
    directory
}

#[test]
fn a_step_may_have_any_number_of_windows() {
    let directory = prepared();
    let command = COMMAND
        .replace("--per_device_train_batch_size 8 ", "--global_batch_size 3 ")
        .replace("--gradient_accumulation_steps 1 ", "")
        .replace("--num_train_epochs 3", "--num_train_epochs 1");
    let run = gptjc_in(directory.path(), &command.split_whitespace().collect::<Vec<_>>()).ok();
    // Four windows are a step of three and one of what is left.
    assert!(run.out.contains("step 2/2  epoch 1.00  loss "), "{}", run.out);
}

#[test]
fn the_reference_command_runs_as_it_stands() {
    let directory = prepared();
    let run = gptjc_in(directory.path(), &COMMAND.split_whitespace().collect::<Vec<_>>()).ok();
    let said = [
        "warning: `--dataset_config_name,` is read as `--dataset_config_name`",
        "note: --use-cpu True: gptjc runs on the CPU",
        "train.jsonl: skipped 1 row without a label",
        "12 examples, 4 windows, 192 tokens",
    ];
    for text in said {
        assert!(run.err.contains(text), "expected `{text}` in: {}", run.err);
    }
    // q, k, v and out_proj, each with 8 x 8 and 8 x 8.
    assert!(run.out.contains("trainable params: 512 ||"), "{}", run.out);
    // 4 windows are one step an epoch.
    assert!(run.out.contains("step 3/3  epoch 3.00  loss "), "{}", run.out);
    assert!(run.out.contains("eval_loss "), "{}", run.out);
    let out = directory.path().join("gptj_peft_finetuned_model");
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap() };
    let adapter = read("adapter_config.json");
    assert_eq!((adapter["lora_alpha"].as_f64(), adapter["lora_dropout"].as_f64()), (Some(54.0), Some(0.05)));
    let checkpoints: Vec<bool> =
        (1..=3).map(|step| out.join(format!("checkpoint-{step}")).is_dir()).collect();
    assert_eq!(checkpoints, [false, true, true], "an epoch is a step, and two stay");
    let state = read("trainer_state.json");
    let log = state["log_history"].as_array().unwrap();
    assert_eq!(log.len(), 5, "three steps, the closing entry and one evaluation: {log:?}");
    let loss = log[4]["eval_loss"].as_f64().unwrap();
    // A model that knows nothing is about as good as chance over the vocabulary.
    assert!((loss - 50400f64.ln()).abs() < 0.5, "{loss}");
}
