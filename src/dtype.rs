//! The type in which values of half precision are calculated.

use burn::tensor::DType;

/// f32 for f16 and bf16, in which sums lose digits and running averages lose small updates; else the type itself.
pub(crate) fn at_least_f32(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
