#include "distributed/world.h"

#include <ATen/ATen.h>
#include <c10/util/Logging.h>

#include <cstdlib>
#include <exception>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#if defined(USE_C10D_NCCL)
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "common/errors.h"
#include "distributed/presence.h"

namespace vrwkv::distributed {
namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Store = c10::intrusive_ptr<c10d::Store>;

/// The first line of what an exception says: LibTorch's carry stack traces.
std::string first_line(const std::exception& error) {
  const auto* libtorch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = libtorch != nullptr ? libtorch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

/// LibTorch warns of every lost connection, with a stack trace; what it means is said here. TORCH_CPP_LOG_LEVEL brings
/// the warnings back.
void quieten_store() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_ERROR;
}

std::string place(const Launch& launch) { return launch.address + ":" + std::to_string(launch.port); }

/// A connection to the store; `serves` for the process that keeps it.
Store connect(const Launch& launch, std::chrono::milliseconds timeout, bool serves) {
  c10d::TCPStoreOptions options;
  options.port = launch.port;
  options.isServer = serves;
  options.waitWorkers = false;
  options.timeout = timeout;
  auto store = c10::make_intrusive<c10d::TCPStore>(launch.address, options);
  return c10::make_intrusive<c10d::PrefixStore>("vrwkv/" + launch.attempt, store);
}

Group make_group(const Store& store, const Launch& launch, c10::DeviceType device, c10d::ProcessGroup::BackendType type,
                 const c10::intrusive_ptr<c10d::Backend>& backend) {
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, static_cast<int>(launch.rank),
                                                       static_cast<int>(launch.world_size));
  group->setBackend(device, type, backend);
  group->setDefaultBackend(type);
  group->setGroupName(c10::DeviceTypeName(device, /*lower_case=*/true));
  return group;
}

Group make_gloo(const Store& store, const Launch& launch, std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  options->devices.push_back(interface != nullptr ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                                                  : c10d::ProcessGroupGloo::createDefaultDevice());
  const auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>("gloo", store), static_cast<int>(launch.rank),
      static_cast<int>(launch.world_size), options);
  return make_group(store, launch, c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, backend);
}

#if defined(USE_C10D_NCCL)
Group make_nccl(const Store& store, const Launch& launch, std::chrono::milliseconds timeout) {
  // On a stream of high priority, so that a reduction starts as soon as its gradients are there.
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = timeout;
  const auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(launch.rank),
      static_cast<int>(launch.world_size), options);
  return make_group(store, launch, c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
}
#endif

}  // namespace

struct World::Connection {
  std::chrono::milliseconds timeout;
  Store store;
  std::unique_ptr<Presence> presence;
  Group cpu, cuda;
  at::Tensor vote;                         ///< int64 [1], of any_so_far.
  c10::intrusive_ptr<c10d::Work> counted;  ///< The vote's reduction under way; null before the first.
};

World::World() = default;

World::World(const Launch& launch, std::chrono::seconds timeout) : launch_(launch) {
  if (launch.world_size == 1) return;
  connection_ = std::make_unique<Connection>();
  Connection& mine = *connection_;
  mine.timeout = timeout;
  quieten_store();
  const bool keeps_store = launch.rank == 0 && !launch.store_is_running;
  try {
    mine.store = connect(launch, timeout, keeps_store);
    mine.presence = std::make_unique<Presence>(connect(launch, timeout, false), launch.rank, launch.world_size, timeout,
                                               keeps_store);
    mine.cpu = make_gloo(mine.store, launch, timeout);
  } catch (const std::exception& error) {
    throw std::runtime_error("rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.world_size) +
                             " did not meet the others at " + place(launch) + " within " +
                             std::to_string(timeout.count()) + " s: " + first_line(error) +
                             "; are all started, is MASTER_ADDR rank 0's host, is the port free and open?" +
                             (mine.presence ? mine.presence->suspects() : ""));
  }
}

World::~World() {
  if (!connection_) return;
  try {
    // A group whose peers have failed would wait for them for ever.
    if (connection_->cuda && std::uncaught_exceptions() > 0) connection_->cuda->abort();
    // Gloo's threads must not outlive the tensors of the last vote.
    if (connection_->counted) connection_->counted->wait();
    // Waits for CUDA graphs that hold reductions: whoever recorded them must have gone before.
    if (connection_->cuda && std::uncaught_exceptions() == 0) connection_->cuda->shutdown();
  } catch (const std::exception&) {
    // A peer has gone; so does this process.
  }
}

World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;

/// Runs an operation that needs the others; a failure names them, to the others, too.
void World::collective(const std::string& what, const std::function<void()>& body) {
  Presence& presence = *connection_->presence;
  presence.set_waiting(true);
  try {
    body();
  } catch (const std::exception& error) {
    const std::string found = presence.suspects();
    fail(what + " with the other processes failed (" + first_line(error) + ")" +
         (found.empty() ? "; all of them live" : "; not with us:" + found));
  }
  presence.set_waiting(false);
}

void World::fail(const std::string& why) {
  const std::string text = "rank " + std::to_string(rank()) + " of " + std::to_string(size()) + ": " + why;
  connection_->presence->tell(text);
  throw std::runtime_error(text);
}

void World::sum(at::Tensor tensor) {
  if (!connection_) return;
  collective("adding up numbers", [&] {
    std::vector<at::Tensor> tensors{std::move(tensor)};
    connection_->cpu->allreduce(tensors)->wait();
  });
}

std::vector<at::Tensor> World::gather(const at::Tensor& tensor) {
  if (!connection_) return {tensor.clone()};
  std::vector<std::vector<at::Tensor>> all(1);
  for (int64_t i = 0; i < size(); ++i) all.front().push_back(at::empty_like(tensor));
  collective("exchanging numbers", [&] {
    std::vector<at::Tensor> own{tensor};
    connection_->cpu->allgather(all, own)->wait();
  });
  return all.front();
}

void World::broadcast(std::vector<at::Tensor> tensors, int64_t root) {
  if (!connection_) return;
  const at::NoGradGuard no_grad;
  for (at::Tensor& tensor : tensors) {
    const Group group = device_group(tensor.device());
    collective("copying rank " + std::to_string(root) + "'s state", [&] {
      std::vector<at::Tensor> one{tensor.detach()};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      group->broadcast(one, options)->wait();
    });
  }
}

std::string World::broadcast(const std::string& text) {
  if (!connection_) return text;
  at::Tensor length = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  broadcast(std::vector<at::Tensor>{length});
  at::Tensor bytes = at::empty({length.item<int64_t>()}, at::kByte);
  if (is_main()) std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<uint8_t>());
  if (bytes.numel() > 0) broadcast(std::vector<at::Tensor>{bytes});
  const auto* data = bytes.const_data_ptr<uint8_t>();
  return {data, data + bytes.numel()};
}

void World::in_main(const std::function<void()>& body) {
  std::exception_ptr failure;
  if (is_main()) {
    try {
      body();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  const at::Tensor failed = at::full({1}, failure ? 1 : 0, at::kLong);
  broadcast(std::vector<at::Tensor>{failed});
  if (failure) std::rethrow_exception(failure);
  if (failed.item<int64_t>() != 0) throw PeerFailure("rank " + std::to_string(rank()) + " ends, as rank 0 has failed");
}

bool World::any_so_far(bool flag) {
  if (!connection_) return flag;
  Connection& mine = *connection_;
  bool any = false;
  if (mine.counted) {
    collective("the vote whether to stop", [&] { mine.counted->wait(); });
    any = mine.vote.item<int64_t>() > 0;
  }
  mine.vote = at::full({1}, flag ? 1 : 0, at::kLong);
  std::vector<at::Tensor> votes{mine.vote};
  collective("the vote whether to stop", [&] { mine.counted = mine.cpu->allreduce(votes); });
  return any;
}

c10::intrusive_ptr<c10d::ProcessGroup> World::device_group(at::Device device) {
  if (!connection_) return {};
  if (device.is_cpu()) return connection_->cpu;
#if defined(USE_C10D_NCCL)
  if (device.is_cuda()) {
    if (!connection_->cuda) connection_->cuda = make_nccl(connection_->store, launch_, connection_->timeout);
    return connection_->cuda;
  }
#endif
  throw UsageError("this build cannot train on " + device.str() +
                   " in several processes; use the CPU, or build with CUDA");
}

void World::enter(const std::string& stage, bool needs_others) {
  if (!connection_) return;
  connection_->presence->enter(stage);
  connection_->presence->set_waiting(needs_others);
}

void World::guard(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    if (!connection_) throw;
    const std::string found = connection_->presence->suspects();
    if (!found.empty()) fail(first_line(error) + "; not with us:" + found);
    throw;
  }
}

void World::tell_failure(const std::exception& error) {
  if (!connection_) return;
  connection_->presence->tell("rank " + std::to_string(rank()) + " of " + std::to_string(size()) + ": " +
                              first_line(error));
}

void World::leave() {
  if (!connection_) return;
  enter("ending");
  sum(at::zeros({1}, at::kLong));
  connection_->presence->leave();
}

}  // namespace vrwkv::distributed
