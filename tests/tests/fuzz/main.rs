//! Every parser of foreign bytes that is ours, on mutations of valid files and on random bytes: it returns, it does not
//! panic, and what it allocates at its peak is at most 16 times its input and a constant.
//!
//! A run of the tests gives each parser [`driver::SHORT`]; `GPTJC_FUZZ_SECONDS=60` gives it a minute and prints the
//! figures. `GPTJC_FUZZ_SEED=7` takes other cases. A failure prints the smallest bytes that show it; they belong into a
//! test of that parser.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

mod allocator;
mod driver;
mod mutation;
mod parsers;

use driver::fuzz;
use gptjc_graphs::onnx::ModelSummary;
use gptjc_graphs::text::parse_all;

macro_rules! fuzz_tests {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name), &parsers::$name());
            }
        )*

        /// A parser without a test would never run.
        #[test]
        fn there_is_a_test_for_every_parser() {
            let source = include_str!("parsers.rs");
            let parsers = source.matches("pub(crate) fn ").count();
            assert_eq!([$(stringify!($name)),*].len(), parsers);
        }
    };
}

fuzz_tests!(
    torch_legacy_file,
    torch_zip_file,
    safetensors_file,
    shard_index,
    hub_reference,
    model_config,
    adapter_config,
    adapter_tensors,
    pretokenized_batches,
    mnli_rows,
    completion_rows,
    tab_separated_rows,
    comma_separated_rows,
    plain_text,
    parquet_rows,
    prompt_template,
    plan_file,
    trainer_state,
    training_state,
    machine_description,
    conversion_record,
    onnx_model,
    onnx_config,
    graph_text,
);

/// Longer inputs than the others get: only there does its bound tell.
#[test]
fn a_model_of_empty_messages_keeps_to_its_bound() {
    let field = |number: u8, content: Vec<u8>| {
        let length: Vec<u8> = (0..4).map(|part| (content.len() >> (7 * part)) as u8 | 0x80).collect();
        [&[number << 3 | 2], &length[..], &[0], &content[..]].concat()
    };
    let (mut refused, mut accepted) = (0, 0);
    for number in [1, 5, 11, 13] {
        for count in (10..24).map(|log| 1_usize << log) {
            let bytes = field(7, [number << 3 | 2, 0].repeat(count));
            let mut is_read = false;
            let peak = allocator::peak(|| is_read = ModelSummary::decode(&bytes).is_ok());
            assert!(peak <= 16 * bytes.len() + (48 << 20), "{} bytes, field {number}: {peak}", bytes.len());
            *if is_read { &mut accepted } else { &mut refused } += 1;
        }
    }
    assert!(refused > 10 && accepted > 10, "{refused} refused, {accepted} accepted");
}

/// Texts of many short names that differ, and other lists, which random cases do not have.
#[test]
fn a_graph_of_many_names_keeps_to_its_bound() {
    let name = |number: u32| {
        let digits = std::iter::successors(Some(number), |rest| (*rest >= 26).then(|| rest / 26 - 1));
        digits.map(|rest| char::from(b'a' + (rest % 26) as u8)).collect::<String>()
    };
    for count in [500, 5_000, 50_000] {
        let list =
            |one: &dyn Fn(&str) -> String| (0..count).map(|number| one(&name(number))).collect::<String>();
        let input = "%0:batch\"x\"f32[4]";
        for (what, text) in [
            (
                "inputs",
                format!("graph@g({}){{return}}", list(&|name| format!("%{name}:batch\"{name}\"f32[],"))),
            ),
            ("outputs", format!("graph@g({input}){{return{}}}", list(&|name| format!("\"{name}\"%0,")))),
            (
                "nodes",
                format!("graph@g({input}){{{}return}}", list(&|name| format!("%{name}=add %0,%0:f32[4] "))),
            ),
            (
                "results",
                format!(
                    "graph@g({input}){{%r{}=add %0,%0:f32[4] return}}",
                    list(&|name| format!(",%{name}"))
                ),
            ),
            ("graphs", list(&|name| format!("graph@{name}(){{return}}"))),
            (
                "attributes",
                format!(
                    "graph@g({input}){{%1=add %0,%0{{{}}}:f32[4] return}}",
                    list(&|name| format!("{name}=1,"))
                ),
            ),
            ("dimensions", format!("graph@g(%0:batch\"x\"f32[{}]){{return}}", list(&|_| "1,".to_owned()))),
            (
                "operands",
                format!("graph@g({input}){{%1=add {}%0:f32[4] return}}", list(&|_| "%0,".to_owned())),
            ),
            (
                "types",
                format!("graph@g({input}){{%1=add %0,%0:{}f32[4] return}}", list(&|_| "f32[],".to_owned())),
            ),
        ] {
            let peak = allocator::peak(|| drop(parse_all(&text)));
            assert!(peak <= 16 * text.len() + (2 << 20), "{what}: {} bytes took {peak}", text.len());
        }
    }
}
