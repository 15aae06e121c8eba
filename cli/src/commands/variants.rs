//! The kernel variants of `gptjc doctor`: which this CPU can run, what the self-test says, and why one is not used.

use gptjc_graphs::plan::Isa;
use gptjc_runtime::isa;
use gptjc_runtime::self_test::{Report, Verdict};
use serde_json::{Value, json};

/// An instruction set that kernels are written for.
pub(crate) struct Variant {
    isa: Isa,
    /// What the CPU lacks of it.
    lacks: Vec<&'static str>,
    detected: bool,
    usable: bool,
    verdict: Option<Verdict>,
}

/// Every variant, with its verdict in `report`; `features` are those of this CPU.
pub(crate) fn variants(report: Option<&Report>, features: &[&'static str]) -> Vec<Variant> {
    let variant = |isa: Isa| {
        let verdicts = report.map(|report| report.verdicts.as_slice()).unwrap_or_default();
        let required = isa::requirements(isa).iter().copied();
        Variant {
            isa,
            lacks: required.filter(|feature| !features.contains(feature)).collect(),
            detected: isa::detected(isa),
            usable: isa::usable(isa),
            verdict: verdicts.iter().find(|verdict| verdict.isa == isa.name()).cloned(),
        }
    };
    Isa::ALL.map(variant).into()
}

impl Variant {
    /// Name of the instruction set.
    pub(crate) fn name(&self) -> &'static str {
        self.isa.name()
    }

    /// True if its kernels are used.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable
    }

    /// Why it is used or not, in a few words.
    fn state(&self) -> String {
        match (&self.verdict, self.isa) {
            (_, Isa::Portable) => "usable: the reference that the others are tested against".to_owned(),
            _ if !self.detected && self.lacks.is_empty() => {
                "not usable: the system does not allow it".to_owned()
            }
            _ if !self.detected => format!("not usable: this CPU lacks {}", self.lacks.join(" ")),
            (Some(verdict), _) if !verdict.differ.is_empty() => {
                format!(
                    "switched off: {} kernels differ, such as {}",
                    verdict.differ.len(),
                    verdict.differ[0]
                )
            }
            _ if !self.usable => "switched off with what it builds on".to_owned(),
            (Some(verdict), _) if verdict.agree.is_empty() => {
                "usable, and no kernel is written for it".to_owned()
            }
            (Some(verdict), _) => format!("usable, self-test passed: {} kernels agree", verdict.agree.len()),
            (None, _) => "usable, not yet tested: run `gptjc doctor --self-test`".to_owned(),
        }
    }

    /// A line of the page.
    pub(crate) fn line(&self) -> String {
        format!("  {:<11} {}", self.isa.name(), self.state())
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let verdict = self.verdict.as_ref();
        json!({
            "isa": self.isa.name(), "detected": self.detected, "usable": self.usable, "lacks": self.lacks,
            "self_test": verdict.map(|verdict| json!({"agree": verdict.agree, "differ": verdict.differ})),
            "state": self.state(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(differ: &[&str]) -> Report {
        let differ = differ.iter().map(|&text| text.to_owned()).collect();
        let agree = vec!["add-f32-avx2".to_owned()];
        Report { verdicts: vec![Verdict { isa: "avx2".into(), agree, differ }] }
    }

    #[test]
    fn a_state_says_why() {
        let variant = |report: Option<&Report>, detected: bool, usable: bool| {
            let mut avx2 = variants(report, &["fma", "f16c"]).remove(1);
            (avx2.detected, avx2.usable) = (detected, usable);
            avx2.state()
        };
        assert_eq!(variant(None, false, false), "not usable: this CPU lacks avx2");
        assert_eq!(variant(None, true, true), "usable, not yet tested: run `gptjc doctor --self-test`");
        assert_eq!(variant(Some(&report(&[])), true, true), "usable, self-test passed: 1 kernels agree");
        let failed = report(&["add-f32-avx2: result 0"]);
        let expected = "switched off: 1 kernels differ, such as add-f32-avx2: result 0";
        assert_eq!(variant(Some(&failed), true, false), expected);
        assert_eq!(variants(None, &[]).len(), Isa::ALL.len());
    }
}
