//! `gptjc bench machine`: peaks and bandwidths, kept as this machine's description.

use super::{giga, threads};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::MachineFlags;
use gptjc_graphs::plan::{Target, target_file};
use gptjc_runtime::bench::disk::{self, DiskSpeed};
use gptjc_runtime::bench::memory::{self, Bandwidth};
use gptjc_runtime::bench::peak;
use gptjc_runtime::files::FileError;
use gptjc_runtime::files::atomic::write_bytes;
use gptjc_runtime::isa::peak::Loop;
use gptjc_runtime::machine;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a peak is measured at a time.
const PEAK_TIME: Duration = Duration::from_millis(100);

/// A loop's FLOP/s.
struct Peak {
    name: &'static str,
    /// Whether it is of products of bf16.
    bf16: bool,
    one_thread: f64,
    all_threads: f64,
}

/// All that was measured.
struct Measured {
    threads: usize,
    peaks: Vec<Peak>,
    one_thread: Bandwidth,
    all_threads: Bandwidth,
    disk: Option<(PathBuf, DiskSpeed)>,
}

/// Runs the command.
pub(crate) fn run(flags: &MachineFlags, console: Console) -> Result<(), CliError> {
    let measured = measure(flags)?;
    let target = measured.target();
    let file = keep(&target)?;
    if flags.measure.json {
        return console.json(&measured.json(&target, file));
    }
    measured.lines().iter().for_each(|line| console.line(line));
    match file {
        Some(file) => console.line(&format!("kept in {}", file.display())),
        None => console.warn("there is no cache directory to keep this in; set XDG_CACHE_HOME"),
    }
    Ok(())
}

fn measure(flags: &MachineFlags) -> Result<Measured, CliError> {
    let (threads, rounds) = (threads(&flags.measure), flags.measure.rounds as usize);
    let of_loop = |one: Loop| {
        // Others' work only takes away: the best of the rounds is what the machine can do.
        let best = |threads| (0..rounds).map(|_| peak::measure(one, threads, PEAK_TIME)).fold(0.0, f64::max);
        let bf16 = matches!(one, Loop::Avx512Bf16(_));
        Peak { name: one.name(), bf16, one_thread: best(1), all_threads: best(threads) }
    };
    let memory = |threads| {
        memory::measure(threads, rounds, flags.buffer as usize)
            .map_err(|source| CliError::Bench(source.into()))
    };
    let time = Duration::from_secs_f64(flags.disk_seconds);
    let disk = match &flags.path {
        Some(path) => Some((path.clone(), disk::measure(path, time)?)),
        None => None,
    };
    Ok(Measured {
        threads,
        peaks: peak::loops().into_iter().map(of_loop).collect(),
        one_thread: memory(1)?,
        all_threads: memory(threads)?,
        disk,
    })
}

impl Measured {
    /// This machine's description with what was measured; what was not stays as an earlier run left it.
    fn target(&self) -> Target {
        let host = machine::host();
        let best = |bf16: bool| {
            let peaks = self.peaks.iter().filter(|peak| bf16 || !peak.bf16);
            peaks.map(|peak| peak.all_threads).fold(0.0, f64::max) / self.threads as f64
        };
        let disk = self.disk.as_ref().filter(|(_, speed)| speed.direct);
        Target {
            peak_f32: best(false).round(),
            peak_bf16: best(true).round(),
            memory_bandwidth: self.all_threads.read.round(),
            disk_bandwidth: disk.map_or(host.disk_bandwidth, |(_, speed)| speed.bytes_per_second.round()),
            ..host
        }
    }

    fn json(&self, target: &Target, file: Option<PathBuf>) -> Value {
        let peak = |peak: &Peak| json!({"name": peak.name, "gflops_one_thread": peak.one_thread / 1e9, "gflops": peak.all_threads / 1e9});
        let memory = |found: Bandwidth| json!({"read_gbs": found.read / 1e9, "copy_gbs": found.copy / 1e9});
        let disk = self.disk.as_ref().map(|(path, speed)| {
            let gbs = speed.bytes_per_second / 1e9;
            json!({"path": path, "read_gbs": gbs, "bytes": speed.bytes, "direct": speed.direct})
        });
        json!({
            "threads": self.threads,
            "peaks": self.peaks.iter().map(peak).collect::<Vec<_>>(),
            "memory": {"one_thread": memory(self.one_thread), "all_threads": memory(self.all_threads)},
            "disk": disk,
            "target": target_file::print(target),
            "kept_in": file,
        })
    }

    fn lines(&self) -> Vec<String> {
        let threads = self.threads;
        let mut lines: Vec<String> = self
            .peaks
            .iter()
            .map(|Peak { name, one_thread, all_threads, .. }| {
                let (one, all) = (giga(*one_thread), giga(*all_threads));
                format!("{name:<32} {all:>8} GFLOP/s on {threads} threads, {one} on one")
            })
            .collect();
        for (name, one, all) in [
            ("memory, read", self.one_thread.read, self.all_threads.read),
            ("memory, copy (read + write)", self.one_thread.copy, self.all_threads.copy),
        ] {
            let (one, all) = (giga(one), giga(all));
            lines.push(format!("{name:<32} {all:>8} GB/s on {threads} threads, {one} on one"));
        }
        if let Some((path, speed)) = &self.disk {
            let cached = if speed.direct { "" } else { " (through the cache, so not kept)" };
            let gbs = speed.bytes_per_second / 1e9;
            lines.push(format!("{:<32} {gbs:>8.2} GB/s from {}{cached}", "disk, read", path.display()));
        }
        lines
    }
}

/// Writes the description into the cache, if there is one.
fn keep(target: &Target) -> Result<Option<PathBuf>, CliError> {
    let Some(file) = machine::measurements_file() else { return Ok(None) };
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|source| FileError::new("create the directory", parent, source))?;
    }
    write_bytes(&file, target_file::print(target).as_bytes())?;
    Ok(Some(file))
}
