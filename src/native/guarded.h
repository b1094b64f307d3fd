// For functions that give 0, or 1 after writing what libtorch said into `error`: nothing throws across the border.
#pragma once

#include <c10/util/Exception.h>

#include <cstddef>
#include <cstring>
#include <exception>

template <class Work>
int guarded(char* error, size_t length, Work work) {
  try {
    work();
    return 0;
  } catch (const c10::Error& e) {
    std::strncpy(error, e.what_without_backtrace(), length - 1);
  } catch (const std::exception& e) {
    std::strncpy(error, e.what(), length - 1);
  } catch (...) {
    std::strncpy(error, "unknown", length - 1);
  }
  error[length - 1] = 0;
  return 1;
}
