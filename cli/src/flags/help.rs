//! The program as its help shows it: commands by task, and examples under each.
//!
//! Does: add to the parser what clap's derive has no words for. Does not: change what can be typed.

use super::Cli;
use clap::{Command, CommandFactory};
use std::fmt::Write;

/// Columns of help pages, as the parser's `max_term_width`.
const WIDTH: usize = 110;
/// Columns before what a command does.
const INDENT: usize = 14;

/// Commands by task, in the order of help.
const TASKS: [(&str, &[&str]); 6] = [
    ("First steps", &["demo", "doctor"]),
    ("Train", &["compile", "train", "finetune", "data"]),
    ("Look into plans and runs", &["inspect", "report"]),
    ("Ask a model", &["validate", "generate"]),
    ("Give it to other programs", &["export", "merge", "convert"]),
    ("Measure and try", &["bench", "synth", "synth-data", "completions"]),
];

/// Examples of each command: what is done, and the line.
const EXAMPLES: [(&str, &[(&str, &str)]); 17] = [
    (
        "demo",
        &[("all of it, in a minute or two", "gptjc demo"), ("only whether it works", "gptjc demo --quick")],
    ),
    (
        "doctor",
        &[
            ("what this machine has and lacks", "gptjc doctor"),
            ("get ONNX Runtime, with pip", "gptjc doctor --fetch-onnxruntime"),
        ],
    ),
    (
        "compile",
        &[
            (
                "GPT-J-6B in at most 10 GiB",
                "gptjc compile --model EleutherAI/gpt-j-6b --memory-budget 10GiB -o mnli.plan",
            ),
            ("for another machine", "gptjc compile --model model --target spr-2s -o spr.plan"),
        ],
    ),
    (
        "train",
        &[
            (
                "rows of MNLI",
                "gptjc train --plan mnli.plan --model model --train-file train.jsonl --output-dir out",
            ),
            (
                "go on where it was stopped",
                "gptjc train --plan mnli.plan --model model --train-file train.jsonl --output-dir out \
                 --resume-from-checkpoint",
            ),
        ],
    ),
    (
        "finetune",
        &[(
            "compile and train in one",
            "gptjc finetune --model_name_or_path model --train_file train.jsonl --lora_alpha 54 --output_dir out",
        )],
    ),
    (
        "data",
        &[("what becomes of rows", "gptjc data --model model --train-file train.jsonl --max-seq-length 512")],
    ),
    (
        "inspect",
        &[
            ("memory, time, hours", "gptjc inspect mnli.plan"),
            ("one page with everything", "gptjc inspect mnli.plan --format html -o plan.html"),
        ],
    ),
    (
        "report",
        &[("one run", "gptjc report out"), ("two, side by side", "gptjc report out out-2 -o both.html")],
    ),
    (
        "validate",
        &[
            ("the export", "gptjc validate --onnx onnx --validation-file dev.jsonl --max-eval-samples 500"),
            ("the model itself", "gptjc validate --model model --adapter out --validation-file dev.jsonl"),
            (
                "one beside the other",
                "gptjc validate --onnx onnx --model model --adapter out --compare native --validation-file dev.jsonl",
            ),
        ],
    ),
    (
        "generate",
        &[("a continuation", "gptjc generate --model model --adapter out --prompt 'It rained, so'")],
    ),
    (
        "export",
        &[
            ("in f32", "gptjc export --model model --adapter out -o onnx"),
            ("in 4 bits", "gptjc export --model model --adapter out --dtype int4 -o onnx4"),
        ],
    ),
    ("merge", &[("as a Hugging Face directory", "gptjc merge --model model --adapter out -o merged")]),
    ("convert", &[("a checkpoint of torch", "gptjc convert --model gpt-j-6b -o gpt-j-6b-bf16")]),
    (
        "bench",
        &[
            ("peaks and bandwidths, which plans use", "gptjc bench machine"),
            ("training steps of a made-up model", "gptjc bench step --layers 2"),
        ],
    ),
    ("synth", &[("random weights", "gptjc synth --config config.json -o random")]),
    ("synth-data", &[("rows, text and a tokenizer", "gptjc synth-data -o data")]),
    (
        "completions",
        &[(
            "for bash, from the next shell on",
            "gptjc completions bash > ~/.local/share/bash-completion/completions/gptjc",
        )],
    ),
];

/// The program's parser, with its help.
pub(crate) fn command() -> Command {
    let mut command = Cli::command();
    for (name, examples) in EXAMPLES {
        command = command.mut_subcommand(name, |one| one.after_help(listed(examples)));
    }
    let tasks = tasks(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{tasks}Options:\n{{options}}{{after-help}}"
    ))
}

fn listed(examples: &[(&str, &str)]) -> String {
    let mut text = "Examples:".to_owned();
    for (what, line) in examples {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  # {what}\n  {line}");
    }
    text
}

/// The list of commands by task.
fn tasks(program: &Command) -> String {
    let mut text = String::new();
    for (task, names) in TASKS {
        let _ = writeln!(text, "{task}:");
        for name in names {
            let about = program.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let lines = wrapped(&about, WIDTH - INDENT).join(&format!("\n{}", " ".repeat(INDENT)));
            let _ = writeln!(text, "  {name:<width$}{lines}", width = INDENT - 2);
        }
        text.push('\n');
    }
    text
}

/// `text` in lines of at most `width` columns, where its words allow it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Invocation;
    use std::collections::BTreeSet;

    /// Names of the commands that help shows.
    fn shown() -> BTreeSet<String> {
        let program = Cli::command();
        let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
        shown.map(|command| command.get_name().to_owned()).collect()
    }

    #[test]
    fn every_command_has_a_task_and_an_example() {
        let tasks: Vec<&str> = TASKS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(tasks.len(), shown().len());
        assert_eq!(tasks.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>(), shown());
        assert_eq!(EXAMPLES.map(|(name, _)| name.to_owned()).into_iter().collect::<BTreeSet<_>>(), shown());
    }

    #[test]
    fn every_example_is_a_line_of_its_command() {
        for (name, examples) in EXAMPLES {
            assert!(!examples.is_empty(), "{name}");
            for (_, line) in examples {
                let typed = line.split(" > ").next().unwrap();
                let words: Vec<&str> = typed.split_whitespace().collect();
                assert_eq!(words[..2], ["gptjc", name]);
                // The one text in quotes has blanks, and is one word to a shell.
                let quote = words.iter().position(|word| word.starts_with('\'')).unwrap_or(words.len() - 1);
                Invocation::parse(words[..=quote].iter().map(Into::into)).unwrap();
            }
        }
    }

    #[test]
    fn lines_are_no_longer_than_they_may_be() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        let page = command().term_width(WIDTH).render_help().to_string();
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
    }
}
