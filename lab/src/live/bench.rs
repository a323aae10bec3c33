//! The networks, in lockstep.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::action::{Every, Id, UnitsOf};
use super::config::{BenchConfig, NetworkConfig};
use super::evaluate::Evaluation;
use super::frame::{
    Answer, Frame, NetworkFrame, Picture, Reading, Short, State, TestScore, TheoryFrame,
};
use super::network::Network;
use super::see::Seen;
use super::text::Text;
use super::theory::Input;
use super::thinned::Thinned;
use super::{evaluate, finding};
use crate::data::{Batches, ImageSet, Mnist, normalise};
use crate::model::Mlp;
use crate::train::Score;

/// Steps between two kept ones, at first.
const KEEP_EVERY: usize = 50;
/// The most kept steps.
const KEPT: usize = 32;
/// The most bytes of all kept steps.
const KEPT_BYTES: usize = 256 << 20;
/// Training images that recalibration runs over, and the size of its batches.
const RECALIBRATION: [usize; 2] = [2000, 500];

/// Up to four networks that train in lockstep: each step, on the same batch. What differs between them is what was
/// changed.
///
/// A bench belongs to one thread. It starts nothing, and does nothing on its own.
pub struct Bench {
    pub(super) device: Device,
    train: ImageSet,
    pub(super) batches: Batches,
    pub(super) batch: usize,
    pub(super) seed: u64,
    pub(super) networks: Vec<Network>,
    /// Steps done.
    pub(super) step: usize,
    pub(super) next_id: Id,
    /// Copies of all networks at some steps.
    pub(super) kept: Thinned<Vec<Network>>,
    pub(super) playing: bool,
    /// Where to pause.
    pub(super) until: Option<usize>,
    pub(super) every: Every,
    pub(super) units_of: Option<UnitsOf>,
    pub(super) evaluation: Evaluation,
    /// What was seen last of each network.
    pub(super) seen: HashMap<Id, Seen>,
    /// What the last evaluation gave.
    pub(super) scores: HashMap<Id, Scores>,
    /// What theory predicts, at step 0.
    theory: HashMap<Id, Vec<Option<TheoryFrame>>>,
}

/// How a network does on test images.
#[derive(Clone, Default)]
pub(super) struct Scores {
    score: Option<Score>,
    panel: Option<f64>,
    answers: Vec<Answer>,
}

impl Bench {
    /// Draws the networks. They train on the training images of the data, those that `examples/mnist` trains on.
    ///
    /// # Errors
    ///
    /// A number of the configuration is out of range.
    pub fn new(config: &BenchConfig, data: &Mnist, device: &Device) -> Result<Self, Text> {
        config.validate()?;
        let (train, _) = data.train_and_validation();
        let training = device.clone().autodiff();
        let mut bench = Self {
            batches: Batches::new(train.clone(), config.batch, config.seed, training.clone()),
            device: training,
            train,
            batch: config.batch,
            seed: config.seed,
            networks: Vec::new(),
            step: 0,
            next_id: 1,
            kept: Thinned::new(KEEP_EVERY, KEPT),
            playing: config.play,
            until: None,
            every: Every::Auto,
            units_of: None,
            evaluation: Evaluation::new(&data.test, device.clone()),
            seen: HashMap::new(),
            scores: HashMap::new(),
            theory: HashMap::new(),
        };
        bench.setup(config);
        Ok(bench)
    }

    /// Replaces everything but the settings of the view.
    pub(super) fn setup(&mut self, config: &BenchConfig) {
        (self.batch, self.seed) = (config.batch, config.seed);
        let device = self.device.clone();
        self.batches = Batches::new(self.train.clone(), self.batch, self.seed, device);
        self.units_of = None;
        self.networks.clear();
        let configs = config.networks.iter().cloned();
        let networks = configs.map(|config| {
            let id = self.next_id;
            self.next_id += 1;
            Network::new(id, config, self.batch, self.seed, &self.device)
        });
        self.networks = networks.collect();
        (self.playing, self.until) = (config.play, None);
        self.started();
    }

    /// Goes back to step 0 with the present configurations, and new networks beside.
    pub(super) fn restart_with(&mut self, more: Option<(NetworkConfig, Option<Id>)>) {
        let present = self.networks.iter();
        let mut networks: Vec<_> = present
            .map(|it| (it.id, it.config.clone(), it.origin.map(|origin| origin.0)))
            .collect();
        if let Some((config, parent)) = more {
            networks.push((self.next_id, config, parent));
            self.next_id += 1;
        }
        let networks = networks.into_iter().map(|(id, config, parent)| Network {
            origin: parent.map(|parent| (parent, 0)),
            ..Network::new(id, config, self.batch, self.seed, &self.device)
        });
        self.networks = networks.collect();
        self.started();
    }

    /// Begins at step 0.
    fn started(&mut self) {
        self.step = 0;
        self.kept = Thinned::new(KEEP_EVERY, self.most_kept());
        self.keep();
        self.seen.clear();
        self.scores.clear();
    }

    /// How many steps may be kept, so that memory stays bounded.
    pub(super) fn most_kept(&self) -> usize {
        let bytes = self.networks.iter().map(Network::bytes).sum::<usize>();
        KEPT.min(KEPT_BYTES / bytes.max(1))
    }

    fn keep(&mut self) {
        if self.kept.wants(self.step) {
            let copies = self.networks.iter().map(Network::copy).collect();
            self.kept.insert(self.step, copies);
        }
    }

    /// Makes one training step of all networks. A network whose loss is not finite stands still from then on.
    pub fn advance(&mut self) {
        let batch = self.batches.at(self.step);
        let step = self.step + 1;
        self.networks
            .par_iter_mut()
            .for_each(|network| network.train(batch.clone(), step));
        self.stepped();
    }

    /// Makes the same step, and measures what flows through each layer.
    pub fn advance_watched(&mut self) {
        let batch = self.batches.at(self.step);
        let step = self.step + 1;
        let networks = self.networks.par_iter_mut();
        let seen: Vec<_> = networks
            .filter_map(|it| Some((it.id, it.train_watched(batch.clone(), step)?.measure())))
            .collect();
        self.seen.extend(seen);
        self.stepped();
    }

    fn stepped(&mut self) {
        self.step += 1;
        self.theory.clear();
        self.keep();
        if self.until.is_some_and(|until| until <= self.step) {
            (self.playing, self.until) = (false, None);
        }
    }

    /// Measures what would flow in the next step, without making it.
    pub fn look(&mut self) {
        let batch = self.batches.at(self.step);
        self.theory.clear();
        if self.step == 0 {
            let input = Input::of(batch.images.clone());
            let networks = self.networks.par_iter();
            let predict = |it: &Network| (it.id, input.propagate(&it.config));
            self.theory = networks.map(predict).collect();
        }
        let networks = self.networks.par_iter_mut();
        let seen: Vec<_> = networks
            .map(|it| (it.id, it.look(batch.clone()).measure()))
            .collect();
        for (id, mut seen) in seen {
            // The last update was that of the last step.
            if let Some(before) = self.seen.get(&id) {
                seen.keep_updates(before);
            }
            self.seen.insert(id, seen);
        }
    }

    /// Whether the bench pauses after the next step.
    pub(super) fn pauses_next(&self) -> bool {
        self.until.is_some_and(|until| until <= self.step + 1)
    }

    /// Scores all networks on test images.
    pub fn evaluate(&mut self) {
        for network in &self.networks {
            let model = network.model.valid();
            let scores = self.scores.entry(network.id).or_default();
            let (score, panel) = self.evaluation.score(&model);
            (scores.score, scores.panel) = (Some(score), Some(panel));
        }
    }

    /// Lets all networks answer the shown digits.
    pub fn answer(&mut self) {
        for network in &self.networks {
            let scores = self.scores.entry(network.id).or_default();
            scores.answers = self.evaluation.answers(&network.model.valid());
        }
    }

    /// What every network reads in an image of 784 pixels from 0 to 1.
    pub fn read(&self, pixels: &[f32]) -> Result<Vec<Reading>, Text> {
        if pixels.len() != ImageSet::PIXELS || !pixels.iter().all(|it| (0.0..=1.0).contains(it)) {
            return Err(Text::new(
                format!("`pixels` must be {} numbers from 0 to 1", ImageSet::PIXELS),
                format!(
                    "`pixels`는 0에서 1 사이의 수 {}개여야 합니다",
                    ImageSet::PIXELS
                ),
            ));
        }
        let reading = |network: &Network| {
            let probabilities = self.evaluation.read(&network.model, pixels);
            Reading {
                network: network.id,
                digit: evaluate::best(&probabilities).0,
                probabilities: probabilities
                    .into_iter()
                    .map(|p| (p * 1e5).round() / 1e5)
                    .collect(),
            }
        };
        Ok(self.networks.iter().map(reading).collect())
    }

    /// The training images that recalibration runs over, on the device without autodiff.
    pub(super) fn sample(&self) -> Vec<Tensor<3>> {
        let [count, size] = RECALIBRATION;
        let images: Vec<usize> = (0..count.min(self.train.len())).collect();
        let device = self.device.clone().without_autodiff();
        let batches = images.chunks(size);
        batches
            .map(|chunk| normalise(chunk.iter().map(|&i| self.train.image(i)), &device))
            .collect()
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Whether it is to train on.
    pub fn playing(&self) -> bool {
        self.playing
    }

    /// The numbers of the networks, from left to right.
    pub fn ids(&self) -> Vec<Id> {
        self.networks.iter().map(|it| it.id).collect()
    }

    /// A network as it is now.
    pub fn network(&self, id: Id) -> Option<&Mlp> {
        let found = self.networks.iter().find(|it| it.id == id)?;
        Some(&found.model)
    }

    /// Loss of each network in the last step, in nats; NaN before the first.
    pub fn losses(&self) -> Vec<f64> {
        self.networks.iter().map(|it| it.loss).collect()
    }

    /// Share of the scored test images that each network classifies correctly, at the last
    /// [evaluation](Self::evaluate).
    pub fn accuracies(&self) -> Vec<Option<f64>> {
        let score = |it: &Network| Some(self.scores.get(&it.id)?.score.as_ref()?.accuracy);
        self.networks.iter().map(score).collect()
    }

    /// The same for the panel "at test time".
    pub fn panel_accuracies(&self) -> Vec<Option<f64>> {
        let score = |it: &Network| self.scores.get(&it.id)?.panel;
        self.networks.iter().map(score).collect()
    }

    /// The digits that the page shows.
    pub(super) fn pictures(&self) -> &[Picture] {
        &self.evaluation.pictures
    }

    /// The configuration as it is now.
    pub fn config(&self) -> BenchConfig {
        BenchConfig {
            networks: self.networks.iter().map(|it| it.config.clone()).collect(),
            batch: self.batch,
            seed: self.seed,
            play: self.playing,
        }
    }

    pub(super) fn state<'a>(&self, device: &'a str, data: &'a str, rate: f64) -> State<'a> {
        let networks = || self.networks.iter();
        let training = networks().filter(|it| it.lost.is_none()).count();
        State {
            bench: self.config(),
            ids: self.ids(),
            parents: networks().map(|it| it.origin.map(|it| it.0)).collect(),
            forked_at: networks().map(|it| it.origin.map(|it| it.1)).collect(),
            step: self.step,
            epoch: self.batches.steps_per_epoch(),
            playing: self.playing,
            kept: self.kept.steps(),
            images_per_second: (rate * (self.batch * training) as f64).into(),
            device,
            data,
            test: self.evaluation.setting().clone(),
            lost: networks().map(|it| it.lost.clone()).collect(),
        }
    }

    /// What was seen and scored last, in JSON as pages get it: [`look`](Self::look), [`evaluate`](Self::evaluate) and
    /// [`answer`](Self::answer) see and score. `rate` is the number of steps per second.
    pub fn frame(&self, rate: f64) -> String {
        let networks = self.networks.iter();
        let frame = Frame {
            step: self.step,
            rate: rate.into(),
            networks: networks.filter_map(|it| self.frame_of(it)).collect(),
        };
        frame.json()
    }

    fn frame_of(&self, network: &Network) -> Option<NetworkFrame> {
        let seen = self.seen.get(&network.id)?;
        let scores = self.scores.get(&network.id).cloned().unwrap_or_default();
        let short = |number: f64| Short::from(number);
        let units = self.units_of;
        let units = units.filter(|it| it.network.is_none_or(|id| id == network.id));
        Some(NetworkFrame {
            id: network.id,
            loss: network.loss.into(),
            accuracy: scores.score.as_ref().map(|it| short(it.accuracy)),
            test_loss: scores.score.as_ref().map(|it| short(it.loss)),
            test: scores.panel.map(|accuracy| TestScore {
                accuracy: accuracy.into(),
            }),
            layers: seen.layers.clone(),
            theory: self.theory.get(&network.id).cloned(),
            digits: scores.answers,
            findings: finding::frames(&seen.report.diagnose(), Some(&network.config)),
            units: units.and_then(|it| {
                let layer = it.layer.min(network.config.depth - 1);
                self.evaluation.units(&network.model.valid(), layer)
            }),
        })
    }
}
