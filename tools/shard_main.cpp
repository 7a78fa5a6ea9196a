#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <optional>
#include <sstream>

#include "cli/flags.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"
#include "common/progress_line.h"
#include "config/text.h"
#include "data/shards.h"
#include "tools/parallel.h"
#include "tools/shard_writer.h"

namespace {

using namespace vrwkv;

/// A bar on a terminal; elsewhere a log line every half a minute.
class ShardProgress {
 public:
  explicit ShardProgress(const char* unit) : unit_(unit) {
    if (can_redraw()) live_.emplace();
  }

  void show(int64_t done, int64_t total) {
    const auto now = Clock::now();
    if (!first_) first_ = done;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(done - *first_) / std::max(seconds, 1e-9);
    const double left = rate > 0 ? static_cast<double>(total - done) / rate : NAN;
    std::ostringstream speed;
    speed << std::fixed << std::setprecision(rate < 10 ? 1 : 0) << rate << " " << unit_ << "/s";
    const std::vector<std::string> fields{std::to_string(done) + "/" + std::to_string(total) + " " + unit_, speed.str(),
                                          "ETA " + format_duration(left)};
    if (live_) {
      live_->show(progress_line(static_cast<double>(done) / static_cast<double>(total), fields, terminal_width()));
    } else if (now - logged_ >= std::chrono::seconds(30)) {
      logged_ = now;
      log::info(joined_fields(fields));
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  const char* unit_;
  Clock::time_point start_ = Clock::now(), logged_ = start_;
  std::optional<int64_t> first_;  ///< What was there already says nothing about the rate.
  std::optional<log::LiveLine> live_;
};

struct ShardFlags {
  tools::ShardOptions options;
  std::string out, per_shard = "1000", short_side, quality = "90", workers;
  bool verify = false;
};

int64_t integer_of(const std::string& text) { return text.empty() ? 0 : *config::parse_integer(text); }

int verify(const std::string& folder, int64_t workers) {
  const data::ShardIndex index = data::read_shard_index(folder);
  std::vector<data::ShardFile> files = index.shards;
  files.push_back(index.images);
  std::vector<std::string> problems(files.size());
  std::atomic<int64_t> done = 0;
  {
    ShardProgress progress("files");
    tools::run_parallel(
        std::ssize(files), workers,
        [&](int64_t i) {
          const auto file = static_cast<std::size_t>(i);
          problems[file] = data::check_file(folder, files[file]);
          ++done;
        },
        [&] { progress.show(done, std::ssize(files)); });
  }
  std::string text;
  for (const std::string& problem : problems) {
    if (!problem.empty()) text += (text.empty() ? "" : "\n") + problem;
  }
  if (!text.empty()) {
    throw std::runtime_error(text +
                             "\ncopy these files again, or remove them and index.json and call vrwkv-shard again");
  }
  std::cout << index.images.images << " images in " << index.shards.size() << " shards are as they were written\n";
  return cli::kSuccess;
}

int shard(ShardFlags& flags) {
  tools::ShardOptions& options = flags.options;
  options.workers = integer_of(flags.workers);
  if (flags.verify) return verify(options.source.path, options.workers);
  if (flags.out.empty()) throw UsageError("--out is required; or --verify, to check shards");
  options.out = flags.out;
  options.images_per_shard = integer_of(flags.per_shard);
  options.short_side = integer_of(flags.short_side);
  options.quality = integer_of(flags.quality);
  if (options.quality > 100) throw UsageError("--quality: expected an integer from 1 to 100, got " + flags.quality);
  tools::ShardReport report;
  {
    ShardProgress progress("images");
    report = tools::write_shards(options, [&](int64_t done, int64_t total) { progress.show(done, total); });
  }
  std::cout << report.images << " images in " << report.shards << " shards (" << report.found << " from before), "
            << report.bytes << " bytes, " << report.smaller << " images made smaller, " << report.undecodable
            << " undecodable";
  if (options.fast_crop) std::cout << ", " << report.fast_crop << " for fast crops";
  std::cout << "\n";
  return cli::kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app(
      "vrwkv-shard",
      "Packs a set of images into tar files (shards) with an index. After an interruption the same call goes on.");
  ShardFlags flags;
  data::DatasetOptions& source = flags.options.source;
  app->add_option("SOURCE", source.path, "A folder of images, tar files: as data.train.path; or shards, with --verify")
      ->required()
      ->type_name("PATH");
  auto* out = app->add_option("--out", flags.out, "The folder to write to")->type_name("FOLDER");
  app->add_option("--list", source.list, "As data.train.list: names the images of a flat folder")->type_name("FILE");
  auto* truth = app->add_option("--ground-truth", source.ground_truth, "As data.val.ground_truth")->type_name("FILE");
  auto* synsets = app->add_option("--synsets", source.synsets, "As data.val.synsets")->type_name("FILE");
  truth->needs(synsets);
  synsets->needs(truth);
  app->add_option("--per-shard", flags.per_shard, "Images of a shard")->type_name("N")->check(cli::positive_integer());
  auto* side = app->add_option("--short-side", flags.short_side, "Make larger images smaller, to this short side")
                   ->type_name("PIXELS")
                   ->default_str("as they are")
                   ->check(cli::positive_integer());
  app->add_option("--quality", flags.quality, "Of the JPEGs that were made smaller, 1 to 100")
      ->type_name("Q")
      ->check(cli::positive_integer())
      ->needs(side);
  auto* fast_crop = app->add_flag("--fast-crop", flags.options.fast_crop,
                                  "Give JPEGs restart markers, without loss: training then decodes crops alone");
  app->add_option("--workers", flags.workers, "Threads")
      ->type_name("N")
      ->default_str("one per core")
      ->check(cli::positive_integer());
  app->add_flag("--verify", flags.verify, "Read all shards of SOURCE again and compare them with the index")
      ->excludes(out)
      ->excludes(side)
      ->excludes(fast_crop);
  return cli::run_main(*app, argc, argv, [&] { return shard(flags); });
}
