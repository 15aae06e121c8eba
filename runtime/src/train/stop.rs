//! The flag that ends a run before its last step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised from anywhere, a signal handler included, it ends a run at its next plan step; whole windows are kept.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// The flag behind `raised`.
    pub fn new(raised: Arc<AtomicBool>) -> Self {
        Self(raised)
    }

    /// The flag itself, for a signal handler.
    pub fn raw(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Ends the run.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the run is to end.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
