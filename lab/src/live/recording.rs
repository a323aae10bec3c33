//! The frames that can be played back.

use std::sync::Arc;

use super::thinned::Thinned;

/// The most frames. One of four networks with thirty layers takes 90 kB.
const FRAMES: usize = 240;

/// A bounded history of frames, in JSON.
pub(super) struct Recording {
    frames: Thinned<(usize, Arc<str>)>,
    next: usize,
}

impl Recording {
    pub fn new() -> Self {
        Self {
            frames: Thinned::new(1, FRAMES),
            next: 0,
        }
    }

    /// Adds a frame of this step.
    pub fn add(&mut self, step: usize, frame: Arc<str>) {
        if self.frames.wants(self.next) {
            self.frames.insert(self.next, (step, frame));
        }
        self.next += 1;
    }

    /// Drops the frames of this step and later ones: the bench went back.
    pub fn back_to(&mut self, step: usize) {
        let before = self.frames.iter().take_while(|(_, (at, _))| *at < step);
        match before.last() {
            Some((last, _)) => self.frames.truncate(last),
            None => *self = Self::new(),
        }
    }

    /// All frames, the oldest first.
    pub fn frames(&self) -> Vec<Arc<str>> {
        self.frames
            .iter()
            .map(|(_, (_, json))| json.clone())
            .collect()
    }

    /// The recording in JSON, with the present state.
    pub fn json(&self, state: &str) -> String {
        let frames: Vec<&str> = self.frames.iter().map(|(_, (_, json))| &**json).collect();
        format!("{{\"state\":{state},\"frames\":[{}]}}", frames.join(","))
    }
}
