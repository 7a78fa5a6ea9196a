#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace vrwkv::distributed {

/// Who this process is among those that were started together, and where they meet.
struct Launch {
  int64_t rank = 0;  ///< 0 … world_size - 1.
  int64_t world_size = 1;
  int64_t local_rank = 0;  ///< Among the processes of this host.
  int64_t local_size = 1;  ///< How many these are; 1 where the launcher does not say.
  std::string address;     ///< Of the host that keeps the store; empty for a process on its own.
  uint16_t port = 0;
  bool store_is_running = false;  ///< The launcher keeps the store (torchrun); otherwise rank 0 does.
  std::string attempt = "0";      ///< Another one after each restart, so that no key of the former is read.

  bool operator==(const Launch&) const = default;
};

/// The value of an environment variable, or nothing.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// Reads what the launcher says: torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), else srun
/// (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_NODELIST; a job's batch script is a process on its
/// own), else Open MPI's or MPICH's mpirun (OMPI_COMM_WORLD_*, PMI_*, with MASTER_ADDR for more than one host). Where
/// MASTER_ADDR and MASTER_PORT are missing, the first host of the step and a port made of the job's number are taken.
/// Without any of these: a process on its own. Throws UsageError that names the variable.
Launch read_launch(const Environment& environment);

/// read_launch() of this process's environment.
Launch read_launch();

/// The first host of Slurm's short form: "gpu[07-09,12],x1" gives "gpu07".
std::string first_host(const std::string& node_list);

}  // namespace vrwkv::distributed
