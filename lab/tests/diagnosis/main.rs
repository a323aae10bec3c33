//! How often `diagnose` is right: on networks that are healthy or sick by construction.
//!
//! `cargo test --test diagnosis -- --nocapture` prints the results.
//!
//! A sick network is found if a finding tells its sickness, at the right place if the case names one. Precision and
//! recall count networks: found ones are true positives, healthy ones with any finding are false positives. Beside
//! that, single findings are counted: right are those that tell the sickness or name a consequence of it.
#![cfg(feature = "flex")]

mod network;
mod set_a;
mod set_b;
mod sickness;

use std::collections::BTreeMap;

use burn_kindling::init::Activation::{Relu, Tanh};
use burn_kindling::init::InitStrategy::{He, SmallNormal, Xavier};
use burn_kindling::observe::{Finding, Report};
use burn_kindling_lab::model::{ModelConfig, Normalization as Norm};
use burn_kindling_lab::train::OptimizerKind::{Adam, Sgd};
use network::Look::Step;
use network::{Case, cnn, mlp};

/// What was found in one network.
struct Outcome {
    case: Case,
    findings: Vec<Finding>,
}

impl Outcome {
    fn of(case: Case) -> Self {
        let findings = case.run().0.diagnose();
        Self { case, findings }
    }

    fn tells(&self, finding: &Finding) -> bool {
        let at = |place: &str| finding.places().iter().any(|it| it.ends_with(place));
        self.case.told_by.contains(&finding.kind()) && self.case.at.is_none_or(at)
    }

    /// Whether the diagnosis is right about the network: it finds the sickness, or nothing where there is none.
    fn is_right(&self) -> bool {
        match self.case.sickness {
            None => self.findings.is_empty(),
            Some(_) => self.findings.iter().any(|it| self.tells(it)),
        }
    }

    fn false_findings(&self) -> impl Iterator<Item = &Finding> {
        let expected = [self.case.told_by, self.case.consequences].concat();
        let findings = self.findings.iter();
        findings.filter(move |it| !expected.contains(&it.kind()))
    }
}

/// Diagnoses the networks, prints the results, and returns precision, recall and the precision of single findings.
fn diagnose(set: &str, cases: Vec<Case>) -> [f64; 3] {
    let outcomes: Vec<Outcome> = cases.into_iter().map(Outcome::of).collect();
    println!("\nset {set}\n");
    for outcome in &outcomes {
        let false_findings: Vec<_> = outcome.false_findings().collect();
        if !outcome.is_right() || !false_findings.is_empty() {
            let kinds: Vec<_> = outcome.findings.iter().map(Finding::kind).collect();
            let verdict = if outcome.is_right() { "also" } else { "wrong" };
            println!("{verdict}: {}\n  found: {kinds:?}", outcome.case);
            for finding in false_findings {
                println!("  {}", finding.to_string().lines().next().unwrap());
            }
        }
    }
    let mut kinds = BTreeMap::<_, [usize; 2]>::new();
    for outcome in &outcomes {
        let [all, right] = kinds
            .entry(outcome.case.sickness.unwrap_or("healthy"))
            .or_default();
        *all += 1;
        *right += usize::from(outcome.is_right());
    }
    println!("\n| network | count | right |\n| --- | --- | --- |");
    for (kind, [all, right]) in kinds {
        println!("| {kind} | {all} | {right} |");
    }
    let number = |of: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|it| of(it)).count() as f64;
    let sick = number(&|it| it.case.sickness.is_some());
    let found = number(&|it| it.case.sickness.is_some() && it.is_right());
    let alarmed = number(&|it| it.case.sickness.is_none() && !it.is_right());
    let findings = outcomes.iter().map(|it| it.findings.len()).sum::<usize>() as f64;
    let wrong = (outcomes.iter())
        .map(|it| it.false_findings().count())
        .sum::<usize>() as f64;
    let scores = [
        found / (found + alarmed),
        found / sick,
        1.0 - wrong / findings,
    ];
    let [precision, recall, of_findings] = scores;
    println!(
        "\n{} networks, {sick} sick: precision {precision:.3}, recall {recall:.3}; {findings} findings, {wrong} of them \
         wrong: precision {of_findings:.3}",
        outcomes.len(),
    );
    scores
}

fn assert_right(set: &str, cases: Vec<Case>) {
    let scores = diagnose(set, cases);
    assert!(scores.iter().all(|it| *it >= 0.95), "{scores:?}");
}

/// The networks that were looked at while the thresholds were set.
#[test]
fn networks_that_set_the_thresholds() {
    assert_right("A", set_a::cases());
}

#[test]
fn networks_made_after_the_thresholds_were_set() {
    assert_right("B", set_b::cases());
}

/// The largest update of a weight: its root mean square, divided by that of the weight or by 1/√n for n inputs.
fn largest_update(report: &Report) -> f64 {
    let weights = report.parameters.iter().filter(|it| it.shape.len() > 1);
    let updates = weights.map(|it| {
        let inputs: usize = match it.shape[..] {
            [inputs, _] => inputs,
            ref shape => shape[1..].iter().product(),
        };
        it.update_rms.expect("a step") / it.rms.max(1.0 / (inputs as f64).sqrt())
    });
    updates.fold(0.0, f64::max)
}

/// Where the threshold of updates that are too large comes from.
#[test]
#[ignore = "a measurement of three minutes"]
fn whether_a_network_learns_shows_in_the_size_of_its_first_step() {
    let plain: Vec<ModelConfig> = vec![
        mlp(&[100; 5], Relu, He, Norm::None),
        mlp(&[100; 5], Tanh, Xavier, Norm::None),
        mlp(&[500; 2], Relu, He, Norm::None),
        mlp(&[16; 2], Relu, He, Norm::None),
        cnn(Relu, He, Norm::None),
    ];
    let normed = vec![
        mlp(&[100; 5], Relu, He, Norm::Batch),
        mlp(&[100; 5], Relu, SmallNormal, Norm::Batch),
        cnn(Relu, He, Norm::Batch),
    ];
    let rates = [
        (Sgd, [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
        (Adam, [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]),
    ];
    let rates = || {
        rates
            .iter()
            .flat_map(|(kind, rates)| rates.map(|rate| (*kind, rate)))
    };
    // The first update, and whether the loss falls from 2.3 below 1.
    let measure = |models: &[ModelConfig]| -> Vec<(f64, bool)> {
        let run = |model: &ModelConfig, (optimizer, rate)| {
            let case = Case::healthy(model.clone()).optimizer(optimizer, rate);
            let loss = case.clone().look(Step(150)).run().1;
            (largest_update(&case.run().0), loss < 1.0)
        };
        let of_model = |model| rates().map(move |rate| run(model, rate));
        models.iter().flat_map(of_model).collect()
    };
    println!(
        "\n| first step | without norm | learn | with batch norm | learn |\n| --- | --- | --- | --- | --- |"
    );
    let (plain, normed) = (measure(&plain), measure(&normed));
    let within = |runs: &[(f64, bool)], least: f64, most: f64| {
        let runs = runs
            .iter()
            .filter(|(update, _)| (least..most).contains(update));
        let learned = runs.clone().filter(|(_, learned)| *learned).count();
        (runs.count(), learned)
    };
    for ends in [0.0, 0.1, 0.5, 2.0, f64::INFINITY].windows(2) {
        let [(all, learned), (all_normed, learned_normed)] =
            [&plain, &normed].map(|runs| within(runs, ends[0], ends[1]));
        println!(
            "| {} to {} | {all} | {learned} | {all_normed} | {learned_normed} |",
            ends[0], ends[1]
        );
    }
    let (all, learned) = within(&plain, 0.0, 0.5);
    assert!(learned as f64 >= 0.95 * all as f64, "{learned} of {all}");
    let (all, learned) = within(&plain, 0.5, f64::INFINITY);
    assert!(learned as f64 <= 0.05 * all as f64, "{learned} of {all}");
}
