//! What shells and `man` get.

use crate::common::gptjc;
use std::fs;
use tempfile::TempDir;

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = gptjc(&format!("completions {shell}"), &[]).ok().out;
        for part in ["finetune", "memory-budget", "lora-target-modules"] {
            assert!(script.contains(part), "{shell}: {part}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = TempDir::new().unwrap();
    let said = gptjc("man {out}", &[("out", directory.path())]).ok().out;
    let pages = fs::read_dir(directory.path()).unwrap().count();
    assert!(pages > 15 && said.contains(&format!("wrote {pages} manual pages")), "{said}");
    let page = fs::read_to_string(directory.path().join("gptjc-train.1")).unwrap();
    assert!(page.starts_with(".") && page.contains("resume") && page.contains("Examples"), "{page}");
}
