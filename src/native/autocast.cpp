// bfloat16 autocast for a device: tch wraps only CUDA's switch, and not its number format.

#include <ATen/autocast_mode.h>

extern "C" {

// Switches autocast on for CUDA (or the CPU) and returns whether it was on before.
int rankle_autocast_enter(int cuda) {
  const auto device = cuda ? at::kCUDA : at::kCPU;
  const bool before = at::autocast::is_autocast_enabled(device);
  at::autocast::set_autocast_dtype(device, at::kBFloat16);
  at::autocast::set_autocast_enabled(device, true);
  at::autocast::increment_nesting();
  return before;
}

// Undoes rankle_autocast_enter; the casts of weights that it kept are dropped with the outermost level.
void rankle_autocast_leave(int cuda, int before) {
  const auto device = cuda ? at::kCUDA : at::kCPU;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device, before != 0);
}
}
