//! The parameters of a model: the spread of their values, gradients and updates.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor, Transaction};

use super::floats::Floats;
use super::host;
use super::meanwhile::Meanwhile;
use super::readout::Readout;
use super::reduce::spread;
use super::report::Parameter;

/// A [`Parameter`] whose numbers are still on the device.
#[derive(Debug)]
pub(super) struct ParameterOnDevice {
    id: ParamId,
    name: String,
    shape: Vec<usize>,
    /// The values before the optimizer's step, in the model's own buffer. Released when the step is seen.
    values: Option<Tensor<1>>,
    data: Meanwhile<Spread>,
    gradient: Option<Meanwhile<Spread>>,
    update: Option<Meanwhile<Spread>>,
}

/// Fewer values than this are measured at once: waking a thread for them takes longer.
const FEW: usize = 1 << 14;

/// The spread of the values of a parameter.
fn spread_of(values: Tensor<1>) -> Meanwhile<Spread> {
    if !Floats::has(&values) {
        return Meanwhile::done(Spread::OnDevice(spread(values)));
    }
    measured(values.dims()[0], move || {
        host::spread_of(&Floats::of(values))
    })
}

/// The spread of how the values differ after the step.
fn update_of(before: Tensor<1>, after: Tensor<1>) -> Meanwhile<Spread> {
    if !(Floats::has(&before) && Floats::has(&after)) {
        return Meanwhile::done(Spread::OnDevice(spread(after - before)));
    }
    measured(before.dims()[0], move || {
        host::spread_of_update(&Floats::of(before), &Floats::of(after))
    })
}

/// Calls `measure`, now or meanwhile.
fn measured(
    count: usize,
    measure: impl FnOnce() -> [f64; 2] + Send + 'static,
) -> Meanwhile<Spread> {
    match count < FEW {
        true => Meanwhile::done(Spread::Read(measure())),
        false => Meanwhile::start(move || Ok(Spread::Read(measure()))),
    }
}

/// Population std and root mean square.
// There are few of them.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Spread {
    Read([f64; 2]),
    OnDevice(Tensor<1>),
}

impl Spread {
    fn read(self, readout: &mut Readout) -> [f64; 2] {
        match self {
            Self::Read(spread) => spread,
            Self::OnDevice(_) => match readout.numbers()[..] {
                [largest, std, rms] => [largest * std, largest * rms],
                _ => unreachable!("`spread` returns three numbers"),
            },
        }
    }
}

/// The parameters of `model` that require gradients, and its frozen weights, before the optimizer's step.
pub(super) fn before_step<M: Module>(model: &M, gradients: &Gradients) -> Vec<ParameterOnDevice> {
    let mut visitor = BeforeStep {
        gradients,
        path: Vec::new(),
        parameters: Vec::new(),
    };
    model.visit(&mut visitor);
    visitor.parameters
}

/// Adds the difference between the values of `model` after the step and the values before it.
pub(super) fn after_step<M: Module>(parameters: &mut [ParameterOnDevice], model: &M) {
    if !parameters.is_empty() {
        model.visit(&mut AfterStep { parameters });
    }
}

struct BeforeStep<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    parameters: Vec<ParameterOnDevice>,
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
        // Running statistics have one axis. Weights may be frozen by mistake, so they are shown.
        let learns = tensor.is_require_grad() || D > 1;
        if !learns || tensor.shape().num_elements() == 0 {
            return;
        }
        let values = flattened(tensor.clone());
        let gradient = tensor.grad(self.gradients).map(flattened);
        self.parameters.push(ParameterOnDevice {
            id: param.id,
            name: self.path.join("."),
            shape: tensor.dims().to_vec(),
            data: spread_of(values.clone()),
            values: Some(values),
            gradient: gradient.map(spread_of),
            update: None,
        });
    }
}

struct AfterStep<'a> {
    parameters: &'a mut [ParameterOnDevice],
}

impl ModuleVisitor for AfterStep<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(found) = self.parameters.iter_mut().find(|it| it.id == param.id) else {
            return;
        };
        if let Some(before) = found.values.take() {
            found.update = Some(update_of(before, flattened(param.val())));
        }
    }
}

fn flattened<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.without_autodiff().reshape([count])
}

impl ParameterOnDevice {
    pub(super) fn register(&self, transaction: Transaction) -> Transaction {
        let spreads = [
            Some(&self.data),
            self.gradient.as_ref(),
            self.update.as_ref(),
        ];
        let spreads = spreads.into_iter().flatten();
        spreads.fold(transaction, |transaction, spread| match spread.get() {
            Spread::Read(_) => transaction,
            Spread::OnDevice(spread) => transaction.register(spread.clone()),
        })
    }

    pub(super) fn read(self, readout: &mut Readout) -> Parameter {
        let mut read = |spread: Meanwhile<Spread>| spread.get().clone().read(readout);
        let [std, rms] = read(self.data);
        Parameter {
            name: self.name,
            shape: self.shape,
            std,
            rms,
            gradient_std: self.gradient.map(|it| read(it)[0]),
            update_rms: self.update.map(|it| read(it)[1]),
        }
    }
}
