//! What a training shares with the server.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::recording::Recording;
use super::text::Text;

/// The latest of everything: what was published before and not yet sent is dropped.
#[derive(Clone, Default)]
pub(super) struct Feed {
    pub state: Latest,
    pub frame: Latest,
    pub error: Latest,
}

/// A message in JSON, and how many there were before.
#[derive(Clone, Default)]
pub(super) struct Latest {
    pub number: u64,
    pub json: Option<Arc<str>>,
}

impl Latest {
    fn set(&mut self, json: Arc<str>) {
        self.number += 1;
        self.json = Some(json);
    }
}

/// What a training shares with the server. Publishing never waits for a page.
#[derive(Clone)]
pub(super) struct Shared {
    pub feed: Arc<watch::Sender<Feed>>,
    recording: Arc<Mutex<Recording>>,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            feed: Arc::new(watch::Sender::new(Feed::default())),
            recording: Arc::new(Mutex::new(Recording::new())),
        }
    }

    /// How many pages look on.
    pub fn pages(&self) -> usize {
        self.feed.receiver_count()
    }

    /// Calls `f` on the recording. It is held for a moment only.
    pub fn with_recording<T>(&self, f: impl FnOnce(&mut Recording) -> T) -> T {
        f(&mut self
            .recording
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    pub fn publish_frame(&self, step: usize, json: String) {
        let json: Arc<str> = json.into();
        self.with_recording(|recording| recording.add(step, json.clone()));
        self.feed.send_modify(|feed| feed.frame.set(json));
    }

    pub fn publish_state(&self, state: &impl Serialize) {
        if let Some(json) = json(state) {
            self.feed.send_modify(|feed| feed.state.set(json));
        }
    }

    pub fn publish_error(&self, text: &Text) {
        if let Some(json) = json(&serde_json::json!({ "text": text })) {
            self.feed.send_modify(|feed| feed.error.set(json));
        }
    }
}

fn json(value: &impl Serialize) -> Option<Arc<str>> {
    let text = serde_json::to_string(value);
    debug_assert!(text.is_ok(), "what is published is JSON: {text:?}");
    text.ok().map(Into::into)
}
