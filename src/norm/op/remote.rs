//! Batch norm on another machine.
//!
//! A client sends its computation as a list of operations. Every server knows Burn's own operations. Batch norm's
//! operations are custom: the client sends them by the names in [`BatchNormBackend`], and the server must register
//! them. It then runs them with the kernels of its own backend.

// A program without another backend is a client only.
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray", feature = "cube")),
    allow(dead_code, unused_imports)
)]

use burn::backend::DispatchDevice;
use burn::backend::tensor::FloatTensor;
use burn::server::RemoteServer;
use burn::tensor::Device;
use burn_ir::{BackendIr, CustomOpIr, HandleContainer, ScalarIr};
use burn_router::{BackendRouter, RouterChannel};

use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormMoments, BatchNormStatistics,
    FusedActivation,
};

/// Without fusion, batch norm is not sent as a custom operation, but as the tensor operations that it consists of.
impl<R: RouterChannel> BatchNormBackend for BackendRouter<R> {}

/// Makes a server that lends `devices`, all of one backend, and knows the operations of batch norm.
///
/// On a server that does not know them, such as one from [`RemoteServer::new`], a client's
/// [`BatchNorm`](crate::norm::BatchNorm) fails.
pub fn remote_server(devices: impl IntoIterator<Item = Device>) -> RemoteServer {
    let devices: Vec<_> = devices.into_iter().map(Device::inner).collect();
    let server = RemoteServer::new(devices.clone());
    match devices.first().map(Device::as_dispatch) {
        #[cfg(feature = "flex")]
        Some(DispatchDevice::Flex(_)) => register::<burn::backend::Flex>(server),
        #[cfg(feature = "ndarray")]
        Some(DispatchDevice::NdArray(_)) => register::<burn::backend::NdArray>(server),
        #[cfg(feature = "cube")]
        Some(DispatchDevice::Cube(_)) => register::<burn::backend::Cube>(server),
        // The server itself reports devices that cannot be lent when it starts.
        _ => server,
    }
}

/// Registers the operations, implemented by backend `B`.
fn register<B: BackendIr + BatchNormBackend>(server: RemoteServer) -> RemoteServer {
    server
        .with_custom_op::<B, _>("burn_kindling::batch_norm_forward", |handles, op, _| {
            let [input, gamma, beta] = inputs::<B, 3>(handles, op);
            let affine = BatchNormAffine { gamma, beta };
            let result = B::batch_norm_forward(input, affine, epsilon(op), activation(op, 1));
            let outputs = [
                result.output,
                result.mean,
                result.mean_rest,
                result.variance,
            ];
            publish::<B, 4>(handles, op, outputs);
        })
        .with_custom_op::<B, _>("burn_kindling::batch_norm_backward", |handles, op, _| {
            let [input, gradient, gamma, beta, mean, mean_rest, variance] =
                inputs::<B, 7>(handles, op);
            let saved = BatchNormBackward {
                input,
                gradient,
                affine: BatchNormAffine { gamma, beta },
                statistics: BatchNormStatistics {
                    mean,
                    mean_rest,
                    variance,
                },
            };
            let result =
                B::batch_norm_backward(saved, epsilon(op), frozen(op, 1), activation(op, 2));
            publish::<B, 3>(handles, op, [result.input, result.gamma, result.beta]);
        })
        .with_custom_op::<B, _>("burn_kindling::batch_norm_inference", |handles, op, _| {
            let [input, gamma, beta, mean, variance] = inputs::<B, 5>(handles, op);
            let affine = BatchNormAffine { gamma, beta };
            let moments = BatchNormMoments { mean, variance };
            let output =
                B::batch_norm_inference(input, affine, moments, epsilon(op), activation(op, 1));
            publish::<B, 1>(handles, op, [output]);
        })
}

/// The input tensors of an operation, in the order of the function's arguments.
fn inputs<B: BackendIr, const N: usize>(
    handles: &mut HandleContainer<B::Handle>,
    op: &CustomOpIr,
) -> [FloatTensor<B>; N] {
    let inputs: &[_; N] = (&op.inputs[..])
        .try_into()
        .unwrap_or_else(|_| panic!("{} takes {N} tensors", op.id));
    std::array::from_fn(|index| handles.get_float_tensor::<B>(&inputs[index]))
}

/// The epsilon of an operation: its first scalar.
fn epsilon(op: &CustomOpIr) -> f64 {
    match op.scalars.first() {
        Some(ScalarIr::Float(epsilon)) => *epsilon,
        other => panic!("{} takes an epsilon, found {other:?}", op.id),
    }
}

/// Whether the statistics were given: the scalar at `place`.
fn frozen(op: &CustomOpIr, place: usize) -> bool {
    match op.scalars.get(place) {
        Some(ScalarIr::Bool(frozen)) => *frozen,
        other => panic!("{} takes a flag, found {other:?}", op.id),
    }
}

/// What follows the normalisation: the scalar at `place`.
fn activation(op: &CustomOpIr, place: usize) -> FusedActivation {
    let found = op.scalars.get(place);
    [FusedActivation::None, FusedActivation::Relu]
        .into_iter()
        .find(|activation| matches!(found, Some(ScalarIr::Int(code)) if *code == activation.code()))
        .unwrap_or_else(|| panic!("{} takes the code of what follows, found {found:?}", op.id))
}

/// Registers the output tensors of an operation, in the order of the result's fields.
fn publish<B: BackendIr, const N: usize>(
    handles: &mut HandleContainer<B::Handle>,
    op: &CustomOpIr,
    tensors: [FloatTensor<B>; N],
) {
    assert_eq!(op.outputs.len(), N, "{} gives {N} tensors", op.id);
    for (output, tensor) in op.outputs.iter().zip(tensors) {
        handles.register_float_tensor::<B>(&output.id, tensor);
    }
}
