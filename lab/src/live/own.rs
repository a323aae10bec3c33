//! A network of the caller's own, on the page.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use burn_kindling::observe::{self, Observer, Parameter, Report, Sink};

use super::finding;
use super::frame::{Frame, GradientFrame, Histogram, LayerFrame, NetworkFrame};
use super::pace::Pace;
use super::pass::{BINS, DECADES};
use super::server::{Live, LiveError, bind};
use super::shared::Shared;
use crate::say::say;

/// The port that a page finds again after the program was started anew, if it is free.
const PORT: u16 = 4242;

/// A page that shows a network of the caller's own while it trains; see [`Live::serve`]. Dropping it ends the page.
pub struct LiveSink {
    live: Live,
    shared: Shared,
    pace: Pace,
    /// When the step under way started, and whether it is watched.
    begun: Option<(Instant, bool)>,
}

impl Live {
    /// Serves the page for a network of the caller's own, on this machine only, and prints its address on standard
    /// error.
    ///
    /// Five lines show any training loop of Burn:
    ///
    /// ```no_run
    /// # use burn::module::Module;
    /// # use burn::nn::LinearConfig;
    /// # use burn::optim::{AdamConfig, GradientsParams};
    /// # use burn::tensor::{Device, Distribution, Tensor};
    /// # use burn_kindling::observe::watch;
    /// use burn_kindling::observe::Sink;
    /// use burn_kindling_lab::live::Live;
    ///
    /// # let device = Device::flex().autodiff();
    /// # let mut net: burn::nn::Linear = LinearConfig::new(8, 1).init(&device);
    /// # let mut adam = AdamConfig::new().init();
    /// let mut lab = Live::serve()?; // 1
    /// for step in 0..1000 {
    ///     # let input = Tensor::<2>::random([32, 8], Distribution::Default, &device);
    ///     let forward = || watch("output", net.forward(input)).square().mean();
    ///     let (loss, mut seen) = lab.observe(forward); // 2
    ///     let gradients = loss.backward();
    ///     seen.backward(&net, &gradients); // 3
    ///     let gradients = GradientsParams::from_grads(gradients, &net);
    ///     net = adam.step(1e-3, net, gradients);
    ///     seen.step(&net); // 4
    ///     lab.show(step, &loss, seen); // 5
    /// }
    /// # Ok::<(), burn_kindling_lab::live::LiveError>(())
    /// ```
    ///
    /// The page shows what the [points](observe::Point) of the network see. A layer's update is that of the first
    /// weights whose path starts with the name of its point: `hidden.0` has `hidden.0.linear.weight`.
    ///
    /// Watching takes about a fortieth of the time while a page is open. Without one, two steps a second are
    /// watched, so that a page that opens later sees what went before. The training never waits for a page.
    ///
    /// # Errors
    ///
    /// The system refuses a port or a thread.
    pub fn serve() -> Result<LiveSink, LiveError> {
        let at = |port| bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = at(PORT).or_else(|_| at(0))?;
        let shared = Shared::new();
        shared.publish_state(&state());
        let live = Self::open(listener, shared.clone(), None, "[]".into())?;
        say(format_args!("the network is shown at {}", live.url()));
        Ok(LiveSink {
            live,
            shared,
            pace: Pace::new(),
            begun: None,
        })
    }
}

impl LiveSink {
    /// The server of the page: its address, its token.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Keeps the page open until the program is ended.
    pub fn wait(self) {
        self.live.wait();
    }
}

impl Sink for LiveSink {
    fn observer(&mut self) -> Option<Observer> {
        let now = Instant::now();
        match self.begun {
            None => (),
            Some((start, true)) => self.pace.watched(now - start),
            Some((start, false)) => self.pace.stepped(now - start),
        }
        self.pace.watched_by(self.shared.pages());
        // A network of the lab is small. This one may take seconds to watch.
        self.pace.frame.most = Duration::from_secs(3600);
        let watched = self.pace.frame.is_due();
        self.begun = Some((now, watched));
        let [low, high] = DECADES;
        watched.then(|| {
            let observer = Observer::new().with_bins(BINS).with_percentiles([]);
            observer.with_gradient_decades(low, high)
        })
    }

    fn take(&mut self, step: usize, loss: f64, report: Report) {
        let frame = Frame {
            step,
            rate: self.pace.rate.into(),
            networks: vec![network(loss, &report)],
        };
        self.shared.publish_frame(step, frame.json());
    }
}

/// What the page has to know of a program: its name.
fn state() -> serde_json::Value {
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    serde_json::json!({
        "own": true,
        "bench": { "networks": [{ "name": name }], "batch": null, "seed": null },
        "ids": [1],
        "playing": true,
    })
}

fn network(loss: f64, report: &Report) -> NetworkFrame {
    let layer = |layer| layer_frame(layer, &report.parameters);
    NetworkFrame {
        id: 1,
        loss: loss.into(),
        accuracy: None,
        test_loss: None,
        test: None,
        layers: report.layers.iter().map(layer).collect(),
        theory: None,
        digits: Vec::new(),
        findings: finding::frames(&report.diagnose(), None),
        units: None,
    }
}

fn layer_frame(layer: &observe::Layer, parameters: &[Parameter]) -> LayerFrame {
    let values = &layer.data;
    let share = |units: usize| (units as f64 / layer.units as f64).into();
    LayerFrame {
        name: layer.name.clone(),
        pre: Histogram {
            range: values.histogram.range.map(Into::into),
            counts: counts(&values.histogram),
            below: values.histogram.below as u32,
            above: values.histogram.above as u32,
        },
        gradient: layer.gradient.as_ref().map(gradient),
        pre_std: None,
        std: values.std.into(),
        mean: values.mean.into(),
        between_inputs: values.spread.into(),
        // The variance of all values is that between inputs and that between the means of the units.
        between_units: (values.std.powi(2) - values.spread.powi(2))
            .max(0.0)
            .sqrt()
            .into(),
        saturated: layer.saturated.map(Into::into),
        dead: layer.saturated.map(|_| share(layer.dead)),
        copies: share(layer.duplicates),
        gradient_std: layer.gradient.as_ref().map(|it| it.std.into()),
        update: update(&layer.name, parameters).map(Into::into),
        norm: None,
    }
}

fn gradient(values: &observe::Summary) -> GradientFrame {
    let zero = (values.zeros * values.count as f64).round() as u32;
    GradientFrame {
        log: DECADES,
        counts: counts(&values.histogram),
        zero,
        below: (values.histogram.below as u32).saturating_sub(zero),
        above: values.histogram.above as u32,
    }
}

fn counts(histogram: &observe::Histogram) -> [u32; BINS] {
    std::array::from_fn(|bin| histogram.counts[bin] as u32)
}

/// The update of the first weights whose path starts with the name of a layer.
fn update(layer: &str, parameters: &[Parameter]) -> Option<f64> {
    let inside = |it: &&Parameter| {
        let rest = it.name.strip_prefix(layer);
        it.shape.len() > 1 && rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let update = parameters.iter().find(inside)?.update_to_data()?;
    update.is_finite().then_some(update)
}
