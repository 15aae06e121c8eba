//! Learning rate of each optimizer step.

/// Linear warm-up from 0, then linear decay to 0: `get_linear_schedule_with_warmup` of Hugging Face transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearSchedule {
    /// The rate at the end of the warm-up.
    pub peak: f64,
    /// Optimizer steps of warm-up.
    pub warmup_steps: u64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
}

impl LinearSchedule {
    /// The rate of the optimizer step with this index, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        let factor = if step < self.warmup_steps {
            step as f64 / self.warmup_steps as f64
        } else {
            let decay = self.total_steps.saturating_sub(self.warmup_steps).max(1);
            self.total_steps.saturating_sub(step) as f64 / decay as f64
        };
        self.peak * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_transformers() {
        // From `learning_rate` of the golden case `padded`: 20 steps, 3 of warm-up.
        let schedule = LinearSchedule { peak: 0.00033113761, warmup_steps: 3, total_steps: 20 };
        let rates = [0, 1, 3, 4, 19].map(|step| schedule.rate(step));
        assert_eq!(
            rates,
            [0.0, 0.00011037920333333333, 0.00033113761, 0.00031165892705882356, 1.9478682941176473e-05]
        );
        assert_eq!(schedule.rate(20), 0.0);
    }
}
