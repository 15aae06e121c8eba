//! Tests of `schedule`. The numbers were computed in plain Python from the formulas of transformers, and are those of
//! its `get_scheduler` (4.57.6, with torch 2.15.0), bit by bit.

use super::*;

/// The learning rate of the reference workflow.
const PEAK: f64 = 3.3113761e-4;

/// Kind, and the rates of steps 0, 1, 3, 4, 10 and 19 of 20 steps of which 3 are warm-up.
const RATES: [(&str, [f64; 6]); 7] = [
    (
        "linear",
        [
            0.0,
            0.00011037920333333333,
            0.00033113761,
            0.00031165892705882356,
            0.0001947868294117647,
            1.9478682941176473e-05,
        ],
    ),
    (
        "cosine",
        [
            0.0,
            0.00011037920333333333,
            0.00033113761,
            0.00032831848646180955,
            0.00021087885923896167,
            2.819123538190504e-06,
        ],
    ),
    (
        "cosine_with_restarts",
        [
            0.0,
            0.00011037920333333333,
            0.00033113761,
            0.00032831848646180955,
            0.00021087885923896167,
            2.819123538190504e-06,
        ],
    ),
    (
        "polynomial",
        [
            0.0,
            0.00011037920333333333,
            0.00033113761,
            0.00031166480941176473,
            0.00019482800588235295,
            1.9572800588235298e-05,
        ],
    ),
    ("constant", [PEAK; 6]),
    ("constant_with_warmup", [0.0, 0.00011037920333333333, PEAK, PEAK, PEAK, PEAK]),
    (
        "inverse_sqrt",
        [
            0.0,
            0.00011037920333333333,
            0.00033113761,
            0.000286773582408464,
            0.00018137153863534826,
            0.0001315807437258556,
        ],
    ),
];

/// Kind, and the digests of all rates for (0, 1000), (37, 613) and (1875, 18750) steps of warm-up and in all.
///
/// Cosines are not among them: Python takes the system's, whose last bit may be another.
const DIGESTS: [(&str, [u64; 3]); 5] = [
    ("linear", [0xf185_07f1_ccec_2d0f, 0x7f19_f2f9_14fd_c5d3, 0x4f73_68d2_d135_a6c6]),
    ("polynomial", [0x61df_dd2e_f3c6_4605, 0xf54a_319f_d0f2_856d, 0x20da_14a4_5d4c_23e3]),
    ("constant", [0x41d7_c635_b1c8_5535, 0x5421_02dc_3ef0_c9e0, 0x0a18_769c_559f_2c55]),
    ("constant_with_warmup", [0x41d7_c635_b1c8_5535, 0xbaab_38d3_2c4c_0b44, 0x3456_87db_6272_88c3]),
    ("inverse_sqrt", [0xb26b_2388_36ee_ab12, 0x047e_0728_22a8_e649, 0x8d1a_12d8_dd54_a5e8]),
];

fn schedule(kind: &str, warmup_steps: u64, total_steps: u64) -> Schedule {
    Schedule { kind: kind.parse().unwrap(), peak: PEAK, warmup_steps, total_steps }
}

#[test]
fn rates_are_those_of_transformers() {
    for (kind, rates) in RATES {
        let schedule = schedule(kind, 3, 20);
        assert_eq!([0, 1, 3, 4, 10, 19].map(|step| schedule.rate(step)), rates, "{kind}");
    }
}

#[test]
fn every_bit_of_every_rate_is_that_of_transformers() {
    for (kind, digests) in DIGESTS {
        let digest = |(warmup_steps, total_steps)| {
            let schedule = schedule(kind, warmup_steps, total_steps);
            let bits = (0..=total_steps).map(|step| schedule.rate(step).to_bits());
            bits.fold(0u64, |digest, bits| digest.wrapping_mul(31).wrapping_add(bits))
        };
        assert_eq!([(0, 1000), (37, 613), (1875, 18750)].map(digest), digests, "{kind}");
    }
}

#[test]
fn cosines_are_those_of_the_system_but_for_their_last_bit() {
    for kind in ["cosine", "cosine_with_restarts"] {
        for (warmup_steps, total_steps) in [(0, 1000), (37, 613), (1875, 18750)] {
            let schedule = schedule(kind, warmup_steps, total_steps);
            for step in warmup_steps..total_steps {
                let progress = (step - warmup_steps) as f64 / (total_steps - warmup_steps) as f64;
                let expected = PEAK * (0.5 * (1.0 + (std::f64::consts::PI * progress).cos()));
                let difference = (schedule.rate(step) - expected).abs();
                assert!(difference <= PEAK * f64::EPSILON, "{kind}, step {step}: off by {difference:e}");
            }
        }
    }
}

#[test]
fn every_kind_is_tested_and_has_the_name_that_it_is_read_by() {
    assert_eq!(RATES.map(|(kind, _)| kind), SchedulerKind::ALL.map(SchedulerKind::name));
    for kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "reduce_lr_on_plateau".parse::<SchedulerKind>().unwrap_err();
    assert!(error.contains("linear, cosine, ") && error.ends_with("inverse_sqrt"), "{error}");
}

#[test]
fn steps_of_warm_up_win_over_their_ratio() {
    let options = |warmup_steps, warmup_ratio| TrainOptions {
        learning_rate: PEAK,
        lr_scheduler_type: SchedulerKind::Cosine,
        warmup_steps,
        warmup_ratio,
        ..TrainOptions::default()
    };
    let warmup = |steps, ratio, total| Schedule::new(&options(steps, ratio), total).warmup_steps;
    // `get_warmup_steps` of transformers' TrainingArguments: ceil(1875 * 0.03) = ceil(56.25).
    assert_eq!(warmup(0, 0.03, 1875), 57);
    assert_eq!(warmup(7, 0.03, 1875), 7);
    assert_eq!([0.0, 1e-9, 0.5, 1.0].map(|ratio| warmup(0, ratio, 11)), [0, 1, 6, 11]);
    let schedule = Schedule::new(&options(3, 0.5), 20);
    assert_eq!(
        schedule,
        Schedule { kind: SchedulerKind::Cosine, peak: PEAK, warmup_steps: 3, total_steps: 20 }
    );
}

#[test]
fn no_schedule_leaves_its_range() {
    for kind in SchedulerKind::ALL {
        for (warmup_steps, total_steps) in [(0, 1), (5, 5), (9, 5), (0, 0)] {
            for peak in [PEAK, 0.0, POLYNOMIAL_END] {
                let schedule = Schedule { kind, peak, warmup_steps, total_steps };
                let rates = (0..12).map(|step| schedule.rate(step));
                for (step, rate) in rates.enumerate() {
                    assert!((0.0..=peak).contains(&rate), "{schedule:?}, step {step}: {rate}");
                }
            }
        }
    }
}
