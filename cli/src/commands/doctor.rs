//! `gptjc doctor`: what this machine has, what it lacks, and what to do about it.

use super::large_model::{self, LargeModel};
use super::self_test;
use super::variants::{Variant, variants};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::DoctorCommand;
use crate::flags::values::human_bytes;
use gptjc_runtime::diagnosis::{Diagnosis, SystemFiles, diagnose, free_disk_bytes};
use gptjc_runtime::validate::fetch::{WHEEL, fetch};
use gptjc_runtime::validate::library::{LibraryError, Surroundings, cache_folder, load};
use serde_json::{Value, json};
use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};

/// Runs the command.
pub(crate) fn run(command: &DoctorCommand, console: Console) -> Result<(), CliError> {
    if command.fetch_onnxruntime {
        fetch_library(console)?;
    }
    let report = if command.self_test { Some(self_test::run_and_keep(console)?) } else { self_test::kept() };
    if let Some(report) = &report {
        self_test::apply(report, console);
    }
    let machine = diagnose(&SystemFiles::default());
    let page = Page {
        variants: variants(report.as_ref(), &machine.cpu.features),
        machine,
        disks: disks(),
        library: load(&Surroundings::of_process()).map(|runtime| runtime.path),
        large_model: LargeModel::predict(),
    };
    if command.json {
        return console.json(&page.json());
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = page.write(&mut text);
    console.line(&text);
    Ok(())
}

/// Fetches ONNX Runtime into the cache, unless it is there.
pub(super) fn fetch_library(console: Console) -> Result<(), CliError> {
    let cache = cache_folder().ok_or_else(|| CliError::Usage {
        what: "there is no cache directory: neither XDG_CACHE_HOME nor HOME is an absolute path".to_owned(),
        advice: "set XDG_CACHE_HOME".to_owned(),
    })?;
    let fetched =
        fetch(&WHEEL, Path::new("python3"), &cache).map_err(|source| CliError::Fetch(source.into()))?;
    let verb = if fetched.was_there { "is there already" } else { "was fetched" };
    console.note(&format!("ONNX Runtime {verb}: {}", fetched.path.display()));
    Ok(())
}

/// A place where files are written, and the bytes free there.
struct Disk {
    purpose: &'static str,
    path: PathBuf,
    free: Option<u64>,
}

fn disks() -> Vec<Disk> {
    let here = std::env::current_dir().ok().map(|path| ("current directory", path));
    let cache = cache_folder().map(|path| ("gptjc's cache", path));
    let disk =
        |(purpose, path): (&'static str, PathBuf)| Disk { purpose, free: free_disk_bytes(&path), path };
    here.into_iter().chain(cache).map(disk).collect()
}

/// What the command shows.
struct Page {
    machine: Diagnosis,
    variants: Vec<Variant>,
    disks: Vec<Disk>,
    library: Result<PathBuf, LibraryError>,
    /// What GPT-J-6B would take; or why it cannot be trained here.
    large_model: Result<LargeModel, CliError>,
}

/// `value`, or that it is not known.
fn known<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "unknown".to_owned(), T::to_string)
}

fn known_bytes(value: Option<u64>) -> String {
    known(&value.map(human_bytes))
}

impl Page {
    fn json(&self) -> Value {
        let Diagnosis { cpu, cores, memory, caches, topology } = &self.machine;
        let disk = |disk: &Disk| json!({"purpose": disk.purpose, "path": disk.path, "free_bytes": disk.free});
        json!({
            "cpu": cpu, "cores": cores, "memory": memory, "caches": caches,
            "kernels": self.variants.iter().filter(|one| one.is_usable()).map(Variant::name).collect::<Vec<_>>(),
            "variants": self.variants.iter().map(Variant::json).collect::<Vec<_>>(),
            "topology": topology, "threads": topology.threads(),
            "disks": self.disks.iter().map(disk).collect::<Vec<_>>(),
            "onnxruntime": match &self.library {
                Ok(path) => json!({"found": path}),
                Err(error) => json!({"found": null, "error": error.to_string(), "tried": tried(error)}),
            },
            "gpt_j_6b": match &self.large_model {
                Ok(predicted) => json!({"predicted": predicted}),
                Err(error) => json!({"predicted": null, "error": large_model::why_not(error)}),
            },
        })
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        self.write_cpu(out)?;
        self.write_memory(out)?;
        for disk in &self.disks {
            let Disk { purpose, path, free } = disk;
            writeln!(out, "disk          {} free at `{}` ({purpose})", known_bytes(*free), path.display())?;
        }
        self.write_library(out)?;
        match &self.large_model {
            Ok(predicted) => {
                writeln!(out, "GPT-J-6B      {}", predicted.to_string().replace('\n', "\n              "))
            }
            Err(error) => {
                writeln!(out, "GPT-J-6B      cannot be trained here: {}", large_model::why_not(error))
            }
        }
    }

    fn write_library(&self, out: &mut String) -> fmt::Result {
        match &self.library {
            Ok(path) => writeln!(out, "ONNX Runtime  {}", path.display()),
            Err(error) => {
                let reason = error.to_string().replace('\n', "\n              ");
                writeln!(
                    out,
                    "ONNX Runtime  none, so exports cannot be validated here\n              {reason}"
                )
            }
        }
    }

    fn write_cpu(&self, out: &mut String) -> fmt::Result {
        let Diagnosis { cpu, cores, caches, .. } = &self.machine;
        writeln!(out, "CPU           {}", known(&cpu.model))?;
        writeln!(out, "  has         {}", cpu.features.join(" "))?;
        writeln!(out, "  lacks       {}", cpu.missing_features.join(" "))?;
        writeln!(
            out,
            "cores         {} may be used (affinity {}) of {} hardware threads on {} cores, {} sockets, {} NUMA nodes",
            cores.usable,
            known(&cores.affinity),
            cores.hardware_threads,
            known(&cores.physical),
            known(&cores.sockets),
            known(&cores.numa_nodes)
        )?;
        self.write_threads(out)?;
        let cache = |cache: &gptjc_runtime::diagnosis::Cache| {
            format!("L{} {} {}", cache.level, cache.kind, cache.size)
        };
        let caches = caches.iter().map(cache).collect::<Vec<_>>().join(", ");
        writeln!(out, "caches        {}", if caches.is_empty() { "unknown" } else { caches.as_str() })?;
        writeln!(out, "kernels       variants, the later preferred:")?;
        self.variants.iter().try_for_each(|variant| writeln!(out, "{}", variant.line()))
    }

    /// The team that `train` would start.
    fn write_threads(&self, out: &mut String) -> fmt::Result {
        let topology = &self.machine.topology;
        let quota = match topology.quota {
            Some(quota) => format!("the control group grants {quota} CPUs"),
            None => "no quota of CPU time".to_owned(),
        };
        let (sockets, nodes) = (topology.sockets(), topology.numa_nodes());
        let cpus = topology.cores.iter().map(|core| core.cpu.to_string()).collect::<Vec<_>>().join(" ");
        writeln!(
            out,
            "threads       {} by default, one a core: {sockets} sockets, {nodes} NUMA nodes, {quota}\n              on CPUs {cpus}",
            topology.threads(),
        )
    }

    fn write_memory(&self, out: &mut String) -> fmt::Result {
        let memory = &self.machine.memory;
        let limit = match memory.cgroup_limit {
            Some(limit) => format!("control group limit {}", human_bytes(limit)),
            None => "no control group limit".to_owned(),
        };
        let (total, available) = (known_bytes(memory.total), known_bytes(memory.available));
        writeln!(out, "memory        {total}, {available} available, {limit}")?;
        match &memory.huge_pages {
            Some(mode) => writeln!(out, "huge pages    {mode}{}", huge_pages_advice(mode)),
            None => writeln!(out, "huge pages    the kernel has no transparent ones"),
        }
    }
}

/// What to do about a mode of transparent huge pages, if anything.
fn huge_pages_advice(mode: &str) -> &'static str {
    match mode {
        "never" => {
            ": weights and temporaries get small pages; `madvise` in /sys/kernel/mm/transparent_hugepage/enabled is faster"
        }
        _ => ", which is used for weights and temporaries",
    }
}

/// Where the library was looked for.
fn tried(error: &LibraryError) -> Vec<Value> {
    match error {
        LibraryError::Named { path, reason } => {
            vec![json!({"place": "ORT_DYLIB_PATH", "path": path, "outcome": reason})]
        }
        LibraryError::NotFound { tried } => tried
            .iter()
            .map(|tried| json!({"place": tried.place, "path": tried.path, "outcome": tried.outcome}))
            .collect(),
    }
}
