//! The dry run as text.

use super::survey::{File, LabelCount, Lost, Part, Seconds, Section, Shown, Survey};
use crate::numbers::{percent, seconds, thousands};
use gptjc_runtime::data::rows::Skipped;
use gptjc_runtime::data::survey::{Bar, Lengths};
use std::fmt::Write;

/// What encloses text that is learned.
const LEARNED: [&str; 2] = ["⟦", "⟧"];
/// Characters of the longest bar.
const BAR: usize = 40;

/// The page.
pub(super) fn page(survey: &Survey) -> String {
    let mut out = String::new();
    let sections = [("Training data", &survey.training), ("Evaluation data", &survey.evaluation)];
    for (title, section) in
        sections.into_iter().filter_map(|(title, section)| Some((title, section.as_ref()?)))
    {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "{title}");
        write_section(&mut out, section);
    }
    out
}

fn write_section(out: &mut String, section: &Section) {
    for file in &section.files {
        row(out, "file", &file_line(file));
    }
    if let Some(labels) = &section.labels {
        row(out, "labels", &label_line(labels));
    }
    if let Some(lengths) = &section.lengths {
        write_lengths(out, lengths);
    }
    write_windows(out, section);
    if let Some(took) = &section.seconds {
        row(out, "time", &time_line(took));
    }
    for (index, example) in section.examples.iter().enumerate() {
        write_example(out, index + 1, example);
    }
    write_first_window(out, section);
}

fn row(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {name:<10} {text}");
}

fn file_line(file: &File) -> String {
    let File { path, format, container, .. } = file;
    let kind = if container == format || *container == "text" {
        (*format).to_owned()
    } else {
        format!("{format}, {container}")
    };
    let rows = counted(file.rows, "row", "rows");
    let skipped = match file.skipped {
        Skipped::NOTHING => String::new(),
        skipped => format!("; skipped {skipped}"),
    };
    format!("{path} ({kind}): {rows}{skipped}")
}

fn label_line(labels: &[LabelCount]) -> String {
    let all: u64 = labels.iter().map(|count| count.rows).sum();
    let share = |rows: u64| percent(rows as f64 / all.max(1) as f64);
    let label =
        |count: &LabelCount| format!("{} {} ({})", count.label, thousands(count.rows), share(count.rows));
    labels.iter().map(label).collect::<Vec<_>>().join(", ")
}

fn write_lengths(out: &mut String, lengths: &Lengths) {
    let Lengths { examples, tokens, shortest, longest, mean, percentiles, histogram } = lengths;
    let (examples, tokens) = (counted(*examples, "example", "examples"), number(*tokens));
    row(
        out,
        "examples",
        &format!("{examples} of {tokens} tokens, {mean:.1} each; shortest {shortest}, longest {longest}"),
    );
    let rank = |(percent, length): (&u8, &usize)| format!("{length} in {percent} %");
    row(out, "", &format!("at most {}", percentiles.iter().map(rank).collect::<Vec<_>>().join(", ")));
    let most = histogram.iter().map(|bar| bar.examples).max().unwrap_or_default().max(1);
    let name = |bar: &Bar| match bar.to {
        Some(to) if to == bar.from => format!("{to}"),
        Some(to) => format!("{}-{to}", bar.from),
        None => format!("{}-", bar.from),
    };
    let names: Vec<String> = histogram.iter().map(name).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default().max("tokens".len());
    let _ = writeln!(out, "\n  {:>width$}   examples", "tokens");
    for (name, bar) in names.iter().zip(histogram) {
        let (count, drawn) = (number(bar.examples), drawn(bar.examples, most));
        let _ = writeln!(out, "{}", format!("  {name:>width$} {count:>10}  {drawn}").trim_end());
    }
    out.push('\n');
}

/// A bar in eighths of a character.
fn drawn(count: usize, most: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (count * BAR * 8).div_ceil(most);
    let mut bar = "█".repeat(eighths / 8);
    let rest = eighths % 8;
    if rest > 0 {
        bar.push(EIGHTHS[rest]);
    }
    bar
}

fn write_windows(out: &mut String, section: &Section) {
    let used = &section.windows;
    let packing =
        if section.packing == "none" { String::new() } else { format!(" (packing: {})", section.packing) };
    row(
        out,
        "windows",
        &format!(
            "{} of at most {} tokens{packing}: {} tokens in {}, {} full",
            number(used.windows),
            number(used.window_length),
            number(used.slots),
            counted(used.segments, "segment", "segments"),
            percent(used.filled_share())
        ),
    );
    let none = match used.without_label {
        0 => String::new(),
        windows => format!("; {} without any teach nothing", counted(windows, "window", "windows")),
    };
    let (labelled, share) = (number(used.labelled), percent(section.labelled_share));
    row(out, "labelled", &format!("{labelled} tokens, {share}{none}"));
    if let Some(lost) = &section.lost {
        let lines = lost_lines(lost, used.window_length);
        lines.iter().for_each(|line| row(out, "left out", line));
    }
}

fn lost_lines(lost: &Lost, window_length: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if lost.truncated_examples > 0 {
        lines.push(format!(
            "{} tokens at the end of {} of more than {window_length}; {} lost all labels",
            number(lost.truncated_tokens),
            counted(lost.truncated_examples, "example", "examples"),
            number(lost.answers_lost)
        ));
    }
    if lost.remainder_tokens > 0 {
        lines.push(format!(
            "{} at the end, too few for a window",
            counted(lost.remainder_tokens, "token", "tokens")
        ));
    }
    if lost.windows_cut > 0 {
        lines.push(format!("{} beyond --max-train-samples", counted(lost.windows_cut, "window", "windows")));
    }
    lines
}

/// The phases that took time: the tokenizer is loaded once, for what comes first.
fn time_line(took: &Seconds) -> String {
    let phases = [
        (took.read, "reading"),
        (took.load_tokenizer, "loading the tokenizer"),
        (took.tokenize, "tokenizing"),
        (took.pack, "packing"),
    ];
    let worth_it = phases.iter().filter(|(time, _)| *time >= 1e-4);
    let phases: Vec<String> = worth_it.map(|(time, name)| format!("{} {name}", seconds(*time))).collect();
    format!("{}: {}", seconds(took.total), phases.join(", "))
}

fn write_example(out: &mut String, number: usize, example: &Shown) {
    let Shown { file, line, line_noun, tokens, learned, parts } = example;
    let [open, close] = LEARNED;
    let _ = writeln!(
        out,
        "\n  example {number}: {file}, {line_noun} {line}; {}, {learned} of them learned, between {open} and {close}",
        counted(*tokens, "token", "tokens")
    );
    write_parts(out, parts);
}

fn write_first_window(out: &mut String, section: &Section) {
    let many = section.first_window.len() > 1;
    for (index, parts) in section.first_window.iter().enumerate() {
        let segment = if many { format!(", segment {}", index + 1) } else { String::new() };
        let _ = writeln!(out, "\n  first window{segment}");
        write_parts(out, parts);
    }
}

/// Text with its learned parts enclosed, indented; a new line begins where a text ends.
fn write_parts(out: &mut String, parts: &[Part]) {
    let [open, close] = LEARNED;
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let (before, after) = if part.learned { (open, close) } else { ("", "") };
        let end = if part.ends_text && index + 1 < parts.len() { "\n" } else { "" };
        let _ = write!(text, "{before}{}{after}{end}", part.text);
    }
    for line in text.split('\n') {
        let _ = writeln!(out, "    {line}");
    }
}

fn number(value: usize) -> String {
    thousands(value as u64)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_in_eighths() {
        assert_eq!(drawn(0, 10), "");
        assert_eq!(drawn(10, 10), "█".repeat(BAR));
        assert_eq!(drawn(1, 1000), "▏", "what is there is seen");
        assert_eq!(drawn(1, 80), "▌");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "row", "rows"), "1 row");
        assert_eq!(counted(27565, "row", "rows"), "27,565 rows");
    }
}
