//! What follows a normalisation in the same operation.

#[cfg(feature = "kernels")]
use burn::nn::PaddingConfig2d;
use burn::nn::pool::{AvgPool2d, MaxPool2d};
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use super::FusedActivation;
#[cfg(feature = "kernels")]
use super::{has_cpu_kernels, has_gpu_kernels};
use crate::init::Activation;

#[cfg(feature = "kernels")]
mod autodiff;
#[cfg(feature = "kernels")]
mod backend;
mod tail;

#[cfg(feature = "kernels")]
pub(super) use backend::impl_batch_norm_by_then;
#[cfg(feature = "kernels")]
pub use backend::{
    BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward, BatchNormThenGradients,
};
pub use tail::{Pooling, PoolingKind, Tail, TailActivation};

/// What follows a normalisation in the same operation: a residual to add, then an activation, then a 2-D pooling, each
/// of them optional.
///
/// ```
/// use burn::nn::pool::MaxPool2dConfig;
/// use burn::tensor::{Device, Distribution, Tensor, activation::relu};
/// use burn_kindling::norm::{BatchNormConfig, Then};
///
/// let device = Device::flex();
/// let norm = BatchNormConfig::new(8).init(&device);
/// let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
/// let [x, skip] = [(); 2].map(|()| Tensor::<4>::random([4, 8, 6, 6], Distribution::Default, &device));
///
/// // The end of a residual block.
/// let fused = norm.forward_then(x.clone(), Then::new().add_residual(skip.clone()).relu());
/// assert!(fused.all_close(relu(norm.forward(x.clone()) + skip), None, None));
///
/// // Before a pooling.
/// let fused = norm.forward_then(x.clone(), Then::new().relu().max_pool(&pool));
/// assert!(fused.all_close(pool.forward(relu(norm.forward(x))), None, None));
/// ```
///
/// # What it saves
///
/// The passes of the normalisation do all of it, forward and backward. Only the last result is written: with a 2x2
/// pooling, a quarter of the values. For the backward pass the operation keeps its input and the residual, which the
/// model holds anyway; the activation's gate and the pooling's choice are computed again.
///
/// On Flex and NdArray, sigmoid, tanh and SiLU take a pass of their own over the result; on a GPU, Burn does them. After
/// a SiLU, Burn pools; after a sigmoid or a tanh, it averages. The maximum is taken before a sigmoid, a tanh or a SELU,
/// in the operation, and Burn applies the activation to what is left.
///
/// On a GPU, the residual costs one more read forward, and no launch; backward, one more read and one more write, its
/// gradient. The pooling of maxima costs one more launch backward. On a remote device, only a ReLU without a residual is
/// part of the operation.
///
/// A pooling with dilation, `ceil_mode`, more padding on one side than on the other, or more than half its window is
/// not fused, nor is a leaky ReLU whose slope is not above 0 or not finite, nor a GELU or SELU. Burn computes these
/// after the operation, on every backend.
///
/// # Ties, and what is not a number
///
/// As in PyTorch: where the input of a ReLU is 0, the gradient is 0, and where that of a leaky ReLU is, the gradient is
/// that below 0. (Burn's leaky ReLU, which does the work where none is fused, takes that above 0.) The gradient of a
/// max pooling goes to the first of equal maxima in a window, row by row, and to the last NaN if there is one. NaN goes
/// through every step.
#[derive(Clone, Debug)]
pub struct Then<const D: usize> {
    residual: Option<Tensor<D>>,
    activation: Option<Applied>,
    pool: Option<Pool>,
}

#[derive(Clone, Copy, Debug)]
enum Applied {
    Plain(Activation),
    LeakyRelu { slope: f64 },
}

impl Applied {
    fn kind(self) -> Activation {
        match self {
            Self::Plain(activation) => activation,
            Self::LeakyRelu { .. } => Activation::LeakyRelu,
        }
    }
}

#[derive(Clone, Debug)]
enum Pool {
    Max(MaxPool2d),
    Average(AvgPool2d),
}

/// How the operation is carried out. It is taken apart as soon as it is made, so its size does not matter.
#[allow(clippy::large_enum_variant)]
pub(super) enum Plan<const D: usize> {
    /// By kernels, then the rest in Burn's tensor operations.
    #[cfg(feature = "kernels")]
    Kernels(BatchNormResidual<burn::backend::Dispatch>, Tail, Then<D>),
    /// By an operation that every backend has, then the rest in Burn's tensor operations.
    Steps(FusedActivation, Then<D>),
}

impl<const D: usize> Default for Then<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const D: usize> Then<D> {
    /// Nothing follows.
    pub fn new() -> Self {
        Self {
            residual: None,
            activation: None,
            pool: None,
        }
    }

    /// Adds a residual: a tensor of the input's shape and type, such as the input of the block.
    ///
    /// # Panics
    ///
    /// Panics if there is a residual already, or if an activation or a pooling was given before: these come after it.
    pub fn add_residual(mut self, residual: Tensor<D>) -> Self {
        assert!(
            self.residual.is_none(),
            "one residual can be added after a batch norm; add the others to it first"
        );
        assert!(
            self.activation.is_none() && self.pool.is_none(),
            "after a batch norm, the residual is added before the activation and the pooling"
        );
        self.residual = Some(residual);
        self
    }

    /// Applies a ReLU: `max(z, 0)`.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn relu(self) -> Self {
        self.activate(Activation::Relu)
    }

    /// Applies a leaky ReLU: `z` above 0, `slope * z` elsewhere.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.with_activation(Applied::LeakyRelu { slope })
    }

    /// Applies a sigmoid: `1 / (1 + exp(-z))`.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn sigmoid(self) -> Self {
        self.activate(Activation::Sigmoid)
    }

    /// Applies a tanh.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn tanh(self) -> Self {
        self.activate(Activation::Tanh)
    }

    /// Applies a SiLU, or swish: `z / (1 + exp(-z))`.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn silu(self) -> Self {
        self.activate(Activation::Silu)
    }

    /// Applies a GELU: `z Phi(z)`, where `Phi` is the distribution function of N(0, 1). Burn does it, after the
    /// operation.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn gelu(self) -> Self {
        self.activate(Activation::Gelu)
    }

    /// Applies an activation that is chosen at run time. A leaky ReLU has the slope [`Activation::LEAKY_SLOPE`]. Burn
    /// does a SELU, after the operation.
    ///
    /// # Panics
    ///
    /// Panics if an activation or a pooling was given before.
    pub fn activate(self, activation: Activation) -> Self {
        self.with_activation(match activation {
            Activation::LeakyRelu => Applied::LeakyRelu {
                slope: Activation::LEAKY_SLOPE,
            },
            _ => Applied::Plain(activation),
        })
    }

    fn with_activation(mut self, activation: Applied) -> Self {
        assert!(
            self.activation.is_none() && self.pool.is_none(),
            "after a batch norm, one activation is applied, before the pooling"
        );
        self.activation = Some(activation);
        self
    }

    /// The activation.
    pub(in crate::norm) fn activation(&self) -> Option<Activation> {
        self.activation.map(Applied::kind)
    }

    /// The same with another residual.
    pub(in crate::norm) fn map_residual(self, f: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Self {
        Self {
            residual: self.residual.map(f),
            ..self
        }
    }

    /// Does it to any tensor, in Burn's tensor operations: for a model whose normalisation is optional.
    ///
    /// # Panics
    ///
    /// Panics if the residual's shape does not fit.
    pub fn apply(self, z: Tensor<D>) -> Tensor<D> {
        let z = match self.residual {
            None => z,
            Some(residual) => z + residual,
        };
        let Some(pool) = self.pool else {
            return activated(z, self.activation);
        };
        // The largest value stays the largest through an activation that never falls. After the pooling, there is less
        // to apply it to.
        let falls = match self.activation {
            Some(Applied::LeakyRelu { slope }) => slope < 0.0,
            Some(Applied::Plain(activation)) => {
                matches!(activation, Activation::Silu | Activation::Gelu)
            }
            None => false,
        };
        let before = falls || matches!(pool, Pool::Average(_));
        let (first, last) = match before {
            true => (self.activation, None),
            false => (None, self.activation),
        };
        activated(pooled(activated(z, first), pool), last)
    }
}

fn activated<const D: usize>(z: Tensor<D>, activation: Option<Applied>) -> Tensor<D> {
    match activation {
        None => z,
        Some(Applied::LeakyRelu { slope }) => leaky_relu(z, slope),
        Some(Applied::Plain(activation)) => activation.forward(z),
    }
}

fn pooled<const D: usize>(z: Tensor<D>, pool: Pool) -> Tensor<D> {
    // Only a tensor of rank 4 can be pooled, see `Then::max_pool`; the shapes tell the compiler so.
    let dims: [usize; D] = z.dims();
    let images = z.reshape([dims[0], dims[1], dims[2], dims[3]]);
    let pooled = match pool {
        Pool::Max(pool) => pool.forward(images),
        Pool::Average(pool) => pool.forward(images),
    };
    let shape = pooled.shape();
    pooled.reshape(shape)
}

impl<const D: usize> Then<D> {
    /// Checks the residual.
    ///
    /// # Panics
    ///
    /// If its shape or type is not the input's.
    pub(super) fn check(&self, input: &Tensor<D>) {
        let Some(residual) = &self.residual else {
            return;
        };
        let [expected, found] = [input, residual].map(|tensor| (tensor.dims(), tensor.dtype()));
        assert!(
            found == expected,
            "batch norm adds a residual of its input's shape and type: {:?} of {:?}, found {:?} of {:?}",
            expected.0,
            expected.1,
            found.0,
            found.1
        );
    }

    /// Decides how the operation is carried out for this input, which is not empty.
    #[cfg_attr(not(feature = "kernels"), allow(unused_mut))]
    pub(super) fn plan(mut self, input: &Tensor<D>) -> Plan<D> {
        #[cfg(feature = "kernels")]
        {
            let device = &input.device();
            let at_most_relu = matches!(self.activation(), None | Some(Activation::Relu));
            let beyond_a_relu = self.residual.is_some() || !at_most_relu;
            let has_kernels = has_cpu_kernels(device) || has_gpu_kernels(device);
            let wanted = beyond_a_relu || self.pool.is_some();
            if has_kernels
                && wanted
                && let Some((residual, tail)) = self.for_kernels(input)
            {
                return Plan::Kernels(residual, tail, self);
            }
        }
        let _ = input;
        match self.activation() {
            Some(Activation::Relu) if self.residual.is_none() => Plan::Steps(
                FusedActivation::Relu,
                Self {
                    activation: None,
                    ..self
                },
            ),
            _ => Plan::Steps(FusedActivation::None, self),
        }
    }

    /// Takes out what the kernels of the input's device do, or `None` if they cannot do it.
    #[cfg(feature = "kernels")]
    pub(super) fn for_kernels(
        &mut self,
        input: &Tensor<D>,
    ) -> Option<(BatchNormResidual<burn::backend::Dispatch>, Tail)> {
        let on_cpu = has_cpu_kernels(&input.device());
        // After the pooling of maxima, there is less to apply an activation to that never falls.
        let pools_first = matches!(
            (&self.pool, self.activation()),
            (
                Some(Pool::Max(_)),
                Some(Activation::Sigmoid | Activation::Tanh | Activation::Selu)
            )
        );
        let activation = match self.activation {
            None => Some(TailActivation::None),
            Some(Applied::LeakyRelu { slope }) if slope.is_finite() && slope > 0.0 => {
                Some(TailActivation::LeakyRelu { slope })
            }
            Some(Applied::Plain(Activation::Relu)) => Some(TailActivation::Relu),
            Some(Applied::Plain(activation)) if on_cpu && !pools_first => match activation {
                Activation::Sigmoid => Some(TailActivation::Sigmoid),
                Activation::Tanh => Some(TailActivation::Tanh),
                Activation::Silu => Some(TailActivation::Silu),
                _ => None,
            },
            Some(_) => None,
        };
        let is_gated = activation.is_some_and(|activation| !activation.is_smooth());
        let pooling = match &self.pool {
            Some(pool) if pools_first || is_gated => {
                let dims = input.dims();
                Some(pool.plan([dims[2], dims[3]])?)
            }
            _ => None,
        };
        // What the kernels leave, Burn does after them.
        if activation.is_some() {
            self.activation = None;
        }
        if pooling.is_some() {
            self.pool = None;
        }
        let residual = match self.residual.take() {
            None => BatchNormResidual::Absent,
            Some(residual) => BatchNormResidual::Added(residual.into_dispatch()),
        };
        let tail = Tail {
            activation: activation.unwrap_or(TailActivation::None),
            pooling,
        };
        Some((residual, tail))
    }
}

impl Then<4> {
    /// Pools by the maximum of each window, as the layer does.
    ///
    /// # Shapes
    ///
    /// - `[batch, channels, height, width]` to `[batch, channels, height out, width out]`
    ///
    /// # Panics
    ///
    /// Panics if a pooling was given before.
    pub fn max_pool(self, pool: &MaxPool2d) -> Self {
        self.pool(Pool::Max(pool.clone()))
    }

    /// Pools by the average of each window, as the layer does.
    ///
    /// # Shapes
    ///
    /// - `[batch, channels, height, width]` to `[batch, channels, height out, width out]`
    ///
    /// # Panics
    ///
    /// Panics if a pooling was given before.
    pub fn avg_pool(self, pool: &AvgPool2d) -> Self {
        self.pool(Pool::Average(pool.clone()))
    }

    fn pool(mut self, pool: Pool) -> Self {
        assert!(
            self.pool.is_none(),
            "after a batch norm, the output is pooled once"
        );
        self.pool = Some(pool);
        self
    }
}

#[cfg(feature = "kernels")]
impl Pool {
    /// The pooling of images of this height and width, or `None` if the kernels do not take it.
    fn plan(&self, input: [usize; 2]) -> Option<Pooling> {
        let (kind, window, strides, padding) = match self {
            Self::Max(pool) if pool.dilation == [1, 1] && !pool.ceil_mode => (
                PoolingKind::Max,
                pool.kernel_size,
                pool.stride,
                &pool.padding,
            ),
            Self::Average(pool) if !pool.ceil_mode => (
                PoolingKind::Average {
                    count_padding: pool.count_include_pad,
                },
                pool.kernel_size,
                pool.stride,
                &pool.padding,
            ),
            _ => return None,
        };
        let padding = match *padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right)
                if top == bottom && left == right =>
            {
                [top, left]
            }
            // Kept for odd windows and strides of 1, where both sides have the same padding.
            PaddingConfig2d::Same
                if strides == [1, 1] && window.iter().all(|side| side % 2 == 1) =>
            {
                window.map(|side| side / 2)
            }
            _ => return None,
        };
        Pooling::new(kind, input, window, strides, padding)
    }
}
