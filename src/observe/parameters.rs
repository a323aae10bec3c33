//! The parameters of a model: how far their values, gradients and updates spread.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor, Transaction};

use super::reduce::{self, Read};
use super::report::Parameter;

/// A parameter that was seen before the optimizer's step.
#[derive(Debug)]
pub(super) struct SeenParameter {
    id: ParamId,
    name: String,
    shape: Vec<usize>,
    /// The values in a row, in the model's own buffer; held until the step is seen.
    values: Option<Tensor<1>>,
    data: Tensor<1>,
    gradient: Option<Tensor<1>>,
    update: Option<Tensor<1>>,
}

/// The parameters of `model` that require gradients.
pub(super) fn with_gradients<M: Module>(model: &M, gradients: &Gradients) -> Vec<SeenParameter> {
    let mut visitor = BeforeStep {
        gradients,
        path: Vec::new(),
        seen: Vec::new(),
    };
    model.visit(&mut visitor);
    visitor.seen
}

/// Compares the values with those of the same parameters in `model`.
pub(super) fn moved_to<M: Module>(seen: &mut [SeenParameter], model: &M) {
    if !seen.is_empty() {
        model.visit(&mut AfterStep { seen });
    }
}

struct BeforeStep<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    seen: Vec<SeenParameter>,
}

impl ModuleVisitor for BeforeStep<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() || tensor.shape().num_elements() == 0 {
            return;
        }
        let values = in_a_row(tensor.clone());
        let gradient = tensor.grad(self.gradients).map(in_a_row);
        self.seen.push(SeenParameter {
            id: param.id,
            name: self.path.join("."),
            shape: tensor.dims().to_vec(),
            data: reduce::spread(values.clone()),
            values: Some(values),
            gradient: gradient.map(reduce::spread),
            update: None,
        });
    }
}

struct AfterStep<'a> {
    seen: &'a mut [SeenParameter],
}

impl ModuleVisitor for AfterStep<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.id == param.id) else {
            return;
        };
        if let Some(before) = seen.values.take() {
            seen.update = Some(reduce::spread(in_a_row(param.val()) - before));
        }
    }
}

fn in_a_row<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.without_autodiff().reshape([count])
}

impl SeenParameter {
    pub(super) fn register(&self, reading: Transaction) -> Transaction {
        [
            Some(&self.data),
            self.gradient.as_ref(),
            self.update.as_ref(),
        ]
        .into_iter()
        .flatten()
        .fold(reading, |reading, spread| reading.register(spread.clone()))
    }

    pub(super) fn read(self, read: &mut Read) -> Parameter {
        let mut std = |_| reduce::next_numbers(read).iter().product();
        Parameter {
            name: self.name,
            shape: self.shape,
            std: std(self.data),
            gradient_std: self.gradient.map(&mut std),
            update_std: self.update.map(&mut std),
        }
    }
}
