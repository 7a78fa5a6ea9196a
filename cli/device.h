#pragma once

#include <c10/core/Device.h>

#include <string>

#include "config/run_config.h"
#include "distributed/launch.h"

namespace vrwkv::cli {

/// True for cpu, cuda, cuda:N and auto.
bool is_device_name(const std::string& name);

/// The device that `name` (as is_device_name knows them) stands for; `auto` is the first GPU if there is one, else the
/// CPU. Throws UsageError when a GPU is asked for that is not there, saying why and what to do.
at::Device resolve_device(const std::string& name);

/// How this process was launched among others (distributed::read_launch). Of several, all but rank 0 log warnings and
/// errors only, with their rank.
distributed::Launch prepare_launch();

/// Sets the number of CPU threads that run.threads asks for, and resolves run.device. Of several processes of a host,
/// each takes the GPU with its `local_rank` (the only one, where it sees no other), and run.device must not name one.
at::Device prepare_device(const config::RunOptions& options, const distributed::Launch& launch = {});

}  // namespace vrwkv::cli
