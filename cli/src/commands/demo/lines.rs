//! The command lines of the demo: one set, filled with the demo's own names to be run, and with a user's to be shown.

use std::path::{Path, PathBuf};

/// A command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Makes the data.
    SynthData,
    /// Makes the plan.
    Compile,
    /// Asks the model.
    ValidateBefore,
    /// Trains the adapter.
    Train,
    /// Asks the model with its adapter.
    ValidateAfter,
    /// Exports the model with its adapter.
    Export,
    /// Fetches ONNX Runtime.
    Fetch,
    /// Asks the export.
    ValidateOnnx,
    /// Exports the model without the adapter.
    ExportBefore,
    /// Asks that export.
    ValidateOnnxBefore,
    /// Makes a page of the run.
    Report,
}

impl Line {
    /// The words, with `{name}` for what [`Names`] knows. Flags that suit any model are spelt out here; those that suit
    /// a model's size are names.
    fn template(self) -> &'static str {
        match self {
            Self::SynthData => {
                "synth-data --train-rows {rows} --validation-rows {asked} --documents 0 --notes 0 --exercises 0 --review 0 -o {data}"
            }
            Self::Compile => {
                "compile --model {model} --lora-r {rank} --lora-alpha {alpha} --lora-target-modules all-linear \
                 --max-seq-length {length} --packing segments --per-device-train-batch-size {batch} -o {plan}"
            }
            Self::ValidateBefore => {
                "validate --model {model} --validation-file {validation} --max-eval-samples {asked} --mode score"
            }
            Self::Train => {
                "train --plan {plan} --model {model} --train-file {train} --learning-rate {rate} --warmup-ratio 0.03 \
                 {duration} --logging-steps {log} --validation-file {validation} --max-eval-samples {asked} \
                 --eval-strategy steps --eval-steps {eval} --eval-on-start --output-dir {run}"
            }
            Self::ValidateAfter => {
                "validate --model {model} --adapter {run} --validation-file {validation} --max-eval-samples {asked} \
                 --mode score"
            }
            Self::Export => "export --model {model} --adapter {run} --dtype f32 -o {onnx}",
            Self::Fetch => "doctor --fetch-onnxruntime",
            Self::ValidateOnnx => {
                "validate --onnx {onnx} --validation-file {validation} --max-eval-samples {asked} --mode score"
            }
            Self::ExportBefore => "export --model {model} --dtype f32 -o {onnx}-before",
            Self::ValidateOnnxBefore => {
                "validate --onnx {onnx}-before --validation-file {validation} --max-eval-samples {asked} --mode score"
            }
            Self::Report => "report {run}",
        }
    }

    /// The words of the line, `gptjc` first.
    pub(super) fn words(self, names: &Names) -> Vec<String> {
        let mut words = vec!["gptjc".to_owned()];
        for word in self.template().split_whitespace() {
            match word {
                "{duration}" => words.extend(names.duration.split(' ').map(str::to_owned)),
                word => words.push(names.fill(word)),
            }
        }
        words
    }

    /// The line as it is typed into a shell.
    pub(super) fn text(self, names: &Names) -> String {
        self.words(names).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// What stands for the names in a line.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Where the demo's files are.
    pub(super) directory: PathBuf,
    /// Names with their texts.
    texts: Vec<(&'static str, String)>,
    /// Flags of how long training goes on, and of its checkpoints.
    duration: &'static str,
}

impl Names {
    /// Those of the demo in `directory`.
    pub(super) fn demo(directory: &Path, quick: bool) -> Self {
        let file = |name: &str| directory.join(name).display().to_string();
        let (rows, asked, duration, log, eval) = match quick {
            true => ("600", "60", "--max-steps 30 --save-strategy no", "10", "15"),
            false => ("48000", "2000", "--max-steps 800 --save-strategy no", "100", "400"),
        };
        let numbers = [
            ("rows", rows),
            ("asked", asked),
            ("rank", "16"),
            ("alpha", "32"),
            ("length", "256"),
            ("batch", "8"),
            ("rate", "1e-3"),
            ("log", log),
            ("eval", eval),
        ];
        let files = [
            ("data", file("data")),
            ("model", file("model")),
            ("plan", file("demo.plan")),
            ("train", file("data/train.jsonl")),
            ("validation", file("data/validation_matched.jsonl")),
            ("run", file("run")),
            ("onnx", file("onnx")),
        ];
        let numbers = numbers.map(|(name, text)| (name, text.to_owned()));
        Self { directory: directory.to_owned(), texts: numbers.into_iter().chain(files).collect(), duration }
    }

    /// Those of somebody's own GPT-J-6B and data, with the settings of the reference workflow.
    pub(super) fn own() -> Self {
        let texts = [
            ("asked", "500"),
            ("rank", "8"),
            ("alpha", "54"),
            ("length", "512"),
            ("batch", "8"),
            ("rate", "3e-4"),
            ("log", "10"),
            ("eval", "500"),
            ("model", "MODEL"),
            ("plan", "mnli.plan"),
            ("train", "train.jsonl"),
            ("validation", "dev.jsonl"),
            ("run", "out"),
            ("onnx", "onnx"),
        ];
        let texts = texts.map(|(name, text)| (name, text.to_owned())).into();
        Self { directory: PathBuf::new(), texts, duration: "--num-train-epochs 3" }
    }

    /// A file or directory of the demo.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `word` with texts for names. A word has one name at most, and what is put in is not looked into.
    fn fill(&self, word: &str) -> String {
        let found = self.texts.iter().find_map(|(name, text)| {
            let (before, after) = word.split_once(&format!("{{{name}}}"))?;
            Some(format!("{before}{text}{after}"))
        });
        found.unwrap_or_else(|| word.to_owned())
    }
}

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,:=+@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Invocation;

    const ALL: [Line; 11] = [
        Line::SynthData,
        Line::Compile,
        Line::ValidateBefore,
        Line::Train,
        Line::ValidateAfter,
        Line::Export,
        Line::Fetch,
        Line::ValidateOnnx,
        Line::ExportBefore,
        Line::ValidateOnnxBefore,
        Line::Report,
    ];

    #[test]
    fn every_line_is_one_that_the_program_takes() {
        let demo = Names::demo(Path::new("a directory"), false);
        for line in ALL {
            let words = line.words(&demo);
            assert!(words.iter().all(|word| !word.contains('{')), "a name is not known: {words:?}");
            Invocation::parse(words.into_iter().map(Into::into)).unwrap();
        }
        let own = ALL.into_iter().filter(|line| *line != Line::SynthData);
        for line in own {
            let words = line.words(&Names::own());
            assert!(words.iter().all(|word| !word.contains('{')), "a name is not known: {words:?}");
            Invocation::parse(words.into_iter().map(Into::into)).unwrap();
        }
    }

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let names = Names::demo(Path::new("it's here"), true);
        assert_eq!(Line::Report.text(&names), r"gptjc report 'it'\''s here/run'");
        assert_eq!(quoted("gptjc-demo/data"), "gptjc-demo/data");
        assert_eq!(quoted(""), "''");
    }
}
