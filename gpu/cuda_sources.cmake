# The CUDA backend, for its library and for the emulated device of the tests.
set(cuda_host_sources cuda/cublaslt.cpp cuda/cuda_device.cpp cuda/devices.cpp cuda/host_pinner.cpp
    cuda/peer_reader.cpp cuda/pinned_ring.cpp cuda/probe.cpp cuda/recordings.cpp
    cuda/scratch_memory.cpp cuda/staged_upload.cpp cuda/wide_products.cpp)
# Opens a library that the emulated device stands in for.
set(cuda_library_sources cuda/cublaslt_library.cpp)
set(cuda_kernel_sources
  kernels/attention_float.cu
  kernels/attention_tensor.cu
  kernels/choose.cu
  kernels/choose_ends.cu
  kernels/elementwise.cu
  kernels/kv_write.cu
  kernels/linear_float.cu
  kernels/linear_narrow.cu
  kernels/linear_tensor.cu
  kernels/linear_wide.cu
  kernels/probe.cu
  kernels/quantize.cu
  kernels/rms_norm.cu
  kernels/widen.cu)
