#include "train/checkpoint_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <new>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "tests/train/child_process.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using train::Checkpoint;
using train::CheckpointStore;
using train::read_checkpoint;

/// A state that shows in every byte which step it is of: a mixture of two is noticed.
Checkpoint checkpoint_of(int64_t step, int64_t tensors = 3) {
  Checkpoint checkpoint;
  for (int64_t i = 0; i < tensors; ++i) {
    checkpoint.tensors["model.w" + std::to_string(i)] = at::full({50, 100}, static_cast<double>(step), at::kFloat);
  }
  checkpoint.metadata = {{"step", std::to_string(step)}, {"config", std::string(200, 'c')}};
  return checkpoint;
}

/// The step of a checkpoint; throws when its parts do not agree.
int64_t step_of(const Checkpoint& checkpoint) {
  const int64_t step = std::stoll(checkpoint.metadata.at("step"));
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (!at::equal(tensor, at::full_like(tensor, static_cast<double>(step))))
      throw std::runtime_error(name + " is mixed");
  }
  return step;
}
int64_t step_of(const fs::path& path) { return step_of(read_checkpoint(path)); }

std::string read_bytes(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
void write_bytes(const fs::path& path, const std::string& bytes) {
  fs::remove(path);  // The file may have further names, which must keep their content.
  std::ofstream(path, std::ios::binary) << bytes;
}

template <typename Error>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class CheckpointStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    run_ = fs::temp_directory_path() / ("vrwkv-store-" + name + "-" + std::to_string(::getpid()));
    folder_ = run_ / "checkpoints";
    fs::remove_all(run_);
  }
  void TearDown() override { fs::remove_all(run_); }

  CheckpointStore open(int64_t keep) const {
    CheckpointStore store(run_, keep);
    store.open();
    return store;
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.insert(entry.path().filename().string());
    return names;
  }
  fs::path file(const std::string& name) const { return folder_ / (name + ".safetensors"); }

  fs::path run_, folder_;
};

TEST_F(CheckpointStoreTest, TouchesNothingBeforeOpen) {
  const CheckpointStore store(run_, 1);
  EXPECT_TRUE(store.empty());
  EXPECT_EQ(store.find("auto"), std::nullopt);
  EXPECT_FALSE(fs::exists(run_));
}

TEST_F(CheckpointStoreTest, ReadsBackWhatWasSaved) {
  auto store = open(1);
  Checkpoint checkpoint = checkpoint_of(7);
  checkpoint.tensors["transposed"] = at::arange(6, at::kLong).reshape({2, 3}).t();
  checkpoint.tensors["empty"] = at::empty({0, 3});
  checkpoint.metadata["path"] = "caf\xE9";  // Not UTF-8, as a file's name may be.
  store.save_last(checkpoint);
  EXPECT_FALSE(store.empty());
  const auto found = store.find("auto");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, store.last_path());
  ASSERT_EQ(found->checkpoint.tensors.size(), checkpoint.tensors.size());
  for (const auto& [name, tensor] : checkpoint.tensors) {
    EXPECT_TRUE(at::equal(tensor, found->checkpoint.tensors.at(name))) << name;
  }
  EXPECT_EQ(found->checkpoint.metadata.at("step"), "7");
  EXPECT_EQ(found->checkpoint.metadata.at("path"), "caf\xEF\xBF\xBD");
}

TEST_F(CheckpointStoreTest, BestStaysWhenLastMovesOn) {
  auto store = open(0);
  store.save_best(checkpoint_of(1));
  EXPECT_EQ(step_of(store.last_path()), 1);
  store.save_last(checkpoint_of(2));
  EXPECT_EQ(step_of(store.best_path()), 1);
  EXPECT_EQ(step_of(store.last_path()), 2);
  store.save_best(checkpoint_of(2));
  store.save_best(checkpoint_of(2));
  store.save_last(checkpoint_of(3));
  EXPECT_EQ(step_of(store.best_path()), 2);
  store.keep_last_as_epoch(3);
  EXPECT_EQ(files(), (std::set<std::string>{"best.safetensors", "last.safetensors"}));
}

TEST_F(CheckpointStoreTest, KeepsTheNewestEpochs) {
  auto store = open(3);
  for (int64_t epoch = 1; epoch <= 12; ++epoch) {
    store.save_last(checkpoint_of(epoch));
    store.keep_last_as_epoch(epoch);
  }
  EXPECT_EQ(files(), (std::set<std::string>{"epoch_0010.safetensors", "epoch_0011.safetensors",
                                            "epoch_0012.safetensors", "last.safetensors"}));
  EXPECT_EQ(step_of(file("epoch_0011")), 11);
  for (const int64_t epoch : {9999, 10000}) store.keep_last_as_epoch(epoch);
  EXPECT_EQ(files(), (std::set<std::string>{"epoch_0012.safetensors", "epoch_9999.safetensors",
                                            "epoch_10000.safetensors", "last.safetensors"}));
}

// A run that goes on from an earlier checkpoint must not lose its new files to those of its former future.
TEST_F(CheckpointStoreTest, AnOlderFileOfALaterEpochGoesFirst) {
  auto store = open(2);
  for (const int64_t epoch : {8, 9, 3}) {
    store.save_last(checkpoint_of(epoch));
    store.keep_last_as_epoch(epoch);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // Beyond the resolution of the files' times.
  }
  EXPECT_EQ(files(), (std::set<std::string>{"epoch_0003.safetensors", "epoch_0009.safetensors", "last.safetensors"}));
}

TEST_F(CheckpointStoreTest, OpenRemovesWhatAKilledRunLeft) {
  open(1);
  write_bytes(folder_ / "last.safetensors.tmp", "half");
  write_bytes(folder_ / "notes.txt", "mine");
  open(1);
  EXPECT_EQ(files(), (std::set<std::string>{"notes.txt"}));
}

TEST_F(CheckpointStoreTest, OpenNamesTheFolderThatCannotBe) {
  write_bytes(run_, "a file in its place");
  const std::string error = message_of<UsageError>([&] { open(1); });
  EXPECT_NE(error.find(folder_.string()), std::string::npos) << error;
}

TEST_F(CheckpointStoreTest, ADamagedLastFallsBackToTheNewestOfTheOthers) {
  auto store = open(2);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  for (int64_t epoch = 1; epoch <= 2; ++epoch) {
    store.save_last(checkpoint_of(epoch));
    store.keep_last_as_epoch(epoch);
    pause();
  }
  store.save_best(checkpoint_of(3));  // Newer than the newest epoch.
  pause();
  store.save_last(checkpoint_of(4));
  EXPECT_EQ(step_of(store.find("auto")->checkpoint), 4);

  const std::vector<std::pair<fs::path, int64_t>> then{
      {store.last_path(), 3}, {store.best_path(), 2}, {file("epoch_0002"), 1}};
  for (const auto& [damaged, next] : then) {
    write_bytes(damaged, read_bytes(damaged).substr(0, 30000));
    ChildResult result = run_in_child([&store = store, next = next] {
      if (step_of(store.find("auto")->checkpoint) != next) throw std::runtime_error("another step");
    });
    EXPECT_EQ(result.status, 0) << result.output;
    EXPECT_NE(result.output.find("skipped a damaged checkpoint: " + damaged.string() + ": truncated"),
              std::string::npos)
        << result.output;
  }
  fs::remove(file("epoch_0001"));
  const std::string error = message_of<std::runtime_error>([&] { store.find("auto"); });
  for (const auto& [damaged, next] : then) EXPECT_NE(error.find(damaged.string()), std::string::npos) << error;
}

TEST_F(CheckpointStoreTest, AnExplicitFileIsUsedOrRefused) {
  auto store = open(1);
  store.save_last(checkpoint_of(1));
  store.keep_last_as_epoch(1);
  store.save_last(checkpoint_of(2));
  EXPECT_EQ(step_of(store.find(file("epoch_0001").string())->checkpoint), 1);

  const std::string missing = message_of<UsageError>([&] { store.find((run_ / "none.safetensors").string()); });
  EXPECT_NE(missing.find("there is no file " + (run_ / "none.safetensors").string()), std::string::npos) << missing;
  write_bytes(file("epoch_0001"), read_bytes(file("epoch_0001")).substr(0, 20000));
  const std::string damaged = message_of<std::runtime_error>([&] { store.find(file("epoch_0001").string()); });
  EXPECT_NE(damaged.find(file("epoch_0001").string() + ": truncated"), std::string::npos) << damaged;
  write_safetensors(run_ / "weights.safetensors", checkpoint_of(1).tensors);
  const std::string foreign =
      message_of<std::runtime_error>([&] { store.find((run_ / "weights.safetensors").string()); });
  EXPECT_NE(foreign.find("not a checkpoint of a training run"), std::string::npos) << foreign;
}

TEST_F(CheckpointStoreTest, NoticesEveryChangedByte) {
  auto store = open(1);
  Checkpoint small;
  small.tensors["a"] = at::arange(6, at::kFloat).reshape({2, 3});
  small.tensors["b"] = at::arange(6, at::kInt).reshape({3, 2});
  small.metadata = {{"train_state", "{\"step\":120}"}};
  store.save_last(small);
  const std::string whole = read_bytes(store.last_path());
  const size_t header_end = whole.rfind('}') + 1;
  const size_t data = 8 + static_cast<size_t>(static_cast<unsigned char>(whole[0])) +
                      (static_cast<size_t>(static_cast<unsigned char>(whole[1])) << 8);
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i >= header_end && i < data) continue;  // Blanks, where another kind of blank changes nothing.
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      write_bytes(store.last_path(), damaged);
      EXPECT_THROW(read_checkpoint(store.last_path()), std::runtime_error) << "byte " << i << " bit " << bit;
    }
  }
  // A whole other meaning of the same data.
  std::string swapped = whole;
  const auto replace = [&](const std::string& from, const std::string& to) {
    ASSERT_NE(swapped.find(from), std::string::npos);
    swapped.replace(swapped.find(from), from.size(), to);
  };
  replace("\"shape\":[2,3]", "\"shape\":[3,2]");
  write_bytes(store.last_path(), swapped);
  const std::string error = message_of<std::runtime_error>([&] { read_checkpoint(store.last_path()); });
  EXPECT_NE(error.find("damaged, its content has checksum xxh3:"), std::string::npos) << error;
}

/// Shared with child processes.
struct Progress {
  std::atomic<int64_t> saved{0}, best{0};
};

TEST_F(CheckpointStoreTest, IsWholeWheneverTheProcessIsKilled) {
  void* memory = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* progress = new (memory) Progress;
  std::mt19937 random(std::random_device{}());
  // A few saves long, however fast the disk is.
  const auto start = std::chrono::steady_clock::now();
  open(2).save_last(checkpoint_of(0, 20));
  const auto save_time =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
  std::uniform_int_distribution<int64_t> patience(500, 5000 + 8 * save_time.count());
  int kills_while_writing = 0, leftovers = 0;
  // How many kills fall into a write depends on the machine's load: go on until there are enough.
  const auto enough = [&] { return progress->saved > 60 && kills_while_writing > 10 && leftovers > 5; };
  for (int round = 0; round < 60 || (round < 600 && !enough()); ++round) {
    const pid_t child = start_child([&] {
      auto store = open(2);
      const auto found = store.find("auto");
      for (int64_t step = found ? step_of(found->checkpoint) + 1 : 1;; ++step) {
        if (step % 3 == 0) {
          store.save_best(checkpoint_of(step, 20));
          progress->best = step;
        } else {
          store.save_last(checkpoint_of(step, 20));
        }
        progress->saved = step;
        if (step % 2 == 0) store.keep_last_as_epoch(step);
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(patience(random)));
    ::kill(child, SIGKILL);
    ASSERT_TRUE(WIFSIGNALED(wait_for(child))) << "the child ended on its own";
    for (const auto& name : files()) {
      if (name.ends_with(AtomicFile::kTemporarySuffix)) {
        ++leftovers;
        continue;
      }
      EXPECT_NO_THROW(step_of(folder_ / name)) << name;
    }
    const int64_t saved = progress->saved, best = progress->best;
    const int64_t last = step_of(file("last"));
    // The kill can fall between a rename and the note of it.
    EXPECT_TRUE(last == saved || last == saved + 1) << last << " after " << saved;
    kills_while_writing += last == saved;
    if (fs::exists(file("best"))) {
      const int64_t found = step_of(file("best"));
      EXPECT_TRUE(found == best || found == best + 3) << found << " after " << best;
      progress->best = found;
    }
    progress->saved = last;
  }
  EXPECT_GT(progress->saved, 30);
  EXPECT_GT(kills_while_writing, 10);
  EXPECT_GT(leftovers, 5) << "hardly any kill fell into a write";
  auto store = open(2);
  for (const auto& name : files()) EXPECT_TRUE(name.ends_with(".safetensors")) << name;
  ::munmap(memory, sizeof(Progress));
}

/// Saves 1, then a larger 2 that must fail; throws unless 1 is still there and no temporary file.
void expect_failed_save(CheckpointStore& store, const char* reason) {
  store.save_last(checkpoint_of(1));
  const std::string error = message_of<std::runtime_error>([&] { store.save_last(checkpoint_of(2, 100)); });
  if (error.find(store.last_path().string() + ": " + reason) == std::string::npos) {
    throw std::runtime_error("expected '" + std::string(reason) + "', got '" + error + "'");
  }
  if (step_of(store.last_path()) != 1) throw std::runtime_error("the former file is gone");
  if (fs::exists(store.last_path().string() + ".tmp")) throw std::runtime_error("a temporary file is left");
  store.save_last(checkpoint_of(3));
  if (step_of(store.last_path()) != 3) throw std::runtime_error("cannot save any more");
}

TEST_F(CheckpointStoreTest, ATooLargeFileLeavesTheFormerOne) {
  const auto result = run_in_child([&] {
    auto store = open(1);
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{500'000, 500'000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("cannot limit the file size");
    expect_failed_save(store, "File too large");
  });
  EXPECT_EQ(result.status, 0) << result.output;
}

TEST_F(CheckpointStoreTest, AFullDiskLeavesTheFormerFile) {
  fs::create_directories(run_);
  constexpr int kNotPermitted = 77;
  const auto result = run_in_child([&] {
    // A mount of this process alone: it goes away with it.
    const bool own = ::unshare(CLONE_NEWNS) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
    if (!own || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", run_.c_str(), "tmpfs", 0, "size=1m") != 0) {
      ::_exit(kNotPermitted);
    }
    auto store = open(1);
    expect_failed_save(store, "No space left on device");
  });
  if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == kNotPermitted) {
    GTEST_SKIP() << "no file system can be mounted here";
  }
  EXPECT_EQ(result.status, 0) << result.output;
}

TEST_F(CheckpointStoreTest, LinksAcrossFileSystemsByCopying) {
  fs::create_directories(run_);
  const fs::path other = fs::path("/dev/shm") / run_.filename();
  write_bytes(other, std::string(3'000'000, 'x') + "end");
  struct stat here {
  }, there{};
  ASSERT_EQ(::stat(run_.c_str(), &here), 0);
  if (::stat(other.c_str(), &there) != 0 || here.st_dev == there.st_dev) {
    fs::remove(other);
    GTEST_SKIP() << "/dev/shm is no file system of its own here";
  }
  write_bytes(run_ / "name", "former");
  link_atomically(other, run_ / "name");
  EXPECT_EQ(read_bytes(run_ / "name"), read_bytes(other));
  fs::remove(other);
  const std::string error = message_of<std::runtime_error>([&] { link_atomically(other, run_ / "name"); });
  EXPECT_EQ(error, "cannot read " + other.string() + ": No such file or directory");
  EXPECT_EQ(fs::file_size(run_ / "name"), 3'000'003U);
  EXPECT_EQ(std::distance(fs::directory_iterator(run_), {}), 1);
}

TEST_F(CheckpointStoreTest, AnUncommittedFileLeavesTheFormerOne) {
  fs::create_directories(run_);
  write_bytes(run_ / "name", "former");
  {
    AtomicFile file(run_ / "name");
    file.write("new");
    EXPECT_EQ(read_bytes(run_ / "name"), "former");
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(run_), {}), 1);
  AtomicFile file(run_ / "name");
  file.write("new");
  file.commit();
  EXPECT_EQ(read_bytes(run_ / "name"), "new");
  fs::create_directories(run_ / "folder");
  AtomicFile onto_folder(run_ / "folder");
  const std::string error = message_of<std::runtime_error>([&] { onto_folder.commit(); });
  EXPECT_EQ(error, "cannot put in place " + (run_ / "folder").string() + ": Is a directory");
}

}  // namespace
}  // namespace vrwkv::testing
