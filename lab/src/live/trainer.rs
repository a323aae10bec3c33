//! The thread that trains: it takes requests between two steps, and publishes what it sees.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use tokio::sync::oneshot;

use super::act::Effect;
use super::action::{Action, Every};
use super::bench::Bench;
use super::config::BenchConfig;
use super::frame::{Picture, Reading};
use super::pace::Pace;
use super::recording::Recording;
use super::shared::Shared;
use super::text::Text;
use crate::data::Mnist;
use crate::panic;

/// How long the bench trains on when nobody is watching any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a page asks for, and where the answer goes.
pub(super) struct Request {
    pub what: What,
    pub reply: oneshot::Sender<Result<Vec<Reading>, Text>>,
}

pub(super) enum What {
    Act(Action),
    /// The pixels of a drawn digit.
    Read(Vec<f32>),
}

/// The names that a page shows.
pub(super) struct Names {
    pub device: String,
    pub data: String,
}

pub(super) struct Trainer {
    bench: Bench,
    data: Mnist,
    device: Device,
    names: Names,
    shared: Shared,
    pace: Pace,
    /// When somebody last watched or asked for something. The bench waits while nobody does, and the race waits for its
    /// first spectator.
    attended: Option<Instant>,
}

impl Trainer {
    pub fn new(
        config: &BenchConfig,
        data: Mnist,
        device: Device,
        names: Names,
        shared: Shared,
    ) -> Result<Self, Text> {
        let trainer = Self {
            bench: Bench::new(config, &data, &device)?,
            data,
            device,
            names,
            shared,
            pace: Pace::new(),
            attended: None,
        };
        trainer.publish_state();
        Ok(trainer)
    }

    /// The digits that the page shows.
    pub fn pictures(&self) -> &[Picture] {
        self.bench.pictures()
    }

    /// Trains until the other end of `requests` is gone.
    pub fn run(mut self, requests: &Receiver<Request>) {
        self.guarded(|trainer| trainer.show(Effect::Networks));
        loop {
            let waiting = match self.is_training() {
                true => requests.try_recv().map_err(|error| match error {
                    std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                    std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                false => {
                    self.pace.pause();
                    requests.recv_timeout(Duration::from_millis(20))
                }
            };
            match waiting {
                Ok(request) => {
                    self.attended = Some(Instant::now());
                    self.guarded(|trainer| trainer.answer(request, requests));
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => (),
            }
            if self.shared.pages() > 0 {
                self.attended = Some(Instant::now());
            }
            if self.is_training() {
                self.guarded(Self::step);
            }
        }
    }

    fn is_training(&self) -> bool {
        let attended = self.attended.is_some_and(|last| last.elapsed() < PATIENCE);
        attended && self.bench.playing()
    }

    /// Calls `what`. If it panics, for example because memory runs out, the bench starts again and waits.
    fn guarded(&mut self, what: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| what(self))) else {
            return;
        };
        let reason = panic::message(panic.as_ref()).to_owned();
        let config = BenchConfig {
            play: false,
            ..self.bench.config()
        };
        let mut restart = |config: &BenchConfig| {
            let bench = catch_unwind(AssertUnwindSafe(|| {
                Bench::new(config, &self.data, &self.device)
            }));
            if let Ok(Ok(bench)) = bench {
                self.bench = bench;
            }
        };
        restart(&config);
        self.shared.publish_error(&Text::new(
            format!("a step failed, and the bench started again: {reason}"),
            format!("스텝 도중 오류가 나서 처음부터 다시 시작했습니다: {reason}"),
        ));
        self.publish_state();
    }

    /// Answers this request and those that wait behind it, and then shows their effect at once.
    fn answer(&mut self, request: Request, more: &Receiver<Request>) {
        let mut effects = Vec::new();
        let mut next = Some(request);
        while let Some(Request { what, reply }) = next {
            let answer = match what {
                What::Read(pixels) => self.bench.read(&pixels),
                What::Act(action) => self.act(&action).map(|effect| {
                    effects.push(effect);
                    Vec::new()
                }),
            };
            // Who asked may be gone.
            let _ = reply.send(answer);
            next = more.try_recv().ok();
        }
        let largest = [
            Effect::Paused,
            Effect::Networks,
            Effect::Stepped,
            Effect::Test,
            Effect::None,
        ];
        if let Some(effect) = largest.into_iter().find(|it| effects.contains(it)) {
            self.show(effect);
        }
    }

    fn act(&mut self, action: &Action) -> Result<Effect, Text> {
        let before = self.bench.step();
        let effect = self.bench.act(action)?;
        let is_new = matches!(action, Action::Setup { .. });
        let step = self.bench.step();
        if is_new || step < before || step == 0 {
            self.shared.with_recording(|recording| match is_new {
                true => *recording = Recording::new(),
                false => recording.back_to(step),
            });
            self.pace.restart();
        }
        Ok(effect)
    }

    /// Publishes a frame and the state after an action.
    fn show(&mut self, effect: Effect) {
        let still = !self.is_training();
        match effect {
            Effect::None => (),
            Effect::Networks if !still && self.bench.step() > 0 => {
                // The next step shows it.
                self.pace.frame.now();
                self.pace.answer.now();
            }
            Effect::Networks | Effect::Paused => {
                self.bench.look();
                self.bench.answer();
                if still {
                    // What takes longer follows.
                    self.publish_frame();
                    self.bench.evaluate();
                }
                self.publish_frame();
            }
            Effect::Stepped => {
                self.bench.answer();
                self.bench.evaluate();
                self.publish_frame();
            }
            Effect::Test => {
                self.bench.answer();
                self.publish_frame();
            }
        }
        self.publish_state();
        if effect == Effect::None && still {
            self.publish_frame();
        }
    }

    /// Makes a training step, and what is due beside it.
    fn step(&mut self) {
        self.pace.watched_by(self.shared.pages());
        let start = Instant::now();
        let pauses = self.bench.pauses_next();
        let watched = pauses
            || match self.bench.every {
                Every::Auto => self.pace.frame.is_due(),
                Every::Steps(steps) => {
                    self.pace.frame.is_asked() || (self.bench.step() + 1).is_multiple_of(steps)
                }
            };
        if !watched {
            self.bench.advance();
            return self.pace.stepped(start.elapsed());
        }
        self.bench.advance_watched();
        let mut other = Duration::ZERO;
        if pauses || self.pace.answer.is_due() {
            let now = Instant::now();
            self.pace.answer.done(|| self.bench.answer());
            other += now.elapsed();
        }
        if pauses || self.pace.score.is_due() {
            let now = Instant::now();
            self.pace.score.done(|| self.bench.evaluate());
            other += now.elapsed();
        }
        self.publish_frame();
        if pauses || self.pace.state.is_due() {
            self.pace.state.done(|| ());
            self.publish_state();
        }
        self.pace.watched(start.elapsed().saturating_sub(other));
    }

    fn publish_frame(&self) {
        let json = self.bench.frame(self.rate());
        self.shared.publish_frame(self.bench.step(), json);
    }

    fn publish_state(&self) {
        let Names { device, data } = &self.names;
        let state = self.bench.state(device, data, self.rate());
        self.shared.publish_state(&state);
    }

    fn rate(&self) -> f64 {
        if self.is_training() {
            self.pace.rate
        } else {
            0.0
        }
    }
}
