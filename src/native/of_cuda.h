// What libtorch_cuda.so alone has is looked up by name while the program runs. Named to the linker, it would have every
// program load CUDA's libraries, also where there is no GPU.
#pragma once

#include <dlfcn.h>

#include <new>
#include <stdexcept>
#include <string>

// The function whose symbol is `name`. The type must be the symbol's.
template <class Function>
Function* of_cuda(const char* name) {
  auto* found = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  if (!found) throw std::runtime_error(std::string("no part of libtorch for CUDA is loaded that has ") + name);
  return found;
}

// A method by its symbol, called with its object first.
template <class Method>
struct OfCuda;
template <class T, class... Arguments>
struct OfCuda<void (T::*)(Arguments...)> {
  explicit OfCuda(const char* name) : found(of_cuda<void(T*, Arguments...)>(name)) {}
  void operator()(T* object, Arguments... arguments) const { found(object, arguments...); }

 private:
  void (*found)(T*, Arguments...);
};

// A new T by its constructor, whose symbol is `name`.
template <class T, class... Arguments>
T* new_of_cuda(const char* name, Arguments... arguments) {
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  auto* constructor = of_cuda<void(void*, Arguments...)>(name);
  void* room = ::operator new(sizeof(T));
  try {
    constructor(room, arguments...);
  } catch (...) {
    ::operator delete(room);
    throw;
  }
  return static_cast<T*>(room);
}
