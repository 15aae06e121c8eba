//! What a run leaves for those who look at it later: the log as lines of JSON and as TensorBoard's events, and the record of
//! the run itself.
//!
//! [`Records`] is told how a run goes on, as an [`Observer`](crate::train::Observer), and writes all three. None of them is
//! needed to resume; a file that cannot be written is said once, and training goes on.

mod collected;
mod event_file;
mod metrics_file;
mod profile;
mod records;
mod run_record;
mod time;

pub use collected::{Collected, NoRun};
pub use event_file::EventFile;
pub use metrics_file::{METRICS_FILE, MetricsFile, MetricsLine, read_lines};
pub use profile::predicted;
pub use records::{Records, ReportTo};
pub use run_record::{
    Answers, EvaluationRecord, MachineFacts, ModelFacts, PlanFacts, RUN_FILE, RUN_FORMAT, RunExtent,
    RunFacts, RunRecord, RunRecordError, RunStatus, Session,
};
pub use time::utc;
