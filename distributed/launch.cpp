#include "distributed/launch.h"

#include <array>
#include <charconv>
#include <cstdlib>

#include "common/errors.h"

namespace vrwkv::distributed {
namespace {

constexpr int64_t kMaxProcesses = 1 << 20;
constexpr int64_t kMaxPort = 65535;

/// The variables of one launcher.
struct Names {
  const char *rank, *world_size, *local_rank, *local_size;
};

constexpr Names kTorchrun{"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kSlurm{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"};
constexpr std::array kMpi{
    Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    Names{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}};

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  std::optional<std::string> text(const char* name) const { return environment_(name); }

  /// An integer from `low` to `high`.
  int64_t integer(const char* name, int64_t low, int64_t high) const {
    const std::optional<std::string> value = environment_(name);
    if (!value) {
      throw UsageError(std::string("the environment variable ") + name +
                       " is missing, but others of its launcher are set; start the processes with torchrun, srun or "
                       "mpirun, or unset those");
    }
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
    if (error != std::errc() || end != value->data() + value->size() || number < low || number > high) {
      throw UsageError(std::string("the environment variable ") + name + " must be an integer from " +
                       std::to_string(low) + " to " + std::to_string(high) + ", got '" + *value + "'");
    }
    return number;
  }

  Launch processes(const Names& names) const {
    Launch launch;
    launch.world_size = integer(names.world_size, 1, kMaxProcesses);
    launch.rank = integer(names.rank, 0, launch.world_size - 1);
    launch.local_rank = integer(names.local_rank, 0, launch.world_size - 1);
    if (text(names.local_size)) launch.local_size = integer(names.local_size, 1, launch.world_size);
    return launch;
  }

 private:
  const Environment& environment_;
};

Launch from_torchrun(const Reader& read) {
  Launch launch = read.processes(kTorchrun);
  if (launch.world_size == 1) return {};
  const auto address = read.text("MASTER_ADDR");
  if (!address || address->empty()) {
    throw UsageError("WORLD_SIZE is " + std::to_string(launch.world_size) +
                     ", but MASTER_ADDR, the host of rank 0, is missing; torchrun sets it");
  }
  launch.address = *address;
  launch.port = static_cast<uint16_t>(read.integer("MASTER_PORT", 1, kMaxPort));
  launch.store_is_running = read.text("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  launch.attempt = read.text("TORCHELASTIC_RESTART_COUNT").value_or("0");
  return launch;
}

/// MASTER_PORT, or one that the jobs of a host hardly share.
uint16_t port_of(const Reader& read, const char* job) {
  if (read.text("MASTER_PORT")) return static_cast<uint16_t>(read.integer("MASTER_PORT", 1, kMaxPort));
  constexpr int64_t kFirst = 20000, kCount = 20000;
  const int64_t number = read.text(job) ? read.integer(job, 0, INT64_MAX) : 0;
  return static_cast<uint16_t>(kFirst + number % kCount);
}

Launch from_slurm(const Reader& read) {
  Launch launch = read.processes(kSlurm);
  if (launch.world_size == 1) return {};
  launch.address = read.text("MASTER_ADDR").value_or(first_host(read.text("SLURM_STEP_NODELIST").value_or("")));
  if (launch.address.empty()) {
    throw UsageError("neither MASTER_ADDR nor SLURM_STEP_NODELIST names the host of rank 0; set MASTER_ADDR");
  }
  launch.port = port_of(read, "SLURM_JOB_ID");
  launch.attempt = read.text("SLURM_RESTART_COUNT").value_or("0");
  return launch;
}

Launch from_mpi(const Reader& read, const Names& names) {
  Launch launch = read.processes(names);
  if (launch.world_size == 1) return {};
  const auto address = read.text("MASTER_ADDR");
  if (!address || address->empty()) {
    throw UsageError(
        "mpirun does not say where rank 0 runs; set MASTER_ADDR to its host for all processes (127.0.0.1 for "
        "one host), as in mpirun -x MASTER_ADDR=…");
  }
  launch.address = *address;
  launch.port = port_of(read, "PMIX_ID");
  return launch;
}

}  // namespace

std::string first_host(const std::string& node_list) {
  const size_t end = node_list.find_first_of(",[");
  if (end == std::string::npos || node_list[end] == ',') return node_list.substr(0, end);
  return node_list.substr(0, end) + node_list.substr(end + 1, node_list.find_first_of("-,]", end + 1) - end - 1);
}

Launch read_launch(const Environment& environment) {
  const Reader read(environment);
  if (read.text(kTorchrun.rank) || read.text(kTorchrun.world_size)) return from_torchrun(read);
  // SLURM_STEP_NUM_TASKS is srun's: a batch script has the job's variables, but is one process.
  if (read.text(kSlurm.world_size) && read.text(kSlurm.rank)) return from_slurm(read);
  for (const Names& names : kMpi) {
    if (read.text(names.rank)) return from_mpi(read, names);
  }
  return {};
}

Launch read_launch() {
  return read_launch([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

}  // namespace vrwkv::distributed
