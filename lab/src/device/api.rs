//! The graphics API through which a GPU is reached.

use burn_cubecl::CubeDevice;

/// The name of the API that the device uses: the one that it is bound to, or else the one that wgpu chooses on this
/// machine. `None` for CUDA and ROCm.
pub(super) fn graphics_api(device: &CubeDevice) -> Option<&'static str> {
    #[cfg(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "webgpu"
    ))]
    if let CubeDevice::Wgpu(device) = device {
        use burn_cubecl::cubecl::wgpu::{AutoGraphicsApi, Backend, GraphicsApi, WgpuBackend};

        let chosen = match device.backend {
            WgpuBackend::Auto => AutoGraphicsApi::backend(),
            WgpuBackend::Vulkan => Backend::Vulkan,
            WgpuBackend::Metal => Backend::Metal,
            WgpuBackend::Dx12 => Backend::Dx12,
            WgpuBackend::Gl => Backend::Gl,
            WgpuBackend::WebGpu => Backend::BrowserWebGpu,
        };
        return match chosen {
            Backend::Vulkan => Some("Vulkan"),
            Backend::Metal => Some("Metal"),
            Backend::Dx12 => Some("DirectX 12"),
            Backend::Gl => Some("OpenGL"),
            Backend::BrowserWebGpu => Some("WebGPU"),
            Backend::Noop => None,
        };
    }
    let _ = device;
    None
}
