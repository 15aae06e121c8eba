//! What the record of a run says of it before it starts.

use crate::flags::JobFlags;
use crate::settings::StepShape;
use gptjc_compiler::MemoryNeed;
use gptjc_graphs::plan::{Buffer, FORMAT_VERSION, LoraOptions, Memory, Plan};
use gptjc_runtime::diagnosis::{SystemFiles, diagnose};
use gptjc_runtime::machine;
use gptjc_runtime::record::{MachineFacts, ModelFacts, PlanFacts, RunFacts, predicted};
use std::collections::BTreeMap;
use std::path::Path;

/// The facts of the run of `plan` on `threads` threads.
pub(crate) fn facts(
    job: &JobFlags,
    model_dir: &Path,
    plan: &Plan,
    step: StepShape,
    threads: usize,
) -> RunFacts {
    RunFacts {
        command: job.typed.clone(),
        gptjc: env!("CARGO_PKG_VERSION").to_owned(),
        plan_format: FORMAT_VERSION,
        machine: machine_facts(plan, threads),
        model: model_facts(model_dir, plan),
        plan: plan_facts(plan),
        settings: settings(job, step),
        resumed_from: None,
    }
}

fn machine_facts(plan: &Plan, threads: usize) -> MachineFacts {
    let (host, found) = (machine::host(), diagnose(&SystemFiles::default()));
    MachineFacts {
        cpu: found.cpu.model.unwrap_or_else(|| "unknown".to_owned()),
        cores: host.cores as usize,
        sockets: host.sockets as usize,
        threads,
        isa: plan.options.target.isa.clone(),
        memory_bytes: host.memory_bytes,
    }
}

fn model_facts(directory: &Path, plan: &Plan) -> ModelFacts {
    let model = &plan.options.model;
    let trained = plan.buffers_in(Memory::Parameter).map(Buffer::elements).sum();
    let frozen: u64 = plan.frozen_tensors().map(Buffer::elements).sum();
    ModelFacts {
        directory: directory.display().to_string(),
        n_layer: model.n_layer,
        n_embd: model.n_embd,
        n_head: model.n_head,
        vocab_size: model.vocab_size,
        parameters: if plan.options.lora.is_some() { frozen } else { frozen + trained },
        trained,
    }
}

fn plan_facts(plan: &Plan) -> PlanFacts {
    let (options, need) = (&plan.options, MemoryNeed::of(plan));
    let mut parts = vec![
        ("weights", need.weights),
        ("streamed weights", need.stream),
        ("parameters, moments, gradients", need.persistent),
        ("temporaries", need.arena),
        ("the process besides", need.process),
    ];
    if need.copies > 0 {
        parts.insert(1, ("copies of the weights on other NUMA nodes", need.copies));
    }
    PlanFacts {
        precision: options.precision().to_string(),
        packing: options.packing().to_string(),
        max_seq_length: options.max_seq_length,
        micro_batch: options.micro_batch,
        step_windows: options.step_windows,
        lora: options.lora.as_ref().map(adapters),
        peak_bytes: need.total(),
        memory: parts.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        budget_bytes: Some(options.memory_budget).filter(|&bytes| bytes > 0),
        step_seconds: plan.prediction.seconds,
        wait_seconds: plan.prediction.wait_seconds,
        families: predicted(plan),
    }
}

fn adapters(lora: &LoraOptions) -> String {
    let kind = if lora.use_rslora { "rsLoRA" } else { "LoRA" };
    format!("{kind} of rank {}, alpha {}, on {}", lora.rank, lora.alpha, lora.targets.join(", "))
}

/// Options of the run that its plan does not have.
fn settings(job: &JobFlags, step: StepShape) -> BTreeMap<String, String> {
    let run = &job.run;
    let settings = [
        ("learning rate", run.learning_rate.to_string()),
        ("warm-up steps", run.warmup_steps.to_string()),
        ("weight decay", run.weight_decay.to_string()),
        ("norm clipped to", run.max_grad_norm.to_string()),
        ("seed", run.seed.to_string()),
        ("batch × accumulation", format!("{} × {}", step.batch, step.accumulation)),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}
