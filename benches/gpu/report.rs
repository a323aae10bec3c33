//! The results as tables in Markdown.

use std::fmt::Write;

use burn_kindling_lab::device;

use crate::case::{Case, Float};
use crate::entry::{Clock, Entry, Timing};

/// The columns after this crate's.
const PEERS: [(&str, &str); 4] = [
    ("burn", "Burn"),
    ("pytorch", "PyTorch"),
    ("pytorch channels last", "PyTorch, channels last"),
    ("pytorch compiled", "`torch.compile`"),
];

pub fn markdown(entries: &[Entry], seconds: f64) -> String {
    let mut page = String::new();
    let device = about(entries).find(|(name, _)| *name == "device");
    let device = device.map_or("a device that did not answer", |(_, value)| value);
    let _ = writeln!(page, "# Batch norm on {device}\n");
    for (name, value) in about(entries) {
        let _ = writeln!(page, "- {name}: {value}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let backends = device::compiled_in().collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        page,
        "- program: burn-kindling {version}, built with {backends}"
    );
    let _ = writeln!(page, "- measured in {seconds:.0} s");
    checks(&mut page, entries);
    let copy = copies(&mut page, entries);
    for dtype in Float::ALL {
        times(&mut page, entries, dtype, copy);
    }
    epochs(&mut page, entries);
    notes(&mut page, entries);
    page
}

fn about(entries: &[Entry]) -> impl Iterator<Item = (&str, &str)> {
    entries.iter().filter_map(|entry| match entry {
        Entry::About { name, value } => Some((&name[..], &value[..])),
        _ => None,
    })
}

fn checks(page: &mut String, entries: &[Entry]) {
    let mut rows = String::new();
    let mut wrong = String::new();
    for dtype in Float::ALL {
        let (mut count, mut bad, mut worst) = (0, 0, 0.0f64);
        for entry in entries {
            let Entry::Check {
                shape,
                dtype: of,
                what,
                errors,
                ..
            } = entry
            else {
                continue;
            };
            if *of != dtype {
                continue;
            }
            count += 1;
            let within = |error: &f64| *error <= 1.0;
            worst = errors
                .values()
                .fold(worst, |worst, &error| worst.max(error));
            if !errors.values().all(within) {
                bad += 1;
                let off: Vec<String> = errors
                    .iter()
                    .filter(|(_, error)| !within(error))
                    .map(|(what, error)| format!("{what} {error:.3e}"))
                    .collect();
                let _ = writeln!(
                    wrong,
                    "- wrong: {dtype} {shape:?} {what}: {}",
                    off.join(", ")
                );
            }
        }
        if count > 0 {
            let _ = writeln!(rows, "| {dtype} | {count} | {bad} | {worst:.3} |");
        }
    }
    if !rows.is_empty() {
        page.push_str(
            "\n## Correctness\n\nAgainst an oracle in f64; errors in units of what rounding explains.\n\n\
             | float type | cases | wrong | largest error |\n| --- | --- | --- | --- |\n",
        );
        page.push_str(&rows);
        if !wrong.is_empty() {
            let _ = write!(page, "\n{wrong}");
        }
    }
}

/// Lists the copies, and returns the highest bandwidth, in bytes per second.
fn copies(page: &mut String, entries: &[Entry]) -> Option<f64> {
    let mut best = None;
    for entry in entries {
        let Entry::Copy { who, bytes, time } = entry else {
            continue;
        };
        if best.is_none() {
            page.push_str(
                "\n## Copies within the device's memory\n\nRead and written bytes per second.\n\n",
            );
            page.push_str("| by | MB | GB/s |\n| --- | --- | --- |\n");
        }
        let bandwidth = *bytes as f64 / time.median * 1e3;
        let megabytes = *bytes as f64 / 2e6;
        let _ = writeln!(page, "| {who} | {megabytes:.0} | {:.0} |", bandwidth / 1e9);
        best = Some(bandwidth.max(best.unwrap_or_default()));
    }
    best
}

fn times(page: &mut String, entries: &[Entry], dtype: Float, copy: Option<f64>) {
    let mut cases: Vec<&Case> = Vec::new();
    for entry in entries {
        if let Entry::Time { case, .. } = entry
            && case.dtype == dtype
            && !cases.contains(&case)
        {
            cases.push(case);
        }
    }
    if cases.is_empty() {
        return;
    }
    let time = |case: &Case, by: &str| {
        entries.iter().find_map(|entry| match entry {
            Entry::Time {
                who,
                case: of,
                time,
                moved,
                kernels,
            } if who == by && of == case => Some((time, *moved, kernels)),
            _ => None,
        })
    };
    let _ = writeln!(page, "\n## {dtype}\n");
    page.push_str(
        "Milliseconds per call: the median, with the 10th and 90th percentile. \"Moved\" is \
         what this crate's kernels read and write. \"Share\" is the bandwidth at the bytes that any implementation must \
         move, in percent of a copy's; above 100, the data was in a cache. \"Kernels\" is \
         the time of the kernels alone.\n\n",
    );
    page.push_str("| shape | case | must move, MB | moved | this crate | share, % | kernels |");
    for (_, title) in PEERS {
        let _ = write!(page, " {title} |");
    }
    page.push_str(" Burn / this crate | best of PyTorch / this crate |\n|");
    page.push_str(&" --- |".repeat(7 + PEERS.len() + 2));
    page.push('\n');
    for case in cases {
        let ours = time(case, "ours");
        let megabytes = case.must_move() as f64 / 1e6;
        let share = ours.zip(copy).map(|((time, ..), copy)| {
            format!(
                "{:.0}",
                100.0 * case.must_move() as f64 / time.median * 1e3 / copy
            )
        });
        let moved = ours.and_then(|(_, moved, _)| moved);
        let kernels = ours.map(|(_, _, kernels)| {
            format!(
                "{:.4}",
                kernels
                    .iter()
                    .map(|kernel| kernel.milliseconds)
                    .sum::<f64>()
            )
        });
        let _ = write!(
            page,
            "| {:?} | {} | {megabytes:.1} | {} | {} | {} | {} |",
            case.shape,
            case.work(),
            moved.map_or("-".into(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
            ours.map_or("-".into(), |(time, ..)| shown(time)),
            share.unwrap_or("-".into()),
            kernels.unwrap_or("-".into()),
        );
        let peers = PEERS.map(|(who, _)| time(case, who).map(|(time, ..)| time));
        for peer in peers {
            let _ = write!(page, " {} |", peer.map_or("-".into(), shown));
        }
        let best = |times: &[Option<&Timing>]| {
            let medians = times.iter().flatten().map(|time| time.median);
            medians.min_by(f64::total_cmp)
        };
        for other in [best(&peers[..1]), best(&peers[1..])] {
            let ratio = other
                .zip(ours)
                .map(|(other, (time, ..))| other / time.median);
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.1}"));
            let _ = write!(page, " {ratio} |");
        }
        page.push('\n');
    }
}

fn shown(time: &Timing) -> String {
    let host = if time.clock == Clock::Host {
        " (host)"
    } else {
        ""
    };
    format!(
        "{:.4} ({:.4}-{:.4}){host}",
        time.median, time.low, time.high
    )
}

fn epochs(page: &mut String, entries: &[Entry]) {
    let mut rows = String::new();
    for entry in entries {
        if let Entry::Epoch {
            who,
            network,
            norm,
            images,
            seconds,
            launches,
        } = entry
        {
            let rate = *images as f64 / seconds;
            let launches = launches.map_or("-".into(), |launches| launches.to_string());
            let _ = writeln!(
                rows,
                "| {network} | {norm} | {who} | {seconds:.2} | {rate:.0} | {launches} |"
            );
        }
    }
    if !rows.is_empty() {
        page.push_str(
            "\n## Epochs on MNIST\n\nThe second epoch in batches of 128, with a validation. Norm `batch` is this crate's.\n\n\
             | network | norm | framework | s | images/s | launches per training step |\n\
             | --- | --- | --- | --- | --- | --- |\n",
        );
        page.push_str(&rows);
    }
}

/// Lists what failed; cases of a part that failed alike, together.
fn notes(page: &mut String, entries: &[Entry]) {
    let mut notes: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for entry in entries {
        let Entry::Note { part, case, text } = entry else {
            continue;
        };
        let cases = match notes.iter_mut().find(|it| it.0 == part && it.1 == text) {
            Some((_, _, cases)) => cases,
            None => {
                notes.push((part, text, Vec::new()));
                &mut notes.last_mut().expect("it was just added").2
            }
        };
        cases.extend(case.as_deref());
    }
    if notes.is_empty() {
        return;
    }
    page.push_str("\n## What failed or was left out\n\n");
    for (part, text, cases) in notes {
        let listed = match cases[..] {
            [] => String::new(),
            [first] => format!(" ({first})"),
            [first, .., last] => format!(" ({} cases: {first} ... {last})", cases.len()),
        };
        let _ = writeln!(page, "- {part}: {text}{listed}");
    }
}
