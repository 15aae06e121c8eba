//! What a launcher of ranks says of this process, before MPI is asked.

/// A process that a launcher started several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Who started it.
    pub launcher: &'static str,
    /// Number of this process, from 0.
    pub rank: usize,
    /// How often it was started; at least 2.
    pub count: usize,
}

/// Launchers with their variables: number of ranks, and number of this one.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("mpirun of Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun of MPICH or Intel MPI", "PMI_SIZE", "PMI_RANK"),
    ("mpirun of MVAPICH2", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    // Of the step: a batch script itself is one process, however many tasks its job has.
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
];

/// Whether this process is one of several, by the environment.
pub fn launched() -> Option<Launched> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    LAUNCHERS.into_iter().find_map(|(launcher, count, rank)| {
        let count = number(count).filter(|&count| count > 1)?;
        Some(Launched { launcher, rank: number(rank).unwrap_or(0), count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_known_by_their_launcher() {
        let of = |variables: &[(&str, &str)]| {
            launched_by(|name| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        assert_eq!(of(&[("SLURM_NTASKS", "8")]), None);
        let found = of(&[("PMI_SIZE", "4"), ("PMI_RANK", "3")]).unwrap();
        assert_eq!((found.rank, found.count), (3, 4));
        let found = of(&[("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1")]).unwrap();
        assert_eq!((found.launcher, found.rank, found.count), ("srun", 1, 2));
    }
}
