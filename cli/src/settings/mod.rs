//! Flags made into options.
//!
//! Does: put typed flags over what holds without them (defaults, an adapter, an old plan), and find the flags that
//! contradict a plan or an adapter.
//! Does not: judge values; compiler and runtime do, with their own messages.

mod contradiction;
mod hub_names;
mod lora;
mod model;
mod options;
mod schedule;
mod target;

pub(crate) use contradiction::{Contradictions, against_adapter, against_plan};
pub(crate) use hub_names::resolve as resolve_hub_names;
pub(crate) use lora::{TargetError, overlay as overlay_lora, partial};
pub(crate) use model::{model_config, model_dir, read_plan, read_plan_options};
pub(crate) use options::{StepShape, defaults, overlay, packing};
pub(crate) use schedule::check_schedule;
