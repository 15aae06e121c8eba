//! Runs a parser on cases until its time is over, and holds each against its bounds.

use crate::allocator::peak;
use crate::mutation::{Case, case};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a parser runs, if the environment does not say otherwise.
const SHORT: Duration = Duration::from_millis(1500);
/// The longest that a case may take; inputs have at most [`crate::mutation::LONGEST`] bytes.
const SLOWEST: Duration = Duration::from_secs(5);
/// When nobody waits any more: the process is ended, with the case in a file.
const HANGS: Duration = Duration::from_secs(60);
/// Cases between looks at the clock.
const ROUND: u32 = 256;
/// Bytes allocated for a byte of input, at most.
const RATIO: usize = 16;

/// A parser.
pub(crate) struct Parser {
    /// Valid inputs.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Pieces that inputs are made of, to be put where they do not belong.
    pub(crate) pieces: &'static [&'static [u8]],
    /// The file of the directory that the bytes are written to; none if the parser takes bytes.
    pub(crate) file: Option<&'static str>,
    /// Files of the directory that stay as they are.
    pub(crate) beside: Vec<(&'static str, Vec<u8>)>,
    /// Makes checksums and the like right, so that mutations get behind them.
    pub(crate) fix: fn(&mut [u8]),
    /// Bytes that may be allocated whatever the input.
    pub(crate) constant: usize,
    /// Parses; true if the input was accepted.
    pub(crate) parse: fn(&[u8], &Path) -> bool,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    cases: u64,
    accepted: u64,
    /// Largest peak of an input, beyond the constant, for a byte of it.
    ratio: f64,
    /// Largest peak, and the input of it.
    peak: (usize, usize),
    slowest: Duration,
}

/// Runs `parser`, whose name is `name`.
pub(crate) fn fuzz(name: &str, parser: &Parser) {
    // In memory, where there is such a place: a case takes microseconds.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(place).unwrap();
    for (file, bytes) in &parser.beside {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let figures = RefCell::new(Figures::default());
    let watchdog = Watchdog::start(name);
    let failed = |bytes: &[u8]| -> Result<(), TestCaseError> {
        watchdog.case_begins(bytes);
        let outcome = judge(parser, bytes, directory.path(), &figures);
        watchdog.case_ends();
        outcome
    };
    for seed in &parser.seeds {
        failed(seed).unwrap_or_else(|error| panic!("{name}: a valid input: {error}"));
    }
    let seeds = figures.borrow().accepted;
    assert_eq!(seeds, parser.seeds.len() as u64, "{name}: valid inputs are accepted");
    let time = number("GPTJC_FUZZ_SECONDS").map(Duration::from_secs);
    let strategy = case(parser.pieces.len());
    let begun = Instant::now();
    for round in 0.. {
        if begun.elapsed() >= time.unwrap_or(SHORT) {
            break;
        }
        let outcome = runner(round).run(&strategy, |case| {
            let bytes = bytes_of(parser, &case);
            failed(&bytes)
        });
        if let Err(TestError::Fail(reason, case)) = outcome {
            let bytes = bytes_of(parser, &case);
            panic!(
                "{name}: {reason}\n{} bytes: \"{}\"",
                bytes.len(),
                bytes[..bytes.len().min(4000)].escape_ascii()
            );
        }
    }
    if time.is_some() {
        report(name, &figures.into_inner());
    }
}

fn bytes_of(parser: &Parser, case: &Case) -> Vec<u8> {
    let mut bytes = case.bytes(&parser.seeds, parser.pieces);
    (parser.fix)(&mut bytes);
    bytes
}

/// Parses `bytes` and holds time and memory against the bounds.
fn judge(
    parser: &Parser,
    bytes: &[u8],
    directory: &Path,
    figures: &RefCell<Figures>,
) -> Result<(), TestCaseError> {
    let mut input = bytes.len();
    if let Some(file) = parser.file {
        let path = directory.join(file);
        fs::write(path, bytes).unwrap();
        input += parser.beside.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    let mut accepted = false;
    let begun = Instant::now();
    let peak = peak(|| accepted = (parser.parse)(bytes, directory));
    let elapsed = begun.elapsed();
    let mut figures = figures.borrow_mut();
    figures.cases += 1;
    figures.accepted += u64::from(accepted);
    figures.slowest = figures.slowest.max(elapsed);
    let beyond = peak.saturating_sub(parser.constant);
    figures.ratio = figures.ratio.max(beyond as f64 / input.max(1) as f64);
    figures.peak = figures.peak.max((peak, input));
    if beyond > RATIO * input {
        return Err(TestCaseError::fail(format!("{input} bytes of input took {peak} bytes of memory")));
    }
    if elapsed > SLOWEST {
        return Err(TestCaseError::fail(format!("{input} bytes of input took {elapsed:?}")));
    }
    Ok(())
}

/// A runner of [`ROUND`] cases; each round has its own.
fn runner(round: u64) -> TestRunner {
    let config =
        Config { cases: ROUND, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("GPTJC_FUZZ_SEED").unwrap_or(0).to_le_bytes());
    seed[8..16].copy_from_slice(&round.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// A number in the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn report(name: &str, figures: &Figures) {
    let Figures { cases, accepted, ratio, peak: (peak, input), slowest } = figures;
    // Not `eprintln!`: its output is hidden when a test passes.
    let line = format!(
        "{name}: {cases} cases, {accepted} accepted; peak {peak} bytes for {input}, {ratio:.2} bytes a byte beyond the \
         constant; slowest {slowest:?}\n"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Ends the process if a case does not come back.
struct Watchdog {
    running: Arc<Mutex<Running>>,
}

/// What the watchdog looks at.
#[derive(Default)]
struct Running {
    /// When the case began, and its bytes; none between cases.
    case: Option<(Instant, Vec<u8>)>,
    /// True when there will be no more.
    is_over: bool,
}

impl Watchdog {
    fn start(name: &str) -> Self {
        let running = Arc::new(Mutex::new(Running::default()));
        let (watched, name) = (Arc::clone(&running), name.to_owned());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let running = watched.lock().unwrap();
                if running.is_over {
                    return;
                }
                let Some((_, bytes)) = running.case.as_ref().filter(|(begun, _)| begun.elapsed() > HANGS)
                else {
                    continue;
                };
                let dump = std::env::temp_dir().join(format!("gptjc-fuzz-{name}"));
                let _ = fs::write(&dump, bytes);
                let message = format!("{name} does not come back from the bytes in {}\n", dump.display());
                let _ = std::io::stderr().write_all(message.as_bytes());
                std::process::abort();
            }
        });
        Self { running }
    }

    fn case_begins(&self, bytes: &[u8]) {
        self.running.lock().unwrap().case = Some((Instant::now(), bytes.to_vec()));
    }

    fn case_ends(&self) {
        self.running.lock().unwrap().case = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A panic of another thread does not matter here.
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
    }
}
