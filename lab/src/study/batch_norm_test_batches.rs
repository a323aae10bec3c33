//! Small and lopsided test batches: one trained network, normalised with its running statistics and with the statistics
//! of all kinds of test batches.

use burn::data::dataloader::batcher::Batcher;
use burn_kindling::norm::Mode;
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, IOFFE, WU};
use super::error::ExperimentError;
use super::guess::Guess;
use super::inference::{BATCH, training};
use super::results::Results;
use super::runs::{Run, Runs, Setting};
use super::setup::Setup;
use super::table::Table;
use crate::data::{DigitBatcher, ImageSet};
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{Classifier, Normalization};
use crate::train::{TrainConfig, evaluate};

/// Sizes of test batches.
const SIZES: [usize; 9] = [2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Images in a batch of a single class.
const CLASS_BATCH: usize = 128;

#[derive(Clone, PartialEq, Serialize)]
struct Network;

/// Test accuracy with each kind of statistics.
#[derive(Serialize, Deserialize)]
struct Scores {
    running: f64,
    /// The batch's own statistics, for batches of each of [`SIZES`].
    own: Vec<f64>,
    single_class: f64,
    /// Each image as a batch of two copies: a batch of one has no variance.
    one_image: f64,
}

impl Setting for Network {
    type Result = Scores;
    const SEEDS: [usize; 2] = [5, 2];

    fn config(&self, setup: &Setup) -> TrainConfig {
        training(setup.pick(5, 2), BATCH)
    }

    fn run(&self, run: &Run) -> Result<Scores, ExperimentError> {
        let setup = run.setup;
        let images = setup.split(setup.pick(55_000, 11_000), 1000);
        let (trained, ()) = run.train(&images, |_, _| {})?;
        let test = &setup.data.test;
        let images = test.subset(0..setup.pick(10_000, 2000).min(test.len()));
        let own = |batches: Vec<Vec<usize>>| {
            Mode::TestTimeAdaptation.run(|| accuracy(setup, &trained.network, &images, batches))
        };
        let all: Vec<usize> = (0..images.len()).collect();
        let classes = (0..ImageSet::CLASSES).flat_map(|class| {
            let of_class = |&&i: &&usize| usize::from(images.label(i)) == class;
            let indices: Vec<usize> = all.iter().filter(of_class).copied().collect();
            batches(&indices, CLASS_BATCH)
        });
        Ok(Scores {
            running: evaluate(&trained.network, &images, &setup.device).accuracy,
            own: SIZES.map(|size| own(batches(&all, size))).into(),
            single_class: own(classes.collect()),
            one_image: own(all.iter().take(1000).map(|&i| vec![i; 2]).collect()),
        })
    }
}

/// Batches of `size` images. If one image remains, it is left out: a single image has no variance.
fn batches(indices: &[usize], size: usize) -> Vec<Vec<usize>> {
    let chunks = indices.chunks(size).filter(|chunk| chunk.len() > 1);
    chunks.map(<[usize]>::to_vec).collect()
}

/// The share of the images in all batches that the network classifies correctly.
fn accuracy(
    setup: &Setup,
    network: &Classifier,
    images: &ImageSet,
    batches: Vec<Vec<usize>>,
) -> f64 {
    let (mut right, mut count) = (0, 0);
    for batch in batches {
        count += batch.len();
        let digits = batch.into_iter().map(|i| images.digit(i)).collect();
        let batch = DigitBatcher.batch(digits, &setup.device);
        right += network.forward_step(batch).right();
    }
    right as f64 / count as f64
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let runs = setup.measure(name, [Network])?;
    Ok(Results {
        figures: vec![figure(&runs)],
        claims: claims(&runs),
        table: table(&runs),
        facts: facts(&runs),
        guess: Some(guess(&runs)),
    })
}

fn figure(runs: &Runs<Network>) -> Figure {
    let sizes = SIZES.iter().enumerate();
    let own = sizes.map(|(i, &size)| (size as f64, runs.values(Network, |it| it.own[i])));
    let level = |label: &str, color: Color, score: fn(&Scores) -> f64| {
        let median = runs.median(Network, score);
        Series::line(label, color, SIZES.map(|size| [size as f64, median]))
    };
    let amber = Normalization::Batch.into();
    let panel = Panel::new(
        Axis::log("images in a test batch", [1.0, 700.0]),
        Axis::linear("test accuracy (share)", [0.0, 1.0]),
    )
    .with([level("running statistics", amber, |it| it.running)])
    .with(Series::spread(
        "the test batch's own statistics",
        Color::INK,
        own,
    ))
    .with([
        level("one class, own statistics", Color::INK, |it| {
            it.single_class
        })
        .stroke(Stroke::Dashed),
        level("single image, own statistics", Color::INK, |it| {
            it.one_image
        })
        .stroke(Stroke::Dotted),
    ]);
    Figure::new(
        "test-batches",
        "Test accuracy of one trained network, by the statistics that normalise",
        "Guessing is right 1 time in 10. The horizontal lines do not depend on the batch size.",
    )
    .panel(panel)
}

/// The numbers that the story names: accuracies, in percent.
fn facts(runs: &Runs<Network>) -> Vec<(&'static str, String)> {
    let percent =
        |score: fn(&Scores) -> f64| format!("{:.0} %", 100.0 * runs.median(Network, score));
    vec![
        ("running", percent(|it| it.running)),
        ("pairs", percent(|it| it.own[0])),
        ("largest", percent(|it| it.own[SIZES.len() - 1])),
        ("one-class", percent(|it| it.single_class)),
        ("single", percent(|it| it.one_image)),
    ]
}

fn guess(runs: &Runs<Network>) -> Guess {
    let choice =
        |label: &str, score: fn(&Scores) -> f64| (label.to_string(), runs.median(Network, score));
    Guess::least(
        "A trained network is tested with the test batch's own statistics. In which batches does it get the fewest images right?",
        "test accuracy (share)",
        [
            choice("2 images of any class", |it| it.own[0]),
            choice("32 images of any class", |it| it.own[4]),
            choice("512 images of any class", |it| it.own[SIZES.len() - 1]),
            choice("128 images of one class", |it| it.single_class),
        ],
    )
}

fn claims(runs: &Runs<Network>) -> Vec<Claim> {
    let behind =
        |score: fn(&Scores) -> f64| 100.0 * runs.median(Network, |it| it.running - score(it));
    vec![
        IOFFE
            .says("Normalised by their own statistics, small test batches get wrong answers")
            .measured(
                "accuracy lost against running statistics, batches of 2, in percentage points",
                behind(|it| it.own[0]),
            )
            .holds_if(Bound::AtLeast(5.0)),
        WU.says("In large batches of all classes, the difference is small")
            .measured(
                "accuracy lost against running statistics, batches of 512, in percentage points",
                behind(|it| it.own[SIZES.len() - 1]),
            )
            .holds_if(Bound::Between(-1.0, 1.0)),
        WU.says("A batch of a single class collapses under its own statistics")
            .measured(
                "accuracy lost against running statistics, batches of 128 of one class, in percentage points",
                behind(|it| it.single_class),
            )
            .holds_if(Bound::AtLeast(20.0)),
        IOFFE
            .says("A single image cannot be classified by its own statistics: it equals its own mean")
            .measured(
                "test accuracy, each image as a batch of two copies (guessing: 0.1)",
                runs.median(Network, |it| it.one_image),
            )
            .holds_if(Bound::AtMost(0.2)),
    ]
}

fn table(runs: &Runs<Network>) -> Table {
    let mut table = Table::new(&["statistics", "batch_size", "seed"]);
    for run in &runs.0 {
        let scores = &run.result;
        let mut add = |statistics: &str, size: Option<usize>, value| {
            table.add((statistics, size, run.seed), [("test_accuracy", value)]);
        };
        add("running", None, scores.running);
        for (size, &value) in SIZES.into_iter().zip(&scores.own) {
            add("own", Some(size), value);
        }
        add("own, single class", Some(CLASS_BATCH), scores.single_class);
        add("single image, own statistics", Some(1), scores.one_image);
    }
    table
}
