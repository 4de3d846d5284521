// A device that is not there: tensors of PrivateUse1 in ordinary memory. Every operator runs on the CPU, on the very
// memory of its arguments; before that it is refused where CUDA would refuse its mixture of devices, and counted.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/GeneratorForPrivateuseone.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::IValue;

constexpr auto kHere = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kHere, 0);

bool here(const Tensor& t) {
  return t.defined() && t.is_privateuseone();
}

// --- what is noted ---------------------------------------------------------------------------------------------------

PyObject* listener = nullptr; // called with (kind, operator, bytes, detail); owned
std::atomic<bool> counting{false}, doubles{false}, refuse_doubles{false}, silent{false};
std::mutex tally_mutex;
std::map<std::string, std::pair<int64_t, int64_t>> tally; // operator -> calls, bytes read and written

void tell(const char* kind, const std::string& op, int64_t bytes, const std::string& detail = "") {
  if (listener == nullptr || silent)
    return;
  pybind11::gil_scoped_acquire gil;
  pybind11::reinterpret_borrow<pybind11::object>(listener)(kind, op, bytes, detail);
}

void count(const std::string& op, int64_t bytes) {
  if (!counting || silent)
    return;
  std::lock_guard<std::mutex> lock(tally_mutex);
  auto& entry = tally[op];
  entry.first += 1;
  entry.second += bytes;
}

int64_t bytes_of(const Tensor& t) {
  int64_t n = 1; // what an expanded tensor repeats is read once
  for (int64_t d = 0; d < t.dim(); ++d)
    if (t.stride(d) != 0 || t.size(d) == 0)
      n *= t.size(d);
  const auto whole = static_cast<int64_t>(t.storage().nbytes()); // of what overlaps, no more than there is
  return std::min(n * static_cast<int64_t>(t.element_size()), whole);
}

// --- memory ----------------------------------------------------------------------------------------------------------

std::atomic<int64_t> in_use{0}, peak{0};

struct Block {
  void* data;
  size_t size;
};

void free_block(void* context) {
  auto* block = static_cast<Block*>(context);
  in_use -= static_cast<int64_t>(block->size);
  std::free(block->data);
  delete block;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    const size_t rounded = (size + 63) / 64 * 64;
    void* data = size ? std::aligned_alloc(64, rounded) : nullptr;
    TORCH_CHECK(data != nullptr || size == 0, "simulated: out of memory");
    if (size)
      std::memset(data, 0xFF, rounded); // not a number: nobody may count on fresh memory
    const int64_t now = in_use += static_cast<int64_t>(size);
    int64_t before = peak;
    while (now > before && !peak.compare_exchange_weak(before, now)) {
    }
    return {data, new Block{data, size}, &free_block, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return nullptr;
  }
  void copy_data(void* target, const void* source, size_t size) const override {
    std::memcpy(target, source, size);
  }
};
Memory memory;
REGISTER_ALLOCATOR(kHere, &memory);

std::mutex pinned_mutex;
std::map<const char*, size_t> pinned; // start -> size

void free_pinned(void* data) {
  {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned.erase(static_cast<const char*>(data));
  }
  std::free(data);
}

struct PinnedMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* data = std::aligned_alloc(64, (std::max<size_t>(size, 1) + 63) / 64 * 64);
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned[static_cast<const char*>(data)] = size;
    return {data, data, &free_pinned, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &free_pinned;
  }
  void copy_data(void* target, const void* source, size_t size) const override {
    std::memcpy(target, source, size);
  }
};
PinnedMemory pinned_memory;

bool is_pinned(const void* data) {
  std::lock_guard<std::mutex> lock(pinned_mutex);
  auto after = pinned.upper_bound(static_cast<const char*>(data));
  if (after == pinned.begin())
    return false;
  auto [start, size] = *std::prev(after);
  return static_cast<const char*>(data) < start + std::max<size_t>(size, 1);
}

// --- generator, guard, hooks -----------------------------------------------------------------------------------------

struct Generator final : c10::GeneratorImpl {
  explicit Generator(c10::DeviceIndex = 0)
      : c10::GeneratorImpl(kDevice, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        inner(at::detail::createCPUGenerator()) {}
  void set_current_seed(uint64_t seed) override {
    inner.set_current_seed(seed);
  }
  uint64_t current_seed() const override {
    return inner.current_seed();
  }
  uint64_t seed() override {
    return inner.seed();
  }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override {
    return 0;
  }
  void set_state(const c10::TensorImpl& state) override {
    inner.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  at::Generator inner; // of the CPU, which makes the numbers

 private:
  Generator* clone_impl() const override {
    auto* made = new Generator();
    made->inner = inner.clone();
    return made;
  }
};

at::Generator& default_generator() {
  static at::Generator made = at::make_generator<Generator>();
  return made;
}

at::Generator inner_of(const at::Generator& generator) {
  return static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->inner;
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return kHere;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    setDevice(device);
    return kDevice;
  }
  c10::Device getDevice() const override {
    return kDevice;
  }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() <= 0, "simulated: there is one device, got ", device);
  }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  c10::Stream getDefaultStream(c10::Device) const override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool = false) const override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  c10::Stream getNewStream(c10::Device, int = 0) const override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return stream;
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return 1;
  }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {
    tell("synchronize", "stream", 0);
  }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {
    tell("synchronize", "device", 0);
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return 1;
  }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override {
    return 0;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override {
    return 0;
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Generator>();
  }
  at::Device getDeviceFromPtr(void*) const override {
    return kDevice;
  }
  bool isPinnedPtr(const void* data) const override {
    return is_pinned(data);
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return &pinned_memory;
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    auto fresh = memory.allocate(size);
    std::memcpy(fresh.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

// --- tensors: made here, seen from the CPU, brought here -------------------------------------------------------------

void check_dtype(c10::ScalarType dtype) {
  TORCH_CHECK_TYPE(
      !(refuse_doubles && dtype == c10::kDouble), "simulated: this device has no float64 (as Apple's GPUs)");
}

Tensor empty_memory_format(
    IntArrayRef size,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>,
    std::optional<c10::Device>,
    std::optional<bool> pin,
    std::optional<c10::MemoryFormat> format) {
  TORCH_CHECK(!c10::pinned_memory_or_default(pin), "Only dense CPU tensors can be pinned");
  check_dtype(c10::dtype_or_default(dtype));
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &memory, keys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size,
    IntArrayRef stride,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>,
    std::optional<c10::Device>,
    std::optional<bool> pin) {
  TORCH_CHECK(!c10::pinned_memory_or_default(pin), "Only dense CPU tensors can be pinned");
  check_dtype(c10::dtype_or_default(dtype));
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &memory, keys, c10::dtype_or_default(dtype));
}

// The same memory as a tensor of the CPU.
Tensor on_cpu(const Tensor& t) {
  if (!here(t))
    return t;
  auto options = at::TensorOptions().dtype(t.scalar_type()).device(at::kCPU);
  return at::from_blob(t.numel() ? t.data_ptr() : nullptr, t.sizes(), t.strides(), [t](void*) {}, options);
}

Tensor brought(const Tensor& t) {
  if (!t.defined() || !t.is_cpu())
    return t;
  auto made = t.is_non_overlapping_and_dense()
      ? empty_strided(t.sizes(), t.strides(), t.scalar_type(), {}, kDevice, {})
      : empty_memory_format(t.sizes(), t.scalar_type(), {}, kDevice, {}, {});
  at::AutoDispatchBelowADInplaceOrView below;
  on_cpu(made).copy_(t);
  return made;
}

// --- views: other sizes and strides of the same storage --------------------------------------------------------------

Tensor view_of(const Tensor& self, IntArrayRef size, IntArrayRef stride, int64_t offset) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), self.dtype());
  made.unsafeGetTensorImpl()->set_storage_offset(offset);
  made.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride);
  return made;
}

Tensor as_strided(const Tensor& self, IntArrayRef size, IntArrayRef stride, std::optional<int64_t> offset) {
  return view_of(self, size, stride, offset.value_or(self.storage_offset()));
}

Tensor view(const Tensor& self, IntArrayRef size) {
  const auto inferred = at::infer_size_dv(size, self.numel());
  const auto stride = at::detail::computeStride(self.sizes(), self.strides(), inferred);
  TORCH_CHECK(
      stride.has_value(),
      "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
      "contiguous subspaces). Use .reshape(...) instead.");
  return view_of(self, inferred, *stride, self.storage_offset());
}

Tensor reshape_alias(const Tensor& self, IntArrayRef size, IntArrayRef stride) {
  return view_of(self, size, stride, self.storage_offset());
}

Tensor unfold(const Tensor& self, int64_t dim, int64_t size, int64_t step) {
  dim = at::maybe_wrap_dim(dim, self.dim(), true);
  auto sizes = self.sizes().vec(), strides = self.strides().vec();
  sizes.push_back(size);
  strides.push_back(self.dim() == 0 ? 1 : self.stride(dim));
  if (dim < self.dim()) {
    sizes[dim] = (self.size(dim) - size) / step + 1;
    strides[dim] *= step;
  }
  return view_of(self, sizes, strides, self.storage_offset());
}

Tensor viewed_as(const Tensor& self, const Tensor& seen) {
  // As real or as complex numbers: the storage is the same, counted in other units.
  const int64_t ratio_up = seen.is_complex() ? 1 : 2, ratio_down = seen.is_complex() ? 2 : 1;
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), seen.dtype());
  made.unsafeGetTensorImpl()->set_storage_offset(self.storage_offset() * ratio_up / ratio_down);
  made.unsafeGetTensorImpl()->set_sizes_and_strides(seen.sizes(), seen.strides());
  return made;
}

Tensor view_as_real(const Tensor& self) {
  return viewed_as(self, at::view_as_real(on_cpu(self)));
}

Tensor view_as_complex(const Tensor& self) {
  return viewed_as(self, at::view_as_complex(on_cpu(self)));
}

const Tensor& resize_(const Tensor& self, IntArrayRef size, std::optional<c10::MemoryFormat> format) {
  return at::native::resize_(self, size, format);
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return at::native::set_tensor_(self, source);
}

Tensor& set_storage(Tensor& self, at::Storage source) {
  return at::native::set_(self, source);
}

Tensor& set_strided(Tensor& self, at::Storage source, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, source, offset, size, stride);
}

// --- copies and what waits -------------------------------------------------------------------------------------------

Tensor copy_from(const Tensor& self, const Tensor& target, bool non_blocking) {
  const int64_t bytes = bytes_of(self) + bytes_of(target);
  if (self.numel()) {
    if (here(self) && here(target)) {
      count("aten::copy_", bytes);
      if (doubles && self.numel() > 1 && (self.dtype() == at::kDouble || target.dtype() == at::kDouble))
        tell("float64", "aten::copy_", bytes_of(self));
    } else {
      const bool out = here(self);
      const bool locked = is_pinned((out ? target : self).const_data_ptr());
      count(out ? "copy to host" : "copy to device", bytes);
      // A copy that may not run by itself is waited for; so is one to memory that the system may move.
      const bool waits = !non_blocking || (out && !locked);
      std::string how = std::string(locked ? "pinned" : "pageable") + (non_blocking ? ", non_blocking" : "");
      tell(waits ? (out ? "to host" : "to device") : "copy", "aten::copy_", bytes_of(self), how);
    }
  }
  at::AutoDispatchBelowADInplaceOrView below;
  on_cpu(target).copy_(on_cpu(self));
  return target;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& target) {
  at::native::resize_(target, self.sizes(), std::nullopt);
  return copy_from(self, target, false);
}

at::Scalar local_scalar_dense(const Tensor& self) {
  count("copy to host", bytes_of(self));
  tell("item", "aten::_local_scalar_dense", bytes_of(self));
  at::AutoDispatchBelowADInplaceOrView below;
  return on_cpu(self).item();
}

// --- every other operator --------------------------------------------------------------------------------------------

std::unordered_set<std::string> lenient; // names of operators that take numbers of the CPU beside tensors of the device

const std::unordered_set<std::string> kWaiting = { // a size, or whether it went well, is known on the device alone
    "aten::_linalg_eigh",  "aten::_linalg_svd",    "aten::linalg_eig",
    "aten::nonzero",       "aten::masked_select",      "aten::_unique",       "aten::_unique2",
    "aten::unique_dim",    "aten::unique_consecutive", "aten::unique_dim_consecutive", "aten::equal",
    "aten::bincount",      "aten::repeat_interleave",  "aten::histc",         "aten::multinomial",
};
const std::unordered_set<std::string> kIndexing = {
    "aten::index", "aten::_index_put_impl_", "aten::index_put_", "aten::index_put", "aten::_unsafe_index",
    "aten::_unsafe_index_put"};

struct Found { // what the arguments of a call are
  bool on_device = false, wide = false;
  int64_t bytes = 0;
};

void refuse(const std::string& op, const std::string& argument, const Tensor& t) {
  TORCH_CHECK(
      false,
      "Expected all tensors to be on the same device, but found at least two devices, simulated:0 and ",
      t.device(),
      "! (", op, ", argument ", argument, " of shape ", t.sizes(), ")");
}

template <class Visit>
void each_tensor(const IValue& value, Visit visit) {
  if (value.isTensor()) {
    visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const Tensor& t : value.toTensorVector())
      visit(t);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<Tensor>& t : value.toOptionalTensorVector())
      if (t.has_value())
        visit(*t);
  }
}

IValue swapped(const IValue& value) {
  if (value.isTensor())
    return on_cpu(value.toTensor());
  if (value.isTensorList()) {
    c10::List<Tensor> made;
    for (const Tensor& t : value.toTensorVector())
      made.push_back(on_cpu(t));
    return made;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> made;
    for (const std::optional<Tensor>& t : value.toOptionalTensorVector())
      made.push_back(t.has_value() ? std::optional<Tensor>(on_cpu(*t)) : t);
    return made;
  }
  if (value.isDevice() && value.toDevice().type() == kHere)
    return c10::Device(c10::kCPU);
  if (value.isGenerator() && value.toGenerator().device().type() == kHere)
    return inner_of(value.toGenerator());
  return value;
}

Found inspect(const c10::FunctionSchema& schema, const std::vector<IValue>& arguments) {
  const std::string& op = schema.name();
  Found found;
  for (const auto& value : arguments)
    each_tensor(value, [&](const Tensor& t) { found.on_device |= here(t); });
  const bool indexing = kIndexing.count(op) > 0;
  const bool putting = op == "aten::_index_put_impl_"; // reading by index tells of its copies and masks by itself
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& name = schema.arguments()[i].name();
    each_tensor(arguments[i], [&](const Tensor& t) {
      if (!t.defined())
        return;
      if (here(t)) {
        const auto* alias = schema.arguments()[i].alias_info();
        const bool both = alias != nullptr && alias->isWrite() && !schema.arguments()[i].kwarg_only();
        found.bytes += bytes_of(t) * (both ? 2 : 1);
        found.wide |= t.scalar_type() == at::kDouble && t.numel() > 1;
        if (putting && name == "indices" && t.scalar_type() == at::kBool)
          tell("nonzero", op, bytes_of(t), "a mask as index");
        if (indexing && name == "indices" && !here(arguments[0].toTensor()))
          refuse(op, "self", arguments[0].toTensor());
        return;
      }
      if (!found.on_device)
        return;
      if (indexing && name == "indices") {
        if (putting)
          tell("to device", op, bytes_of(t), "an index of the CPU");
      } else if (t.dim() > 0 || t.is_meta() || lenient.count(op) == 0) {
        refuse(op, name, t);
      }
    });
  }
  if (found.on_device && kWaiting.count(op))
    tell("nonzero", op, found.bytes, "a number that only the device knows");
  return found;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t many = schema.arguments().size();
  const std::vector<IValue> arguments(stack->end() - static_cast<int64_t>(many), stack->end());
  Found found = inspect(schema, arguments);
  std::vector<std::pair<size_t, Tensor>> grown; // outputs that come empty and take the size of the result
  for (size_t i = 0; i < many; ++i) {
    IValue& place = (*stack)[stack->size() - many + i];
    const auto& argument = schema.arguments()[i];
    const auto* alias = argument.alias_info();
    if (argument.name() == "generator" && place.isNone()) {
      place = inner_of(default_generator());
    } else if (alias && alias->isWrite() && argument.kwarg_only() && place.isTensor() && place.toTensor().numel() == 0) {
      grown.emplace_back(i, at::empty({0}, at::TensorOptions().dtype(place.toTensor().scalar_type())));
      place = grown.back().second;
    } else {
      place = swapped(arguments[i]);
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [i, result] : grown) {
    const Tensor target = arguments[i].toTensor();
    at::native::resize_(target, result.sizes(), std::nullopt);
    if (result.numel()) {
      at::AutoDispatchBelowADInplaceOrView below;
      on_cpu(target).copy_(result);
    }
  }
  const size_t results = schema.returns().size();
  for (size_t r = 0; r < results; ++r) {
    IValue& place = (*stack)[stack->size() - results + r];
    const auto* alias = schema.returns()[r].alias_info();
    if (alias != nullptr) {
      TORCH_CHECK(alias->isWrite(), "simulated: the view ", op.operator_name(), " is not registered");
      for (size_t i = 0; i < many; ++i) {
        const auto* given = schema.arguments()[i].alias_info();
        if (given != nullptr && given->beforeSets() == alias->beforeSets())
          place = arguments[i];
      }
      continue;
    }
    each_tensor(place, [&](const Tensor& t) {
      if (t.defined()) {
        found.bytes += bytes_of(t);
        found.wide |= t.scalar_type() == at::kDouble && t.numel() > 1;
      }
    });
    if (place.isTensor()) {
      place = brought(place.toTensor());
    } else if (place.isTensorList()) {
      c10::List<Tensor> made;
      for (const Tensor& t : place.toTensorVector())
        made.push_back(brought(t));
      place = made;
    }
  }
  if (found.bytes > 0)
    count(schema.name(), found.bytes);
  if (doubles && found.wide)
    tell("float64", schema.name(), found.bytes);
}

// --- convolutions, which torch asks of a backend by names of their own -----------------------------------------------

Tensor convolution(
    const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, IntArrayRef stride,
    IntArrayRef padding, IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups) {
  for (const Tensor& t : {input, weight})
    if (!here(t))
      refuse("aten::convolution", "input or weight", t);
  at::AutoDispatchBelowADInplaceOrView below;
  auto held = bias.has_value() && bias->defined() ? std::optional<Tensor>(on_cpu(*bias)) : std::nullopt;
  auto made = at::convolution(
      on_cpu(input), on_cpu(weight), held, stride, padding, dilation, transposed, output_padding, groups);
  count("aten::convolution", bytes_of(input) + bytes_of(weight) + bytes_of(made));
  return brought(made);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& slope, const Tensor& input, const Tensor& weight, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  at::AutoDispatchBelowADInplaceOrView below;
  const std::vector<int64_t> bias{transposed ? weight.size(1) * groups : weight.size(0)};
  auto [a, b, c] = at::convolution_backward(
      on_cpu(slope), on_cpu(input), on_cpu(weight), at::OptionalIntArrayRef(bias), stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  count("aten::convolution_backward", bytes_of(slope) + 2 * bytes_of(input) + 2 * bytes_of(weight));
  return {brought(a), brought(b), brought(c)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty_memory_format);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &unfold);
  m.impl("view_as_real", &view_as_real);
  m.impl("view_as_complex", &view_as_complex);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Storage_storage_offset", &set_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// Lists of tensors go to one kernel each on CUDA, and would else be taken apart.
void take_lists_whole() {
  static auto library = torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
    const bool listed = name.name.rfind("aten::_foreach_", 0) == 0 || name.name == "aten::native_layer_norm" ||
        name.name == "aten::native_group_norm";
    if (listed && name.overload_name.find("out") == std::string::npos) {
      auto full = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
      library.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&fallback>());
    }
  }
}

} // namespace

// --- autocast: the same operators as on CUDA -------------------------------------------------------------------------

namespace at::autocast {
namespace {

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define WIDER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define WIDER_IF_UNSAID(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(WIDER)
  AT_FORALL_FP32_SET_OPT_DTYPE(WIDER_IF_UNSAID)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(WIDEST)
}

} // namespace
} // namespace at::autocast

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  take_lists_whole();
  m.def("listen", [](const pybind11::object& said) {
    PyObject* before = listener;
    listener = said.is_none() ? nullptr : said.inc_ref().ptr();
    Py_XDECREF(before);
  });
  m.def("count", [](bool on, bool note_doubles) {
    std::lock_guard<std::mutex> lock(tally_mutex);
    counting = on;
    doubles = note_doubles;
    if (on)
      tally.clear();
  });
  m.def("counts", [] {
    std::lock_guard<std::mutex> lock(tally_mutex);
    return tally;
  });
  m.def("synchronize", [] { tell("synchronize", "device", 0); });
  m.def("silence", [](bool on) { silent = on; });
  m.def("refuse_doubles", [](bool on) { refuse_doubles = on; });
  m.def("set_lenient", [](const std::set<std::string>& names) { lenient = {names.begin(), names.end()}; });
  m.def("memory_in_use", [] { return in_use.load(); });
  m.def("memory_peak", [] { return peak.load(); });
  m.def("reset_peak", [] { peak = in_use.load(); });
  m.def("default_generator", [] { return default_generator(); });
}
