//! A training loop that shows its steps to a sink.

use burn::nn::LinearConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use burn_kindling::observe::{Observer, Report, Sink, watch};

use crate::{any_device, bits, normal, tensor};

/// Takes every third step.
#[derive(Default)]
struct Thirds {
    asked: usize,
    taken: Vec<(usize, f64, Report)>,
}

impl Sink for Thirds {
    fn observer(&mut self) -> Option<Observer> {
        self.asked += 1;
        (self.asked % 3 == 1).then(|| Observer::new().with_bins(7))
    }

    fn take(&mut self, step: usize, loss: f64, report: Report) {
        self.taken.push((step, loss, report));
    }
}

/// Trains for seven steps. Returns the losses and the bits of the weights.
fn train(sink: &mut impl Sink) -> (Vec<f64>, Vec<u32>) {
    let device = any_device().autodiff();
    let weights = tensor(&normal(12, 1), [4, 3], &device);
    let config = LinearConfig::new(4, 3).with_bias(false);
    let mut model = config.init(&device);
    model.weight = model.weight.map(|_| weights.require_grad());
    let mut optimizer = SgdConfig::new().init();
    let mut losses = Vec::new();
    for step in 0..7 {
        let input: Tensor<2> = tensor(&normal(32, step), [8, 4], &device);
        let forward = || watch("output", model.forward(input)).square().mean();
        let (loss, mut seen) = sink.observe(forward);
        let gradients = loss.backward();
        seen.backward(&model, &gradients);
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(0.1, model, gradients);
        seen.step(&model);
        sink.show(step as usize, &loss, seen);
        losses.push(loss.into_scalar());
    }
    (losses, bits(model.weight.val()))
}

#[test]
fn a_sink_gets_the_steps_that_it_wants_and_changes_none() {
    struct Nobody;
    impl Sink for Nobody {
        fn observer(&mut self) -> Option<Observer> {
            None
        }
        fn take(&mut self, step: usize, _: f64, _: Report) {
            panic!("step {step} was not wanted");
        }
    }

    let mut thirds = Thirds::default();
    let (losses, weights) = train(&mut thirds);
    assert_eq!(thirds.asked, 7);
    let steps: Vec<_> = thirds.taken.iter().map(|(step, ..)| *step).collect();
    assert_eq!(steps, [0, 3, 6]);
    for (step, loss, report) in thirds.taken {
        assert_eq!(loss, losses[step]);
        assert_eq!(report.layers[0].name, "output");
        assert_eq!(report.layers[0].data.histogram.counts.len(), 7);
        assert!(report.layers[0].gradient.is_some());
        assert!(report.parameters[0].update_rms.is_some_and(|it| it > 0.0));
    }
    assert_eq!(train(&mut Nobody), (losses, weights));
}
