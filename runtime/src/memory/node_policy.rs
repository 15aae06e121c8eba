//! On which NUMA nodes the system puts the pages that a thread touches first.
//!
//! By default a page goes to the node of the thread that touches it. That is right for what the thread goes on using, and
//! wrong for what every node reads: all of it would lie on one node, and wait for its memory.
//!
//! Source: set_mempolicy(2), get_mempolicy(2).

use std::io;
use std::marker::PhantomData;

const DEFAULT: libc::c_int = libc::MPOL_DEFAULT;
const INTERLEAVE: libc::c_int = libc::MPOL_INTERLEAVE;
/// Bits of a word of a node mask.
const WORD: usize = libc::c_ulong::BITS as usize;

/// The calling thread's first touches go to several nodes in turn, page by page, until this is dropped. Pages of files that
/// the thread has the system fetch into the page cache do as well.
#[derive(Debug)]
pub(crate) struct Interleaved {
    of_this_thread: PhantomData<*const ()>,
}

impl Interleaved {
    /// Over `nodes`, by number; none if there are fewer than two.
    ///
    /// # Errors
    /// What the system says if it refuses: it knows no such node or no nodes at all, or a sandbox forbids the call.
    pub(crate) fn over(nodes: &[usize]) -> io::Result<Option<Self>> {
        if nodes.len() < 2 {
            return Ok(None);
        }
        let mut mask = vec![0 as libc::c_ulong; nodes.iter().max().unwrap_or(&0) / WORD + 1];
        for node in nodes {
            mask[node / WORD] |= 1 << (node % WORD);
        }
        set(INTERLEAVE, &mask)?;
        Ok(Some(Self { of_this_thread: PhantomData }))
    }
}

impl Drop for Interleaved {
    fn drop(&mut self) {
        let _ = set(DEFAULT, &[]); // what was accepted once, and no node is named
    }
}

fn set(policy: libc::c_int, mask: &[libc::c_ulong]) -> io::Result<()> {
    // The system reads one bit less than it is told of.
    let bits = mask.len() * WORD + usize::from(!mask.is_empty());
    let address = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the mask has at least `bits - 1` bits and is only read, during the call.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, policy, address, bits) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's policy, and the first word of its nodes.
    fn policy() -> Option<(libc::c_int, libc::c_ulong)> {
        let (mut policy, mut mask) = (0, [0 as libc::c_ulong; 16]);
        // SAFETY: both are written during the call, and the mask has as many bits as is said.
        let result = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut policy,
                mask.as_mut_ptr(),
                mask.len() * WORD,
                std::ptr::null::<libc::c_void>(),
                0,
            )
        };
        (result == 0).then_some((policy, mask[0]))
    }

    #[test]
    fn a_thread_spreads_its_pages_for_a_while() {
        let nodes = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
        // A list of one node is refused by `over`, and machines with more are rare: the call itself is tried with node 0.
        match set(INTERLEAVE, &[1]) {
            Ok(()) => {
                assert!(policy().is_none_or(|found| found == (INTERLEAVE, 1)), "{:?}", policy());
                drop(Interleaved { of_this_thread: PhantomData });
                assert!(policy().is_none_or(|found| found == (DEFAULT, 0)), "{:?}", policy());
            }
            // A kernel without nodes, or a sandbox.
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) || nodes.is_empty(),
                "{error}"
            ),
        }
    }

    #[test]
    fn one_node_is_nothing_to_spread_over_and_no_node_is_refused() {
        assert!(Interleaved::over(&[3]).unwrap().is_none());
        assert!(Interleaved::over(&[1000, 1001]).is_err());
    }
}
