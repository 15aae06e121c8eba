//! Flags of the schedule against each other.

use crate::error::CliError;
use crate::flags::RunFlags;
use gptjc_runtime::train::{POLYNOMIAL_END, SchedulerKind};

/// Refuses a schedule that does not fall, and returns what is to be said about flags that win over others.
///
/// # Errors
/// [`CliError::Usage`] if the peak is not above the end.
pub(crate) fn check_schedule(flags: &RunFlags) -> Result<Option<String>, CliError> {
    let (kind, rate) = (flags.lr_scheduler_type, flags.learning_rate);
    if kind == SchedulerKind::Polynomial && rate <= POLYNOMIAL_END {
        return Err(CliError::Usage {
            what: format!(
                "--learning-rate {rate:e} is not above {POLYNOMIAL_END:e}, to which --lr-scheduler-type {kind} falls"
            ),
            advice: "give a larger --learning-rate, or --lr-scheduler-type linear".to_owned(),
        });
    }
    let (steps, ratio) = (flags.warmup_steps, flags.warmup_ratio);
    if kind == SchedulerKind::Constant && (steps > 0 || ratio > 0.0) {
        return Ok(Some(format!(
            "--lr-scheduler-type {kind} has no warm-up; {} has",
            SchedulerKind::ConstantWithWarmup
        )));
    }
    let both = steps > 0 && ratio > 0.0;
    Ok(both.then(|| format!("--warmup-steps {steps} wins over --warmup-ratio {ratio}")))
}
