//! How often to watch, answer and evaluate, so that training keeps its speed.

use std::time::{Duration, Instant};

/// Frames come at least this often while somebody watches: ten a second.
const SLOWEST: Duration = Duration::from_millis(95);
/// And at most this often.
const FASTEST: Duration = Duration::from_millis(50);
/// The time between frames for the recording, while nobody watches.
const ALONE: Duration = Duration::from_millis(500);

/// Something to do now and then, in at most a share of the time.
pub(super) struct Now {
    /// One in this many parts of the time.
    share: u32,
    least: Duration,
    pub most: Duration,
    cost: Duration,
    last: Option<Instant>,
}

impl Now {
    /// Every `least` to `most`, and in between as often as it takes no more than one `share`th of the time.
    fn new(share: u32, least: Duration, most: Duration) -> Self {
        Self {
            share,
            least,
            most,
            cost: Duration::ZERO,
            last: None,
        }
    }

    pub fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= self.wait())
    }

    fn wait(&self) -> Duration {
        (self.cost * self.share).clamp(self.least, self.most)
    }

    /// Whether it was made due.
    pub fn is_asked(&self) -> bool {
        self.last.is_none()
    }

    /// Makes it due.
    pub fn now(&mut self) {
        self.last = None;
    }

    /// Does it, and measures the time.
    pub fn done<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = what();
        self.took(start.elapsed());
        result
    }

    /// It was done, and took this long.
    pub fn took(&mut self, cost: Duration) {
        // Smoothed, because other programs take their turns.
        self.cost = match self.cost.is_zero() {
            true => cost,
            false => (self.cost * 3 + cost) / 4,
        };
        self.last = Some(Instant::now());
    }
}

/// The pace of everything besides training.
pub(super) struct Pace {
    /// Frames.
    pub frame: Now,
    /// Answers to the shown digits.
    pub answer: Now,
    /// Scores on test images.
    pub score: Now,
    /// The state, besides actions.
    pub state: Now,
    /// Steps per second.
    pub rate: f64,
    /// Duration of a step that is not watched; zero before the first.
    step: Duration,
    since: Instant,
    steps: u32,
}

impl Pace {
    pub fn new() -> Self {
        let second = Duration::from_secs(1);
        let hour = 3600 * second;
        Self {
            frame: Now::new(40, FASTEST, SLOWEST),
            answer: Now::new(200, SLOWEST, hour),
            score: Now::new(100, second, 5 * second),
            state: Now::new(1, second, second),
            rate: 0.0,
            step: Duration::ZERO,
            since: Instant::now(),
            steps: 0,
        }
    }

    /// Everything is due, and no speed is known: the bench is another one.
    pub fn restart(&mut self) {
        *self = Self::new();
    }

    /// Frames for somebody, or for the recording alone.
    pub fn watched_by(&mut self, pages: usize) {
        self.frame.least = if pages == 0 { ALONE } else { FASTEST };
        self.frame.most = if pages == 0 { ALONE } else { SLOWEST };
    }

    /// A step was made without watching.
    pub fn stepped(&mut self, took: Duration) {
        self.step = match self.step.is_zero() {
            true => took,
            false => (self.step * 7 + took) / 8,
        };
        self.count();
    }

    /// A step was made and watched, and all of it took this long: what is beyond a step is the cost of watching.
    pub fn watched(&mut self, took: Duration) {
        let beyond = match self.step.is_zero() {
            // Not known before the first step that was not watched.
            true => Duration::ZERO,
            false => took.saturating_sub(self.step),
        };
        let (wait, due) = (self.frame.wait(), self.frame.last);
        self.frame.took(beyond);
        // From one frame to the next, and not to the end of the work on it. A frame that was due in the middle of a
        // step comes late, and the next is not put off for it.
        let start = Instant::now().checked_sub(took);
        let due = due.map(|last| last + wait);
        self.frame.last = match (due, start) {
            (Some(due), Some(start)) if start.saturating_duration_since(due) < wait => Some(due),
            _ => start,
        };
        self.count();
    }

    fn count(&mut self) {
        self.steps += 1;
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_millis(500) {
            self.rate = f64::from(self.steps) / elapsed.as_secs_f64();
            self.pause();
        }
    }

    /// No step was made for a while: the rate is not measured over the pause.
    pub fn pause(&mut self) {
        (self.since, self.steps) = (Instant::now(), 0);
    }
}
