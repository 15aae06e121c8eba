//! A topology that is made up, so that what runs on large machines can be tested on small ones.

use super::{Core, Topology, affinity};
use std::fmt;
use std::str::FromStr;

/// Sockets of equally many cores, each socket with its own memory: `2x1` is two sockets of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pretended {
    sockets: usize,
    cores: usize,
}

impl Pretended {
    /// The topology. Its cores are run by the hardware threads that there are, in turn.
    pub fn topology(self) -> Topology {
        let allowed = affinity::allowed();
        let core = |index: usize| {
            let cpu = allowed.get(index % allowed.len().max(1)).copied().unwrap_or(0);
            let socket = index / self.cores;
            Core { cpu, siblings: vec![cpu], socket, node: socket }
        };
        let cores = (0..self.sockets * self.cores).map(core).collect();
        Topology { cores, caches: Vec::new(), quota: None, pretended: true }
    }
}

impl fmt::Display for Pretended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.sockets, self.cores)
    }
}

impl FromStr for Pretended {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| (1..=256).contains(number));
        text.split_once('x')
            .and_then(|(sockets, cores)| Some(Self { sockets: number(sockets)?, cores: number(cores)? }))
            .ok_or_else(|| {
                "expected sockets and cores of a socket, each from 1 to 256, such as 2x1".to_owned()
            })
    }
}
