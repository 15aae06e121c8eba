//! Signals that end a run.

use gptjc_runtime::train::StopFlag;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::io;

/// What a shell says of a process that a signal ended: this and the signal's number.
const BY_SIGNAL: i32 = 128;

/// From now on the first SIGINT or SIGTERM raises `flag`, and the next one ends the process at once.
pub(crate) fn raise(flag: &StopFlag) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: what is registered first looks at the flag before it is raised.
        register_conditional_shutdown(signal, BY_SIGNAL + signal, flag.raw())?;
        register(signal, flag.raw())?;
    }
    Ok(())
}
