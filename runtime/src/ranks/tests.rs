//! Ranks of one process.

use super::local::{self, LocalTransport};
use super::*;

/// What `each` returns on `count` ranks.
fn on_ranks<T: Send>(count: usize, each: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let each = &each;
    std::thread::scope(|scope| {
        let spawn = |transport: LocalTransport| scope.spawn(move || each(Ranks::new(Box::new(transport))));
        let threads: Vec<_> = local::ranks(count).into_iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn everybody_gets_what_each_brings() {
    let all = on_ranks(3, |ranks| {
        let own = vec![ranks.rank() as u8; ranks.rank() + 1];
        let first = ranks.of_first(own.clone()).unwrap();
        (ranks.gather(own).unwrap(), first, ranks.part(8))
    });
    for (rank, (gathered, first, part)) in all.into_iter().enumerate() {
        assert_eq!(gathered, [vec![0], vec![1, 1], vec![2, 2, 2]]);
        assert_eq!(first, [0]);
        assert_eq!(part, [0..2, 2..5, 5..8][rank]);
    }
}

#[test]
fn alone_there_is_nobody_to_ask() {
    let ranks = Ranks::new(Box::new(local::ranks(1).remove(0)));
    assert!(ranks.is_alone() && ranks.is_first() && ranks.speaks());
    assert_eq!(ranks.gather(vec![7]).unwrap(), [vec![7]]);
    assert_eq!(ranks.stand(Standing::Stopped), Ok(Standing::Stopped));
    assert_eq!(ranks.traffic().sent, 0);
}

#[test]
fn one_that_stops_stops_all_and_one_that_fails_is_named() {
    let standings = on_ranks(3, |ranks| {
        let own = if ranks.rank() == 1 { Standing::Stopped } else { Standing::Done };
        (ranks.stand(Standing::Done).unwrap(), ranks.stand(own).unwrap())
    });
    assert!(standings.iter().all(|pair| *pair == (Standing::Done, Standing::Stopped)), "{standings:?}");

    let ends = on_ranks(4, |ranks| {
        let failed = |rank| Standing::Failed(format!("no disk on {rank}"));
        let own = if ranks.rank() >= 2 { failed(ranks.rank()) } else { Standing::Done };
        (ranks.stand(own), ranks.speaks())
    });
    let elsewhere = RanksError::Elsewhere { rank: 2, message: "no disk on 2".to_owned() };
    for (rank, (end, speaks)) in ends.into_iter().enumerate() {
        let expected =
            if rank == 2 { Ok(Standing::Failed("no disk on 2".to_owned())) } else { Err(elsewhere.clone()) };
        assert_eq!((end, speaks), (expected, rank == 2));
    }
}

#[test]
fn a_rank_that_hangs_or_leaves_is_named() {
    let ends = on_ranks(3, |ranks| {
        ranks.wait_at_most(Some(Duration::from_millis(500)));
        if ranks.rank() == 1 {
            std::thread::sleep(Duration::from_millis(1500));
            return (None, false);
        }
        (ranks.gather(Vec::new()).err(), ranks.speaks())
    });
    let silent = Some(RanksError::Silent { ranks: vec![1], seconds: 0 });
    assert_eq!(ends, [(silent.clone(), true), (None, false), (silent, false)]);

    let ends = on_ranks(2, |ranks| match ranks.rank() {
        0 => ranks.gather(Vec::new()).err(),
        _ => None,
    });
    assert_eq!(ends[0], Some(RanksError::Left { rank: 1 }));
}

#[test]
fn a_rank_elsewhere_in_the_run_is_noticed() {
    let ends = on_ranks(2, |ranks| {
        let bytes = if ranks.rank() == 0 { 3 } else { 4 };
        ranks.exchange(vec![vec![0; bytes]; 2], &[bytes; 2]).err()
    });
    assert_eq!(ends[0], Some(RanksError::Length { rank: 1, expected: 3, found: 4 }));
}
