//! How the cubes that share a channel leave the rest of the work to the last of them.
//!
//! Each cube writes the results of its part, then counts itself. Whoever finds that all the others have been counted is
//! the last, and reads what they wrote:
//!
//! ```text
//!   cube 0   results of part 0 -> memory   fence   counter: 0 -> 1   done
//!   cube 2   results of part 2 -> memory   fence   counter: 1 -> 2   done
//!   cube 1   results of part 1 -> memory   fence   counter: 2 -> 3   fence   merges parts 0, 1, 2
//! ```
//!
//! No cube waits for another, so it does not matter how many of them a device runs at a time. Parts are merged in their
//! order, so it does not matter either which cube is the last: results are reproducible.
//!
//! The first fence makes a cube's results visible to other cubes before it is counted; the second one makes those of the
//! others visible to the last. WebGPU has no fence for that, and neither have Vulkan and Metal by way of its shading
//! language. Devices with fences say so ([`is_possible`]).

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::features::AtomicUsage;
use burn_cubecl::cubecl::ir::{ElemType, Type, UIntKind};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

/// Counters of a buffer.
const COUNTERS: usize = 1 << 16;
/// The most bytes of shared memory that a kernel takes which merges the parts too.
const SHARED_MEMORY: usize = 32 << 10;

/// Whether the calling cube is the last to finish of those that share its channels. All its units call this together,
/// after they have written the results of their part; if it is the last, they see the results of all parts.
///
/// `counters` from `first` on are 0 before the launch, one for each group of channels.
#[cube]
pub fn is_last(counters: &mut Tensor<Atomic<u32>>, first: u32) -> bool {
    let mut earlier = Shared::<u32>::new();
    sync_storage();
    if UNIT_POS == 0 {
        *earlier = counters[(first + CUBE_POS_X) as usize].fetch_add(1u32);
    }
    sync_storage();
    *earlier == CUBE_COUNT_Y - 1
}

/// Whether kernels on a device may use [`is_last`].
pub fn is_possible(client: &Client) -> bool {
    let properties = client.properties();
    let counter = Type::atomic(ElemType::UInt(UIntKind::U32));
    properties.features.device_memory_scope
        && properties.hardware.max_shared_memory_size >= SHARED_MEMORY
        && properties
            .atomic_type_usage(counter)
            .contains(AtomicUsage::Add)
}

/// `groups` counters that are 0, in a tensor from the returned index on. Nobody else gets them, so a launch that fails
/// spoils no other. The memory is allocated for many launches at a time.
pub fn counters(like: &CubeTensor, groups: usize) -> (CubeTensor, u32) {
    static UNUSED: LazyLock<Mutex<HashMap<CubeDevice, (CubeTensor, usize)>>> =
        LazyLock::new(Mutex::default);
    let mut unused = UNUSED
        .lock()
        .unwrap_or_else(|panicked| panicked.into_inner());
    let (tensor, next) = unused
        .entry(like.device.clone())
        .or_insert_with(|| (zeros(like), 0));
    if *next + groups > COUNTERS {
        (*tensor, *next) = (zeros(like), 0);
    }
    let first = *next;
    *next += groups;
    (tensor.clone(), first as u32)
}

fn zeros(like: &CubeTensor) -> CubeTensor {
    let handle = like.client.create_from_slice(u32::as_bytes(&[0; COUNTERS]));
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::new([COUNTERS]),
        handle,
        DType::U32,
    )
}
