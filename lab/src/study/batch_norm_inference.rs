//! The cautions: how batch norm is to be used once a network is trained, and how it is not.
//!
//! Three views: one trained network, normalised by its running statistics and by those of all kinds
//! of test batches; biased against unbiased running variances, and running against recalibrated
//! statistics, for training batches of all sizes; and four kinds of running statistics over the first
//! steps of training (after Wu & Johnson 2021, arXiv:2105.07576).

use std::sync::{Arc, Mutex};

use burn::data::dataloader::batcher::Batcher;
use burn::module::{Module, Param};
use burn::nn::{self, Linear};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::claim::{IOFFE, KINGMA, WU};
use super::setup::{mlp, probe};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::data::{DigitBatch, DigitBatcher, ImageSet};
use crate::figure::{Axis, Color, Figure, Panel, Row, Series, Shape, median};
use crate::model::{Block, Classifier, Mlp, MlpConfig, ModelConfig, Norm, Normalization};
use crate::train::{Job, OptimizerKind, Schedule, TrainConfig, TrainingStep, evaluate};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, RunningAverage, recalibrate};

/// Sizes of test batches that are normalised by their own statistics.
const TEST_BATCHES: [usize; 9] = [2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Sizes of training batches.
const TRAINING_BATCHES: [usize; 7] = [2, 4, 8, 32, 128, 512, 2048];
/// Images of a batch of a single class.
const CLASS_BATCH: usize = 128;
/// At batches of [`BATCH`].
const LEARNING_RATE: f64 = 0.1;
const BATCH: usize = 128;

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let experiment = Experiment::BatchNormInference;

    let (images, epochs, tested) = setup.pick((55_000, 5, 10_000), (11_000, 2, 2000));
    let seeds = setup.seeds(5, 2);
    let tests: Vec<_> = seeds
        .clone()
        .map(|seed| Tested {
            seed,
            images,
            epochs,
            tested,
        })
        .collect();
    let scores = setup.runs(
        experiment,
        [1, 3],
        &tests,
        |it| training(it.epochs, BATCH, it.seed),
        |config, training, job| test(setup, config, training, job),
    )?;

    let images = setup.pick(11_000, 2000);
    let mut sizes = Vec::new();
    for batch_size in TRAINING_BATCHES {
        sizes.extend(seeds.clone().map(|seed| OneEpoch {
            batch_size,
            seed,
            images,
        }));
    }
    let variances = setup.runs(
        experiment,
        [2, 3],
        &sizes,
        |it| training(1, it.batch_size, it.seed),
        |config, training, job| train_one_epoch(setup, config, training, job),
    )?;

    let steps = setup.pick(150, 60);
    let early: Vec<_> = seeds.map(|seed| Early { seed, steps }).collect();
    let averages = setup.runs(
        experiment,
        [3, 3],
        &early,
        |it| training(1, BATCH, it.seed),
        |config, training, job| average(setup, config, training, job),
    )?;

    let measured = Measured {
        tests: tests.into_iter().zip(scores).collect(),
        sizes: sizes.into_iter().zip(variances).collect(),
        early: early.into_iter().zip(averages).collect(),
    };
    Ok(Findings {
        experiment,
        size: setup.size,
        seeds: setup.seeds,
        device: setup.device_name.clone(),
        question: "How is batch norm used once the network is trained, and how not?".into(),
        story: story(),
        figures: vec![
            measured.test_figure(),
            measured.variance_figure(),
            measured.average_figure(),
            measured.size_figure(),
        ],
        claims: measured.claims(),
        table: measured.table(),
    })
}

/// A network that is trained, then tested in many ways.
#[derive(Clone, Serialize, Deserialize)]
struct Tested {
    seed: u64,
    images: usize,
    epochs: usize,
    /// Images it is tested on.
    tested: usize,
}

/// Test accuracy, by what normalises.
#[derive(Serialize, Deserialize)]
struct Scores {
    running: f64,
    /// The batch's own statistics, for batches of these sizes.
    own: Vec<(usize, f64)>,
    single_class: f64,
    /// One image, as a batch of two copies of it: a batch of one has no variance at all.
    one_image: f64,
}

/// The training of all networks here. The learning rate goes with the batch size (Goyal et al. 2017,
/// arXiv:1706.02677).
fn training(epochs: usize, batch_size: usize, seed: u64) -> TrainConfig {
    TrainConfig {
        model: ModelConfig::Mlp(MlpConfig::new().with_norm(Normalization::Batch)),
        optimizer: OptimizerKind::Sgd,
        learning_rate: LEARNING_RATE * batch_size as f64 / BATCH as f64,
        schedule: Schedule::Constant,
        epochs,
        batch_size,
        seed,
        patience: None,
        ..TrainConfig::default()
    }
}

fn test(
    setup: &Setup,
    tested: &Tested,
    training: &TrainConfig,
    job: &Job,
) -> Result<Scores, ExperimentError> {
    let (train, valid) = setup.split(tested.images, 1000);
    let trained = setup.train(job, training, &train, &valid, |_| {})?;
    let images = &setup.data.test;
    let images = images.subset(0..tested.tested.min(images.len()));
    let all: Vec<usize> = (0..images.len()).collect();
    let own = |batches: &mut (dyn Iterator<Item = Vec<usize>> + Send)| {
        Mode::TestTimeAdaptation.run(|| accuracy(setup, &trained.network, &images, batches))
    };
    let classes = (0..ImageSet::CLASSES).map(|class| {
        let of_class = |&&i: &&usize| usize::from(images.label(i)) == class;
        all.iter().filter(of_class).copied().collect::<Vec<_>>()
    });
    let chunks = |indices: Vec<usize>, size: usize| {
        // A batch of one image would have no variance.
        let chunks = indices.chunks(size).filter(|chunk| chunk.len() > 1);
        chunks.map(<[usize]>::to_vec).collect::<Vec<_>>()
    };
    Ok(Scores {
        running: evaluate(&trained.network, &images, &setup.device).accuracy,
        own: TEST_BATCHES
            .map(|size| (size, own(&mut chunks(all.clone(), size).into_iter())))
            .into(),
        single_class: own(&mut classes.flat_map(|class| chunks(class, CLASS_BATCH))),
        one_image: own(&mut all.iter().take(1000).map(|&i| vec![i; 2])),
    })
}

/// The share of the images in all batches that the network tells right.
fn accuracy(
    setup: &Setup,
    network: &Classifier,
    images: &ImageSet,
    batches: &mut dyn Iterator<Item = Vec<usize>>,
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

/// A network trained in batches of some size, for an epoch.
#[derive(Clone, Serialize, Deserialize)]
struct OneEpoch {
    batch_size: usize,
    seed: u64,
    images: usize,
}

/// The network with this crate's batch norm, whose running variance is unbiased, and the same one
/// with Burn's, biased, that has seen the same batches.
#[derive(Serialize, Deserialize)]
struct Variances {
    unbiased: Variance,
    biased: Variance,
    /// Test accuracy of the first, with recalibrated statistics.
    recalibrated: f64,
}

#[derive(Serialize, Deserialize)]
struct Variance {
    /// Mean running variance of the first layer's units.
    variance: f64,
    /// On the test images, by running statistics.
    accuracy: f64,
    loss: Option<f64>,
}

fn train_one_epoch(
    setup: &Setup,
    it: &OneEpoch,
    training: &TrainConfig,
    job: &Job,
) -> Result<Variances, ExperimentError> {
    let (train, valid) = setup.split(it.images, 1000);
    let sample = sample(setup);

    let device = setup.device.clone().autodiff();
    let hidden = MlpConfig::new().hidden.into_iter();
    let burns = hidden.map(|units| nn::BatchNormConfig::new(units).init(&device));
    let burns = Arc::new(burns.collect::<Vec<_>>());
    let aside = burns.clone();
    let watch = move |it: TrainingStep| {
        let network = with_burns(mlp(it.network.clone()), &aside);
        network.features(it.batch.images.clone().flatten(1, 2));
    };
    let trained = setup.train(job, training, &train, &valid, watch)?;
    let score = |network: Mlp| {
        let variance = match &network.hidden[0].norm {
            Some(Norm::Batch(norm)) => norm.running_var().expect("it keeps running statistics"),
            Some(Norm::Burn(norm)) => norm.running_var.value_sync(),
            None => unreachable!("the network has batch norm"),
        };
        let variance = variance.mean().into_scalar::<f64>();
        let score = evaluate(&Classifier::Mlp(network), &setup.data.test, &setup.device);
        Variance {
            variance,
            accuracy: score.accuracy,
            loss: score.loss.is_finite().then_some(score.loss),
        }
    };
    let network = mlp(trained.network);
    let burns: Vec<nn::BatchNorm> = burns.iter().map(Module::valid).collect();
    Ok(Variances {
        recalibrated: score(recalibrated(&network, &sample)).accuracy,
        unbiased: score(network.clone()),
        biased: score(with_burns(network, &burns)),
    })
}

/// What statistics are recalibrated from: 2000 training images, or as many as there are, in four batches.
fn sample(setup: &Setup) -> Vec<Tensor<2>> {
    let (images, _) = setup.split(2000, 0);
    let images = probe(&images, 2000, &setup.device).images;
    images.flatten(1, 2).chunk(4, 0)
}

/// The network with statistics recomputed from a sample.
fn recalibrated(network: &Mlp, sample: &[Tensor<2>]) -> Mlp {
    recalibrate(
        network,
        || sample.iter().cloned(),
        |network: &Mlp, images| network.features(images),
        |_| {},
    )
    .expect("thousands of images make statistics")
}

/// The network with the gammas and betas that it has, in Burn's batch norms with statistics of
/// their own.
fn with_burns(mut network: Mlp, norms: &[nn::BatchNorm]) -> Mlp {
    for (block, norm) in network.hidden.iter_mut().zip(norms) {
        let (gamma, beta) = own_parameters(block);
        // A clone shares its statistics with the original.
        let mut norm = norm.clone();
        norm.gamma = gamma.expect("batch norm has a gamma unless told otherwise");
        norm.beta = beta.expect("batch norm has a beta unless told otherwise");
        block.norm = Some(Norm::Burn(norm));
    }
    network
}

/// Takes this crate's batch norm out of a block, for its gamma and beta.
fn own_parameters(
    block: &mut Block<Linear>,
) -> (Option<Param<Tensor<1>>>, Option<Param<Tensor<1>>>) {
    match block.norm.take() {
        Some(Norm::Batch(norm)) => (norm.gamma, norm.beta),
        _ => unreachable!("the network has this crate's batch norm"),
    }
}

/// The first steps of a training, with four kinds of running statistics on the side.
#[derive(Clone, Serialize, Deserialize)]
struct Early {
    seed: u64,
    steps: usize,
}

const AVERAGES: [(RunningAverage, &str); 3] = [
    (RunningAverage::Exponential, "exponential"),
    (RunningAverage::DebiasedExponential, "debiased exponential"),
    (RunningAverage::Cumulative, "cumulative"),
];
const RECALIBRATED: &str = "recalibrated";
/// The four kinds, in the order of what is measured.
const KINDS: [&str; 4] = [AVERAGES[0].1, AVERAGES[1].1, AVERAGES[2].1, RECALIBRATED];

/// Validation accuracy at every step, for each of [`KINDS`].
fn average(
    setup: &Setup,
    early: &Early,
    training: &TrainConfig,
    job: &Job,
) -> Result<Vec<[f64; 4]>, ExperimentError> {
    let (train, valid) = setup.split(early.steps * BATCH, 1000);
    let test = probe(&valid, 1000, &setup.device);
    let sample = sample(setup);

    let hidden = MlpConfig::new().hidden;
    // What follows the training on the side: norms with statistics of their own.
    let aside: [Vec<BatchNorm>; 3] = AVERAGES.map(|(average, _)| {
        let norms = hidden.iter().map(|&units| {
            BatchNormConfig::new(units)
                .with_average(average)
                .init(&setup.device)
        });
        norms.collect()
    });
    let scores = Arc::new(Mutex::new(Vec::new()));
    let writing = scores.clone();
    let watch = move |it: TrainingStep| {
        let network = mlp(it.network.valid());
        let batch = it.batch.images.clone().without_autodiff().flatten(1, 2);
        let [exponential, debiased, cumulative] = aside.each_ref().map(|norms| {
            let network = with_statistics_of(network.clone(), norms);
            Mode::Training.run(|| network.features(batch.clone()));
            share_right(network, &test)
        });
        let fresh = recalibrated(&network, &sample);
        let scores = [exponential, debiased, cumulative, share_right(fresh, &test)];
        writing.lock().expect("one writer").push(scores);
    };
    setup.train(job, training, &train, &valid, watch)?;
    Ok(std::mem::take(&mut *scores.lock().expect("one reader")))
}

/// The network with the gammas and betas that it has, and the statistics that others keep.
fn with_statistics_of(mut network: Mlp, norms: &[BatchNorm]) -> Mlp {
    for (block, norm) in network.hidden.iter_mut().zip(norms) {
        let mut norm = norm.clone();
        (norm.gamma, norm.beta) = own_parameters(block);
        block.norm = Some(Norm::Batch(norm));
    }
    network
}

fn share_right(network: Mlp, batch: &DigitBatch) -> f64 {
    let output = Classifier::Mlp(network).forward_step(batch.clone());
    output.right() as f64 / batch.targets.dims()[0] as f64
}

fn story() -> Vec<String> {
    vec![
        "In training, a batch is normalised by its own mean and std. In use there may be no batch, or a \
         strange one, and an image must not get another answer because of its neighbours. So batch norm \
         remembers, in training, a running average of means and variances, and goes by it in use. In Burn, \
         call .valid() on the trained model first: the model that it returns goes by the running statistics."
            .into(),
        "What if it does not? The first figure tests one trained network with the test batch's own \
         statistics instead. In small batches many answers are wrong, as a mean of few images is far from \
         the mean of all. In batches of a single class the answers are hardly better than guessing: what \
         makes all of them a 3 is common to them, and what is common is subtracted. A single image, tested \
         as a batch of two copies, is its own mean, and nothing of it is left."
            .into(),
        "The remembered variance should be the unbiased one. The variance within a batch of m images is too \
         small on average, by the factor (m - 1) / m, half at m = 2, as the images lie closer to their own \
         mean than to that of all."
            .into(),
        "An average also lags behind the weights, which keep moving, and it remembers where it started \
         from. The exponential average starts from mean 0 and variance 1 and moves a tenth of the way to \
         each batch; the debiased one leaves that start out; the cumulative one is the plain mean of all \
         batches. To recalibrate is to hold the weights still and to compute the statistics anew, from a \
         sample of training images. That is the cure, and it matters most after few steps, as in training \
         with large batches."
            .into(),
    ]
}

struct Measured {
    tests: Vec<(Tested, Scores)>,
    sizes: Vec<(OneEpoch, Variances)>,
    early: Vec<(Early, Vec<[f64; 4]>)>,
}

impl Measured {
    fn scores(&self, number: impl Fn(&Scores) -> f64) -> Vec<f64> {
        self.tests
            .iter()
            .map(|(_, scores)| number(scores))
            .collect()
    }

    fn test_figure(&self) -> Figure {
        let sizes = TEST_BATCHES.into_iter().enumerate();
        let own = sizes.map(|(i, size)| (size as f64, self.scores(|it| it.own[i].1)));
        let own = Series::spread("the test batch's own statistics", Color::INK, own);
        let level = |label: &str, color: Color, values: Vec<f64>| {
            let points = TEST_BATCHES.map(|size| [size as f64, median(&values)]);
            Series::new(label, color, Shape::Line(points.into()))
        };
        let [band, line] = own;
        Figure::new(
            "test-batches",
            "Test accuracy of one trained network, by what normalises",
            "Guessing is right 1 time in 10. The level lines do not depend on the size of the batch.",
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::log("images in a test batch", [1.0, 700.0]),
                    y: Axis::linear("test accuracy (share)", [0.0, 1.0]),
                    series: vec![
                        level(
                            "running statistics",
                            Normalization::Batch.into(),
                            self.scores(|it| it.running),
                        ),
                        band,
                        line,
                        level(
                            "own, batches of one class",
                            Color::INK,
                            self.scores(|it| it.single_class),
                        )
                        .dashed(),
                        level("own, one image", Color::INK, self.scores(|it| it.one_image))
                            .dotted(),
                    ],
                }],
            }],
        )
    }

    fn sized(&self, size: usize, number: impl Fn(&Variances) -> f64) -> Vec<f64> {
        let runs = self
            .sizes
            .iter()
            .filter(|(config, _)| config.batch_size == size);
        runs.map(|(_, run)| number(run)).collect()
    }

    /// Burn's running variance over this crate's.
    fn ratios(&self, size: usize) -> Vec<f64> {
        self.sized(size, |it| it.biased.variance / it.unbiased.variance)
    }

    fn variance_figure(&self) -> Figure {
        let sizes = TRAINING_BATCHES.into_iter();
        let ratios = sizes.clone().map(|size| (size as f64, self.ratios(size)));
        let [band, line] = Series::spread("measured", Color::INK, ratios);
        let expected = sizes
            .clone()
            .map(|size| [size as f64, 1.0 - 1.0 / size as f64]);
        let unbiased = sizes
            .clone()
            .map(|size| (size as f64, self.sized(size, |it| it.unbiased.accuracy)));
        let biased = sizes.map(|size| (size as f64, self.sized(size, |it| it.biased.accuracy)));
        let accuracies = [
            Series::spread("unbiased (this crate's)", Normalization::Batch, unbiased),
            Series::spread("biased (Burn's)", Normalization::Burn, biased).map(Series::dashed),
        ];
        let x = Axis::log("images in a training batch", [1.0, 3000.0]);
        Figure::new(
            "variance",
            "Networks trained in batches of 2 to 2048: biased against unbiased running variances",
            "Left: Burn's running variance over this crate's, after the same batches. Right: test accuracy by \
             both. Medians over seeds, and the band from least to largest.",
            vec![Row {
                label: String::new(),
                panels: vec![
                    Panel {
                        title: "variance, biased / unbiased".into(),
                        x: x.clone(),
                        y: Axis::linear("ratio", [0.0, 1.2]),
                        series: vec![
                            band,
                            line,
                            Series::new(
                                "(m - 1) / m",
                                Color::INK,
                                Shape::Dashed(expected.collect()),
                            ),
                        ],
                    },
                    Panel {
                        title: "by running statistics".into(),
                        x,
                        y: Axis::linear("test accuracy (share)", [0.0, 1.0]),
                        series: accuracies.into_iter().flatten().collect(),
                    },
                ],
            }],
        )
    }

    fn steps(&self) -> usize {
        self.early
            .iter()
            .map(|(_, scores)| scores.len())
            .min()
            .unwrap_or(0)
    }

    /// The validation accuracies at a step, counted from 0.
    fn early(&self, kind: usize, step: usize) -> Vec<f64> {
        self.early
            .iter()
            .map(|(_, scores)| scores[step][kind])
            .collect()
    }

    fn average_figure(&self) -> Figure {
        let steps = self.steps();
        let series = KINDS.into_iter().enumerate().flat_map(|(kind, name)| {
            let points = (0..steps).map(|step| ((step + 1) as f64, self.early(kind, step)));
            match kind {
                0 => Series::spread(name, Color::INK, points),
                1 => Series::spread(name, Color::INK, points).map(Series::dashed),
                2 => Series::spread(name, Color::INK, points).map(Series::dotted),
                _ => Series::spread(name, Normalization::Batch, points),
            }
        });
        Figure::new(
            "averages",
            "Validation accuracy over the first training steps, by how the statistics are kept",
            "Medians over seeds, and the band from least to largest.",
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::log("training step", [1.0, steps as f64]),
                    y: Axis::linear("validation accuracy (share)", [0.0, 1.0]),
                    series: series.collect(),
                }],
            }],
        )
    }

    /// After Wu & Johnson's figures of the validation error over the batch size.
    fn size_figure(&self) -> Figure {
        let over_sizes = |number: fn(&Variances) -> f64| {
            TRAINING_BATCHES.map(|size| (size as f64, self.sized(size, number)))
        };
        let series = [
            Series::spread(KINDS[0], Color::INK, over_sizes(|it| it.unbiased.accuracy)),
            Series::spread(
                RECALIBRATED,
                Normalization::Batch,
                over_sizes(|it| it.recalibrated),
            ),
        ];
        Figure::new(
            "batch-sizes",
            "Test accuracy after one epoch in batches of 2 to 2048, by how the statistics are kept",
            "The larger the batches, the fewer the steps of an epoch, and the fewer batches the average has \
             seen. Medians over seeds, and the band from least to largest.",
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::log("images in a training batch", [1.0, 3000.0]),
                    y: Axis::linear("test accuracy (share)", [0.0, 1.0]),
                    series: series.into_iter().flatten().collect(),
                }],
            }],
        )
    }

    fn claims(&self) -> Vec<Claim> {
        let points = |share: f64| 100.0 * share;
        let behind = |number: &dyn Fn(&Scores) -> f64| {
            points(median(&self.scores(|it| it.running - number(it))))
        };
        // The largest lead of one kind over another at a step, of the medians.
        let lead = |kind: usize, other: usize, steps: usize| {
            let leads = (0..steps.min(self.steps()))
                .map(|step| median(&self.early(kind, step)) - median(&self.early(other, step)));
            points(leads.fold(f64::NEG_INFINITY, f64::max))
        };
        let [exponential, debiased, recalibrated] = [0, 1, 3];
        // The lead of recalibrated statistics over the exponential average, by the size of the batch.
        let sized = TRAINING_BATCHES.map(|size| {
            points(median(
                &self.sized(size, |it| it.recalibrated - it.unbiased.accuracy),
            ))
        });
        vec![
            Claim::new(
                "By their own statistics, small test batches get wrong answers",
                IOFFE,
                "points of accuracy below running statistics, batches of 2",
                behind(&|it| it.own[0].1),
                Bound::AtLeast(5.0),
            ),
            Claim::new(
                "In large batches of all classes the difference is small",
                WU,
                "points of accuracy below running statistics, batches of 512",
                behind(&|it| it.own[TEST_BATCHES.len() - 1].1),
                Bound::Between(-1.0, 1.0),
            ),
            Claim::new(
                "A batch of a single class collapses under its own statistics",
                WU,
                "points of accuracy below running statistics, batches of 128 of one class",
                behind(&|it| it.single_class),
                Bound::AtLeast(20.0),
            ),
            Claim::new(
                "One image alone cannot be told by its own statistics: it is its own mean",
                IOFFE,
                "test accuracy, each image as a batch of two copies (guessing: 0.1)",
                median(&self.scores(|it| it.one_image)),
                Bound::AtMost(0.2),
            ),
            Claim::new(
                "The biased running variance is half the unbiased one at training batches of 2",
                IOFFE,
                "running variance, Burn's over this crate's",
                median(&self.ratios(2)),
                Bound::Between(0.4, 0.6),
            ),
            Claim::new(
                "At training batches of 32 it is 3 % smaller",
                IOFFE,
                "running variance, Burn's over this crate's",
                median(&self.ratios(32)),
                Bound::Between(0.95, 0.99),
            ),
            Claim::new(
                "Recalibrated statistics are never worse than the exponential average",
                WU,
                "largest lead of the exponential average over early steps, in points of accuracy",
                lead(exponential, recalibrated, usize::MAX),
                Bound::AtMost(1.0),
            ),
            Claim::new(
                "They are far better while the average lags",
                WU,
                "largest lead of recalibrated statistics over early steps, in points of accuracy",
                lead(recalibrated, exponential, usize::MAX),
                Bound::AtLeast(10.0),
            ),
            Claim::new(
                "Without its pull to the start the exponential average is better early on",
                KINGMA,
                "largest lead of the debiased one over the first 20 steps, in points of accuracy",
                lead(debiased, exponential, 20),
                Bound::AtLeast(5.0),
            ),
            Claim::new(
                "After training, too, recalibrated statistics are never worse, whatever the batch size",
                WU,
                "their least lead over the exponential average, batches of 2 to 2048, in points of accuracy",
                sized.into_iter().fold(f64::INFINITY, f64::min),
                Bound::AtLeast(-1.0),
            ),
            Claim::new(
                "With large batches, and so few steps, they are far better",
                WU,
                "their lead over the exponential average, batches of 2048, in points of accuracy",
                sized[sized.len() - 1],
                Bound::AtLeast(10.0),
            ),
        ]
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["part", "setting", "seed", "at", "quantity", "value"]);
        for (config, scores) in &self.tests {
            let mut push = |setting: &str, at: Option<usize>, value: f64| {
                table.push(row![
                    "test",
                    setting,
                    config.seed,
                    at,
                    "test_accuracy",
                    value
                ]);
            };
            push("running", None, scores.running);
            for &(size, value) in &scores.own {
                push("own", Some(size), value);
            }
            push("own, single class", Some(CLASS_BATCH), scores.single_class);
            push("own, one image", Some(1), scores.one_image);
        }
        for (config, run) in &self.sizes {
            for (setting, of) in [("unbiased", &run.unbiased), ("biased", &run.biased)] {
                let quantities = [
                    ("mean_running_variance_of_layer_1", Some(of.variance)),
                    ("test_accuracy", Some(of.accuracy)),
                    ("test_loss", of.loss),
                    // Of this crate's batch norm alone.
                    (
                        "test_accuracy_recalibrated",
                        (setting == "unbiased").then_some(run.recalibrated),
                    ),
                ];
                for (quantity, value) in quantities {
                    table.push(row![
                        "variance",
                        setting,
                        config.seed,
                        config.batch_size,
                        quantity,
                        value,
                    ]);
                }
            }
        }
        for (config, steps) in &self.early {
            for (step, scores) in steps.iter().enumerate() {
                for (kind, value) in KINDS.iter().zip(scores) {
                    table.push(row![
                        "averages",
                        kind,
                        config.seed,
                        step + 1,
                        "validation_accuracy",
                        value,
                    ]);
                }
            }
        }
        table
    }
}
