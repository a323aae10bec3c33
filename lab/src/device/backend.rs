//! All backends, in one table.

use burn::tensor::{Device, DeviceType};

/// A backend.
pub(super) struct Backend {
    /// The name that users type.
    pub(super) name: &'static str,
    /// How to open its devices, if it is compiled in.
    pub(super) compiled: Option<Compiled>,
    /// Advice if it has no device.
    pub(super) advice: &'static str,
}

#[derive(Clone, Copy)]
pub(super) struct Compiled {
    pub(super) default: fn() -> Device,
    kind: fn() -> DeviceType,
}

impl Compiled {
    pub(super) fn all(self) -> Vec<Device> {
        Device::enumerate((self.kind)()).into_vec()
    }
}

macro_rules! backends {
    ($($name:literal => $kind:ident, $default:expr, $advice:expr;)*) => {
        [$(Backend {
            name: $name,
            compiled: {
                #[cfg(feature = $name)]
                let compiled = Some(Compiled { default: || $default, kind: || DeviceType::$kind });
                #[cfg(not(feature = $name))]
                let compiled = None;
                compiled
            },
            advice: $advice,
        }),*]
    };
}

const GRAPHICS_DRIVER: &str = match cfg!(target_os = "linux") {
    true => {
        "install the GPU's Vulkan driver (on Debian, the package mesa-vulkan-drivers has the drivers for AMD and Intel \
         and one that computes on the CPU; nvidia-vulkan-icd has NVIDIA's), or use another device"
    }
    false => "install the GPU's driver, or use another device",
};

/// In order of preference: the first that is compiled in and present is the default.
pub(super) const BACKENDS: [Backend; 8] = backends![
    "cuda" => Cuda, Device::cuda(0usize), "it needs an NVIDIA GPU and its driver (libcuda)";
    "rocm" => Rocm, Device::rocm(0usize), "it needs an AMD GPU and ROCm";
    "metal" => Metal, Device::metal(burn::tensor::DeviceKind::DefaultDevice), "it needs an Apple GPU";
    "vulkan" => Vulkan, Device::vulkan(burn::tensor::DeviceKind::DefaultDevice), GRAPHICS_DRIVER;
    "webgpu" => WebGpu, Device::webgpu(burn::tensor::DeviceKind::DefaultDevice),
        "it is the API of browsers; outside a browser, use wgpu";
    "wgpu" => Wgpu, Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), GRAPHICS_DRIVER;
    "flex" => Flex, Device::flex(), "any CPU will do";
    "ndarray" => NdArray, ndarray(), "any CPU will do";
];

#[cfg(feature = "ndarray")]
fn ndarray() -> Device {
    // Burn deprecates NdArray in favour of Flex. Burn 0.22 still ships it, and results are checked against it as a
    // second CPU implementation.
    #[allow(deprecated)]
    Device::ndarray()
}

/// The names of all backends, in order of preference.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|backend| backend.name)
}

/// Whether a backend of this name is made for the CPU.
pub fn is_cpu_backend(name: &str) -> bool {
    matches!(name, "flex" | "ndarray")
}

/// The names of the backends that are compiled in, in order of preference.
pub fn compiled_in() -> impl Iterator<Item = &'static str> {
    let compiled = BACKENDS.iter().filter(|it| it.compiled.is_some());
    compiled.map(|backend| backend.name)
}
