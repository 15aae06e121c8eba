//! The thread that reads streamed weights.
//!
//! It carries out the loads of the session's entry point in the plan's order, run after run, in large reads that leave
//! nothing in the page cache; elements of another type than the plan's are converted on the way. Whether it may read and
//! whether it should go on is [`Stream`]'s business.

use super::ExecutorError;
use super::stream::{Schedule, Stream};
use crate::kernels::View;
use crate::memory::file_reader::{FileReader, ReadBuffer};
use crate::weights::{TensorView, WeightDtype, convert};
use gptjc_graphs::dtype::DType;
use half::bf16;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes of one read: enough for a disk's full bandwidth, and to notice soon that a session is over. Tests have small
/// tensors and read them in pieces all the same.
const CHUNK: usize = if cfg!(test) { 1 << 10 } else { 8 << 20 };

/// A frozen tensor in its file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    /// Index of the file among the reader's.
    pub(super) file: usize,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) dtype: WeightDtype,
}

/// A load, bound to its file and its place.
#[derive(Debug)]
pub(super) struct BoundLoad {
    pub(super) source: Source,
    pub(super) target: View,
    pub(super) schedule: Schedule,
}

/// The loads of an entry point, and its number of steps.
#[derive(Debug, Default)]
pub(super) struct EntryLoads {
    pub(super) loads: Vec<BoundLoad>,
    pub(super) steps: u64,
}

/// What the thread works on.
#[derive(Debug)]
pub(super) struct Work {
    /// By entry point.
    pub(super) entries: Vec<EntryLoads>,
    pub(super) files: Vec<FileReader>,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) stream: Arc<Stream>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// A reader for `work`; without any loads there is no thread.
    ///
    /// # Errors
    /// What the system says if it starts no thread.
    ///
    /// # Safety
    /// The targets of all loads are alive until the reader is dropped. Nobody reads or writes the target of a load from
    /// when it may start until it is counted.
    pub(super) unsafe fn start(work: Work) -> std::io::Result<Self> {
        let stream = Arc::new(Stream::default());
        if work.entries.iter().all(|entry| entry.loads.is_empty()) {
            return Ok(Self { stream, thread: None });
        }
        let shared = Arc::clone(&stream);
        let builder = std::thread::Builder::new().name("gptjc-reader".to_owned());
        let thread = builder.spawn(move || read_sessions(work, &shared))?;
        Ok(Self { stream, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic but for an error in gptjc, which was printed then
        }
    }
}

fn read_sessions(mut work: Work, stream: &Stream) {
    let mut buffer = ReadBuffer::new(CHUNK);
    let mut last = 0;
    while let Some((session, entry)) = stream.next_session(last) {
        if let Err(error) = read_session(&mut work, entry, stream, &mut buffer) {
            stream.fail(error);
        }
        last = session;
    }
}

/// Reads for run after run of `entry`, until the session is over.
fn read_session(
    work: &mut Work,
    entry: usize,
    stream: &Stream,
    buffer: &mut ReadBuffer,
) -> Result<(), ExecutorError> {
    let Work { entries, files } = work;
    let EntryLoads { loads, steps } = &entries[entry];
    for run in 0.. {
        for load in loads {
            if !stream.may_start(load.schedule.start(run, *steps)) {
                return Ok(());
            }
            let whole = read(load, &mut files[load.source.file], stream, buffer);
            let error = |source| ExecutorError::Read {
                tensor: load.source.name.clone(),
                file: load.source.path.clone(),
                source,
            };
            if !whole.map_err(error)? {
                return Ok(());
            }
            stream.count_load();
        }
    }
    Ok(())
}

/// Reads one tensor into its place; false if the session ended before.
fn read(
    load: &BoundLoad,
    file: &mut FileReader,
    stream: &Stream,
    buffer: &mut ReadBuffer,
) -> std::io::Result<bool> {
    let BoundLoad { source, target, .. } = load;
    let size = source.dtype.size();
    let elements = target.ty().elements();
    for start in (0..elements).step_by(CHUNK / size) {
        if stream.interrupted() {
            return Ok(false);
        }
        #[cfg(test)]
        super::jitter::pause();
        let piece = start..elements.min(start + CHUNK / size);
        let bytes = file.read(source.offset + (start * size) as u64, piece.len() * size, buffer)?;
        stream.count_bytes(bytes.len());
        let shape = [piece.len()];
        let tensor = TensorView {
            name: &source.name,
            dtype: source.dtype,
            shape: &shape,
            bytes,
            file: &source.path,
            offset: source.offset,
        };
        // SAFETY: the promise that the reader was started with: the load may start, and is not counted yet.
        let converted = unsafe {
            match target.ty().dtype {
                DType::F32 => convert::read_f32_into(&tensor, target.write::<f32>(piece)),
                DType::Bf16 => convert::read_bf16_into(&tensor, target.write::<bf16>(piece)),
                DType::I32 => return Err(std::io::Error::other("no weight is of i32")),
            }
        };
        converted.map_err(std::io::Error::other)?;
    }
    Ok(true)
}
