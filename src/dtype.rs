//! The float type for calculations with half-precision values.

use burn::tensor::DType;

/// f32 for f16 and bf16, else the type itself. In half precision, sums lose digits and running averages lose small
/// updates.
pub(crate) fn at_least_f32(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
