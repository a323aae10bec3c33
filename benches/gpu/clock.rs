//! Times what a device does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::tensor::{Device, ProfileDuration, ProfileOptions, TimingMethod};
use burn_cubecl::cubecl::future::block_on;
use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver, TimingRequest};

use crate::entry::{Clock, Kernel, Timing};

/// How long a window should be: far more than the time of a synchronisation.
const WINDOW: Duration = Duration::from_millis(4);
const MOST_CALLS: usize = 50;
const FEWEST_SAMPLES: usize = 5;
const MOST_SAMPLES: usize = 25;

/// Times calls on a device.
#[derive(Clone, Copy)]
pub struct Stopwatch<'a> {
    pub device: &'a Device,
    /// For how long a call is timed, about.
    pub time: Duration,
    /// The most calls in a window. Their outputs may all be in memory.
    pub most_calls: usize,
}

impl<'a> Stopwatch<'a> {
    pub fn new(device: &'a Device, time: Duration) -> Self {
        let most_calls = MOST_CALLS;
        Self {
            device,
            time,
            most_calls,
        }
    }

    /// Times a call whose kernels are compiled and tuned in untimed calls first.
    ///
    /// A sample is a window of many calls, timed by the device's own clock if it has one, else by the host's between
    /// two synchronisations. `settle` follows each window, untimed.
    pub fn measure<R>(
        self,
        call: impl Fn() -> R + Send + Sync,
        settle: impl Fn(),
    ) -> Result<Timing, String> {
        let once = || {
            let started = Instant::now();
            self.launch(&call)?;
            sync(self.device)?;
            let taken = started.elapsed();
            settle();
            Ok::<_, String>(taken)
        };
        once()?;
        once()?;
        let calls = (WINDOW.as_secs_f64() / once()?.as_secs_f64()).ceil() as usize;
        let calls = calls.clamp(1, self.most_calls);

        let (mut samples, mut clock) = (Vec::new(), Clock::Device);
        let started = Instant::now();
        let enough = |samples: usize| {
            let elapsed = started.elapsed();
            // A slow device's first samples must do.
            samples >= MOST_SAMPLES
                || samples >= FEWEST_SAMPLES && elapsed > self.time
                || samples >= 2 && elapsed > 8 * self.time
        };
        while !enough(samples.len()) {
            sync(self.device)?;
            let in_a_row = || (0..calls).try_for_each(|_| self.launch(&call));
            let options = ProfileOptions::default().flush();
            let window = self.device.profile_with(options, in_a_row);
            let (launched, window) = window.map_err(|error| error.to_string())?;
            launched?;
            if window.timing_method() == TimingMethod::System {
                clock = Clock::Host;
            }
            let length = length(window).ok_or("the device gave no time for a window")?;
            samples.push(length / calls as f64);
            settle();
        }
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[(share * (samples.len() - 1) as f64).round() as usize];
        Ok(Timing {
            median: at(0.5),
            low: at(0.1),
            high: at(0.9),
            samples: samples.len(),
            calls,
            clock,
        })
    }

    /// Launches everything that `call` asks for.
    ///
    /// Burn's fusion waits for more operations. It would compute nothing for a result that is dropped before, and
    /// several calls in one kernel.
    fn launch<R>(self, call: impl FnOnce() -> R) -> Result<(), String> {
        let result = call();
        let flushed = self.device.flush();
        drop(result);
        flushed.map_err(|error| error.to_string())
    }

    /// The kernels that `call` launches, in the device's time.
    pub fn kernels<R>(self, call: impl FnOnce() -> R) -> Result<Vec<Kernel>, String> {
        sync(self.device)?;
        let launches = Arc::new(Launches::default());
        let observation = LaunchObservation::new(launches.clone());
        let done = self.launch(call).and_then(|()| sync(self.device));
        drop(observation);
        done?;
        let mut kernels = BTreeMap::new();
        for (name, profile) in launches.take() {
            let (count, time) = kernels.entry(name).or_insert((0, 0.0));
            *count += 1;
            *time += length(profile).unwrap_or_default();
        }
        let listed = kernels
            .into_iter()
            .map(|(name, (launches, milliseconds))| Kernel {
                name,
                launches,
                milliseconds,
            });
        Ok(listed.collect())
    }
}

/// Waits until the device has finished.
pub fn sync(device: &Device) -> Result<(), String> {
    device.sync().map_err(|error| error.to_string())
}

/// Milliseconds.
fn length(window: ProfileDuration) -> Option<f64> {
    let ticks = block_on(window.resolve())?;
    Some(ticks.duration().as_secs_f64() * 1e3)
}

/// Keeps the measurement of every launch.
#[derive(Default)]
struct Launches(Mutex<Vec<(String, ProfileDuration)>>);

impl Launches {
    fn take(&self) -> Vec<(String, ProfileDuration)> {
        std::mem::take(&mut *self.0.lock().expect("no launch panics while it is kept"))
    }
}

impl LaunchObserver for Launches {
    fn launched(&self, _: &'static str) {}

    fn timing(&self) -> TimingRequest {
        TimingRequest::Deferred
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        // `path::to::module::Kernel<Types>`
        let path = kernel.split('<').next().unwrap_or(kernel);
        let name = path.rsplit("::").next().unwrap_or(path).to_string();
        let mut launches = self.0.lock().expect("no launch panics while it is kept");
        launches.push((name, profile));
    }
}
