//! Steps as a trace that Chrome's `about:tracing` and Perfetto show.

use serde_json::{Value, json};

/// A span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What is shown on it.
    pub name: String,
    /// What it is coloured and found by.
    pub category: String,
    /// Nanoseconds from the origin to its beginning.
    pub start_ns: u64,
    /// Nanoseconds from the origin to its end.
    pub end_ns: u64,
    /// What is shown when it is clicked.
    pub arguments: Value,
}

/// The trace: complete events (`ph` is `X`) of one thread, times in microseconds.
pub fn chrome_trace(spans: &[Span]) -> Value {
    let event = |span: &Span| {
        json!({
            "name": span.name, "cat": span.category, "ph": "X", "pid": 1, "tid": 1,
            "ts": span.start_ns as f64 / 1e3,
            "dur": span.end_ns.saturating_sub(span.start_ns) as f64 / 1e3,
            "args": span.arguments,
        })
    };
    json!({"displayTimeUnit": "ms", "traceEvents": spans.iter().map(event).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_complete_event_in_microseconds() {
        let span = Span {
            name: "add".into(),
            category: "elementwise".into(),
            start_ns: 1500,
            end_ns: 4000,
            arguments: json!({"module": "h.0"}),
        };
        let event = json!({"name": "add", "cat": "elementwise", "ph": "X", "pid": 1, "tid": 1, "ts": 1.5, "dur": 2.5,
            "args": {"module": "h.0"}});
        assert_eq!(chrome_trace(&[span])["traceEvents"], json!([event]));
    }
}
