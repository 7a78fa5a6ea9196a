#include "distributed/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "common/errors.h"

namespace vrwkv::distributed {
namespace {

using Variables = std::map<std::string, std::string>;

Launch read(const Variables& variables) {
  return read_launch([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

std::string error_of(const Variables& variables) {
  try {
    read(variables);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Launch, WithoutALauncherIsAProcessOnItsOwn) {
  EXPECT_EQ(read({}), Launch{});
  EXPECT_EQ(read({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}}), Launch{});
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}}), Launch{});
  // A batch script of Slurm, outside of srun.
  EXPECT_EQ(read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "5"}}), Launch{});
}

TEST(Launch, ReadsTorchrun) {
  const Launch launch = read({{"RANK", "5"},
                              {"WORLD_SIZE", "8"},
                              {"LOCAL_RANK", "1"},
                              {"LOCAL_WORLD_SIZE", "4"},
                              {"MASTER_ADDR", "node0"},
                              {"MASTER_PORT", "29501"},
                              {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                              {"TORCHELASTIC_RESTART_COUNT", "2"},
                              {"SLURM_PROCID", "0"},
                              {"SLURM_STEP_NUM_TASKS", "2"}});  // torchrun within srun: torchrun counts.
  const Launch expected{.rank = 5,
                        .world_size = 8,
                        .local_rank = 1,
                        .local_size = 4,
                        .address = "node0",
                        .port = 29501,
                        .store_is_running = true,
                        .attempt = "2"};
  EXPECT_EQ(launch, expected);
}

TEST(Launch, ReadsSlurm) {
  const Variables step{{"SLURM_PROCID", "3"},
                       {"SLURM_STEP_NUM_TASKS", "4"},
                       {"SLURM_LOCALID", "1"},
                       {"SLURM_JOB_ID", "70123"},
                       {"SLURM_STEP_NODELIST", "gpu[07-09,12],x"},
                       {"SLURM_NTASKS_PER_NODE", "2"}};
  const Launch launch = read(step);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.world_size, 4);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_size, 2);
  EXPECT_EQ(launch.address, "gpu07");
  EXPECT_EQ(launch.port, 30123);
  EXPECT_FALSE(launch.store_is_running);
  Variables given = step;
  given["MASTER_ADDR"] = "elsewhere";
  given["MASTER_PORT"] = "1234";
  EXPECT_EQ(read(given).address, "elsewhere");
  EXPECT_EQ(read(given).port, 1234);
}

TEST(Launch, ReadsMpirun) {
  const Launch open_mpi = read({{"OMPI_COMM_WORLD_RANK", "1"},
                                {"OMPI_COMM_WORLD_SIZE", "2"},
                                {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                                {"MASTER_ADDR", "h"}});
  EXPECT_EQ(open_mpi.rank, 1);
  EXPECT_EQ(open_mpi.address, "h");
  EXPECT_EQ(read({{"PMI_RANK", "1"}, {"PMI_SIZE", "3"}, {"MPI_LOCALRANKID", "1"}, {"MASTER_ADDR", "h"}}).world_size, 3);
}

TEST(Launch, NamesTheVariableThatIsWrong) {
  const Variables good{
      {"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "9"}};
  EXPECT_EQ(error_of(good), "no error");
  for (const auto& [name, value] :
       Variables{{"RANK", "2"}, {"WORLD_SIZE", "0"}, {"LOCAL_RANK", "-1"}, {"MASTER_PORT", "65536"}, {"RANK", "x"}}) {
    Variables bad = good;
    bad[name] = value;
    EXPECT_NE(error_of(bad).find("environment variable " + name + " must be an integer"), std::string::npos) << name;
    EXPECT_NE(error_of(bad).find("'" + value + "'"), std::string::npos) << name;
  }
  for (const auto& [name, value] : good) {
    Variables bad = good;
    bad.erase(name);
    EXPECT_NE(error_of(bad).find(name), std::string::npos) << error_of(bad);
  }
  EXPECT_NE(
      error_of({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}})
          .find("MASTER_ADDR"),
      std::string::npos);
}

TEST(Launch, FirstHostOfSlurmsShortForm) {
  EXPECT_EQ(first_host("gpu[07-09,12],x1"), "gpu07");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("only"), "only");
  EXPECT_EQ(first_host("n[3]"), "n3");
  EXPECT_EQ(first_host("n[3,5]"), "n3");
  EXPECT_EQ(first_host(""), "");
}

}  // namespace
}  // namespace vrwkv::distributed
