//! Every table of tidy, in one place. Each row has its reason.
//!
//! A row may only be added together with its reason, and is removed with its cause: tidy reports rows that
//! exempt something which no longer exists.

/// A path with the reason why it is in its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// A file, or a folder if it ends in `/`.
    pub(super) path: &'static str,
    pub(super) reason: &'static str,
}

/// Files that nobody writes by hand: their size and the size of their functions is not looked at.
pub(super) const GENERATED_FILES: &[Place] =
    &[Place { path: "graphs/src/onnx/proto.rs", reason: "made of onnx.proto by `cargo xtask onnx-proto`" }];

/// Where `unsafe` may be. Folders are the border that ARCHITECTURE.md draws; files are single exceptions.
pub(super) const UNSAFE_PLACES: &[Place] = &[
    Place { path: "runtime/src/kernels/", reason: "vector instructions and disjoint writes into one output" },
    Place { path: "runtime/src/memory/", reason: "arenas and memory maps hand out typed views of raw bytes" },
    Place { path: "runtime/src/isa/", reason: "instruction wrappers behind proof tokens" },
    Place {
        path: "runtime/src/executor/bind.rs",
        reason: "gives views of arena and weights to kernels that it owns",
    },
    Place {
        path: "runtime/src/executor/team.rs",
        reason: "calls kernels under the promises that the plan's verifier proved",
    },
    Place {
        path: "runtime/src/executor/reader.rs",
        reason: "writes streamed weights where the plan's verifier proved that nobody reads",
    },
    Place { path: "runtime/src/ranks/mpi.rs", reason: "calls the C library that joins ranks" },
    Place {
        path: "benches/benches/peers.rs",
        reason: "calls other libraries' products, whose interfaces are unsafe",
    },
    Place {
        path: "runtime/tests/no_allocation.rs",
        reason: "an allocator that counts, to show that a run allocates nothing",
    },
    Place {
        path: "tests/tests/fuzz/allocator.rs",
        reason: "an allocator that counts, to show that a parser's memory is bounded by its input",
    },
];

/// Crate roots that must carry `#![forbid(unsafe_code)]`.
pub(super) const FORBID_UNSAFE: &[Place] = &[
    Place { path: "graphs/src/lib.rs", reason: "what is computed is data" },
    Place { path: "compiler/src/lib.rs", reason: "compiling is data in, data out" },
    Place { path: "world/src/lib.rs", reason: "words and sentences" },
    Place { path: "cli/src/main.rs", reason: "flags and messages" },
    Place { path: "xtask/src/main.rs", reason: "chores" },
];

/// Which packages of the workspace a package may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrateRule {
    pub(super) package: &'static str,
    /// In every kind of dependency.
    pub(super) may_use: &'static [&'static str],
    /// Whether its dev-dependencies may be any package of the workspace.
    pub(super) dev_may_use_all: bool,
    pub(super) reason: &'static str,
}

/// The arrows of ARCHITECTURE.md: cli → runtime → (plan format) ← compiler → graphs.
pub(super) const CRATE_EDGES: &[CrateRule] = &[
    CrateRule {
        package: "gptjc-graphs",
        may_use: &[],
        dev_may_use_all: false,
        reason: "what is computed does not know who compiles or runs it",
    },
    CrateRule {
        package: "gptjc-compiler",
        may_use: &["gptjc-graphs"],
        dev_may_use_all: false,
        reason: "the compiler never sees a tensor's contents",
    },
    CrateRule {
        package: "gptjc-runtime",
        may_use: &["gptjc-graphs"],
        dev_may_use_all: false,
        reason: "the plan is the only thing between compiler and runtime",
    },
    CrateRule {
        package: "gptjc-world",
        may_use: &[],
        dev_may_use_all: false,
        reason: "a world to train in does not know who trains",
    },
    CrateRule {
        package: "gptjc",
        may_use: &["gptjc-graphs", "gptjc-compiler", "gptjc-runtime", "gptjc-world"],
        dev_may_use_all: false,
        reason: "the command joins the parts",
    },
    CrateRule {
        package: "gptjc-tests",
        may_use: &["gptjc-graphs", "gptjc-compiler", "gptjc-runtime"],
        dev_may_use_all: true,
        reason: "tests across crates see all of them, and nothing depends on tests",
    },
    CrateRule {
        package: "gptjc-benches",
        may_use: &[],
        dev_may_use_all: true,
        reason: "benches see all crates, and nothing depends on benches",
    },
    CrateRule {
        package: "xtask",
        may_use: &[],
        dev_may_use_all: false,
        reason: "chores must run when the rest does not compile",
    },
];

/// A module of `gptjc_graphs` that the runtime may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuntimeImport {
    pub(super) module: &'static str,
    pub(super) reason: &'static str,
}

/// What the runtime may use of `gptjc_graphs`, outside of its tests. Everything else (the graph, its ops, the
/// interpreter, autodiff, the models) it must never see: the plan says all there is to do.
pub(super) const RUNTIME_IMPORTS: &[RuntimeImport] = &[
    RuntimeImport { module: "plan", reason: "the plan is what the runtime executes" },
    RuntimeImport {
        module: "dtype",
        reason: "leaf type the plan is made of: how a buffer's elements are stored",
    },
    RuntimeImport {
        module: "attributes",
        reason: "leaf types the plan is made of: the constants of a kernel call",
    },
    RuntimeImport {
        module: "shape",
        reason: "leaf types the plan is made of: bounds and extents of a buffer",
    },
    RuntimeImport {
        module: "layout",
        reason: "which operand of a fused op is what, shared with the shape rules",
    },
    RuntimeImport {
        module: "hyper",
        reason: "layout of the optimizer's control buffer, which the runtime fills",
    },
    RuntimeImport {
        module: "philox",
        reason: "the one definition of a dropout mask, shared with the reference",
    },
    RuntimeImport { module: "onnx", reason: "recipes of an export's initializers, streamed by the runtime" },
];

/// What an op stem must have besides its file in `graphs/src/ops/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StemPlace {
    /// `runtime/src/kernels/<stem>.rs` or `runtime/src/kernels/<stem>/`.
    Kernel,
    /// `tests/filetests/ops/<stem>.gir` or `tests/filetests/ops/<stem>/`.
    Filetest,
}

/// A place that an op stem need not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct StemExemption {
    pub(super) stem: &'static str,
    pub(super) place: StemPlace,
    pub(super) reason: &'static str,
}

/// What `op_stems` knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stems<'a> {
    /// Files and folders of `graphs/src/ops/` that are no op, by stem.
    pub(super) helpers: &'a [Place],
    pub(super) exemptions: &'a [StemExemption],
}

/// One stem an op: what is no op, and what does not apply to an op.
pub(super) const STEMS: Stems<'static> = Stems {
    helpers: &[Place { path: "check", reason: "what the shape rules of all ops share" }],
    exemptions: &[],
};
