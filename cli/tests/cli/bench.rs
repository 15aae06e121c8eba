//! `gptjc bench`, on shapes that take no time.

use crate::common::{gptjc, gptjc_alone};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

#[test]
fn a_machine_is_measured_and_kept() {
    let home = TempDir::new().unwrap();
    let arguments = ["bench", "machine", "--rounds", "1", "--buffer", "1MiB", "--json"];
    let found = gptjc_alone(&arguments, &[("HOME", home.path())]).ok();
    let page: Value = serde_json::from_str(&found.out).unwrap();
    assert!(page["peaks"][0]["gflops"].as_f64().unwrap() > 0.0, "{page}");
    assert!(page["memory"]["all_threads"]["read_gbs"].as_f64().unwrap() > 0.0, "{page}");
    let kept = fs::read_to_string(page["kept_in"].as_str().unwrap()).unwrap();
    assert_eq!(page["target"].as_str(), Some(kept.as_str()));
    for key in ["peak_f32 = ", "peak_bf16 = ", "memory_bandwidth = "] {
        assert!(kept.contains(key), "{kept}");
    }
}

#[test]
fn kernels_have_a_row_for_each_shape() {
    let line = "bench kernels --variant portable --tokens 1 --filter nothing_like_it --rounds 1 --json";
    let found = gptjc(line, &[]).ok();
    assert_eq!(found.out.trim(), "[]");
    assert!(found.err.contains("no kernel was measured"), "{}", found.err);
    let line = "bench kernels --variant portable --tokens 1 --filter adamw --rounds 1 --json";
    let rows: Value = serde_json::from_str(&gptjc(line, &[]).ok().out).unwrap();
    let row = &rows[0];
    assert_eq!(
        (row["variant"].as_str(), row["kernel"].as_str()),
        (Some("portable"), Some("adamw-f32-portable"))
    );
    for key in ["gflops", "gbs", "seconds", "peak_gflops", "share_of_peak"] {
        assert!(row[key].as_f64().unwrap() > 0.0, "{key} of {row}");
    }
}

#[test]
fn a_variant_that_this_cpu_lacks_is_refused() {
    let found = gptjc("bench kernels --variant amx --filter none", &[]);
    if found.code == Some(0) {
        return; // this CPU has it
    }
    let message = found.error();
    assert!(message.contains("cannot run kernels for amx") && message.contains("gptjc doctor"), "{message}");
}

#[test]
fn a_step_is_measured_and_traced() {
    let directory = TempDir::new().unwrap();
    let trace = directory.path().join("trace.json");
    let line = "bench step --layers 1 --width 32 --heads 2 --vocabulary 60 --windows 3 --micro-batch 2 --sequence 16 \
                --segment 5 --labelled-share 0.5 --rank 2 --rounds 2 --trace {trace} --json";
    let page: Value = serde_json::from_str(&gptjc(line, &[("trace", &trace)]).ok().out).unwrap();
    assert_eq!((page["tokens"].as_u64(), page["rounds"].as_array().unwrap().len()), (Some(48), 2));
    let labelled = page["labelled"].as_u64().unwrap();
    // Segments of 5, 5, 5 and 1 slots: the last slot of each has nothing to predict, and half of the other 36 a label.
    assert!(labelled > 10 && labelled < 26, "{page}");
    let numbers =
        ["tokens_per_second", "work_gflop", "peak_bytes", "loss", "first_seconds", "predicted_seconds"];
    for key in numbers {
        assert!(page[key].as_f64().unwrap() > 0.0, "{key} of {page}");
    }
    let families = page["families"].as_array().unwrap();
    assert!(families.iter().any(|family| family["family"] == "attention"), "{page}");
    let trace: Value = serde_json::from_str(&fs::read_to_string(&trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |entry: &str| events.iter().filter(|event| event["args"]["entry"] == entry).count();
    assert!(of("micro_step") > 10 && of("apply") > 5, "{} events", events.len());
    assert!(events.iter().all(|event| event["ph"] == "X" && event["dur"].as_f64().unwrap() >= 0.0));
}

#[test]
fn fewer_labels_are_expected_to_take_less_time_and_a_profile_can_be_left_out() {
    let shape =
        "bench step --layers 1 --width 64 --heads 2 --vocabulary 5000 --sequence 64 --rounds 1 --no-profile";
    let page = |more: &str| -> Value {
        serde_json::from_str(&gptjc(&format!("{shape} {more} --json"), &[]).ok().out).unwrap()
    };
    let (all, few) = (page("--labelled-share 1"), page("--labelled-share 0.1"));
    let predicted = |page: &Value| page["predicted_seconds"].as_f64().unwrap();
    assert!(predicted(&few) < 0.7 * predicted(&all), "{few} {all}");
    assert!(all["families"].is_null(), "{all}");
    let said = gptjc(shape, &[]).ok().out;
    assert!(said.starts_with("predicted: "), "{said}");
    let foretold = gptjc(&format!("{shape} --predict-only"), &[]).ok().out;
    assert_eq!(foretold.trim_end(), said.lines().next().unwrap());
}

#[test]
fn heads_that_do_not_divide_the_width_are_refused() {
    let message = gptjc("bench step --width 30 --heads 4", &[]).error();
    assert!(message.contains("--width 30 is not a multiple of --heads 4"), "{message}");
}
