//! A whole ResNet-18: with the `use` line changed, and with its blocks in the fused form.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Distribution, FloatDType, Gradients, Tensor};

use crate::devices::processors;
use crate::resnets::{burns, fused, ours};

/// The logits, and the gradient of every parameter.
type Step = Vec<(String, Vec<f64>)>;

fn step<M: Module>(model: &M, images: &Tensor<4>, forward: fn(&M, Tensor<4>) -> Tensor<2>) -> Step {
    struct Collect<'a> {
        gradients: &'a Gradients,
        path: Vec<String>,
        found: Step,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.gradients) {
                let values = gradient.into_data().iter::<f64>().collect();
                self.found.push((self.path.join("."), values));
            }
        }
    }
    let logits = forward(model, images.clone());
    let gradients = logits.clone().powi_scalar(2).mean().backward();
    let mut collect = Collect {
        gradients: &gradients,
        path: Vec::new(),
        found: vec![("logits".into(), crate::numbers(logits))],
    };
    model.visit(&mut collect);
    collect.found
}

/// The model in f64. In f32, rounding may open a gate or choose another maximum.
fn in_f64<M: Module>(model: M) -> M {
    struct Cast;
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let trains = param.is_require_grad();
            param.map(|tensor| {
                let cast = tensor.detach().cast(FloatDType::F64);
                cast.detach().set_require_grad(trains)
            })
        }
    }
    model.map(&mut Cast)
}

#[test]
fn a_public_resnet_gives_the_same_step() {
    for device in processors() {
        let device = device.autodiff();
        let burns = in_f64(burns::ResNet::new(10, &device));
        let ours = in_f64(ours::ResNet::new(10, &device));
        let ours = ours.load_record(burns.clone().into_record());
        let fused = in_f64(fused::ResNet::new(10, &device));
        let fused = fused.load_record(burns.clone().into_record());
        let normal = Distribution::Normal(0.0, 1.0);
        let images = Tensor::<4>::random([4, 3, 64, 64], normal, &device).cast(FloatDType::F64);
        let expected = step(&burns, &images, burns::ResNet::forward);
        assert!(expected.len() > 60);
        for found in [
            step(&ours, &images, ours::ResNet::forward),
            step(&fused, &images, fused::ResNet::forward),
        ] {
            assert_eq!(found.len(), expected.len());
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
                for (found, expected) in found.iter().zip(expected) {
                    let error = (found - expected).abs() / largest;
                    assert!(
                        error < 1e-9,
                        "{name}: {found} against {expected}, of {largest}"
                    );
                }
            }
        }
    }
}
