//! How it is computed: passes from graph to graph, then lowering to a plan for one machine and one memory budget.
//!
//! [`compile`] is the whole: options in, [`Plan`](gptjc_graphs::plan::Plan) out. The order of the passes is in
//! [`pipeline`] and nowhere else. Same options, same bytes of the plan.
//!
//! This crate knows machines as data and never sees a tensor's contents.
#![forbid(unsafe_code)]

mod compile;
pub mod cost;
mod error;
pub mod explain;
pub mod fusion;
pub mod lower;
pub mod memory;
pub mod pass_manager;
pub mod pipeline;
mod planner;
pub mod precision;
pub mod remat;
pub mod schedule;
pub mod simplify;
pub mod single_op;
pub mod target;
pub mod work;

pub use compile::{MemoryNeed, compile};
pub use error::CompileError;
pub use planner::budget;
