// Tensor functions that tch leaves out. Nothing throws across the border: 0 is success.

#include <ATen/ATen.h>

#include <cstdint>

// max(x, 0) + slope min(x, 0), in place; tch's leaky_relu has no slope argument.
extern "C" int32_t rankle_leaky_relu(void* tensor, double slope) {
  try {
    at::leaky_relu_(*static_cast<at::Tensor*>(tensor), slope);
    return 0;
  } catch (...) {
    return 1;
  }
}
