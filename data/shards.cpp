#include "data/shards.h"

#include <fstream>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "data/checksum.h"
#include "data/mapped_file.h"

namespace vrwkv::data {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kIndexFile = "index.json";
constexpr const char* kPlanFile = "plan.json";
constexpr int64_t kVersion = 1;

[[noreturn]] void fail(const fs::path& folder, const std::string& what) {
  throw UsageError("shards '" + folder.string() + "': " + what);
}

Json to_json(const ShardPlan& plan) {
  return {{"source", plan.source},
          {"images", plan.images},
          {"images_per_shard", plan.images_per_shard},
          {"short_side", plan.short_side},
          {"quality", plan.quality},
          {"fast_crop", plan.fast_crop},
          {"labels_crc32", crc32_text(plan.labels_crc32)}};
}

std::uint32_t crc32_from(const Json& json) {
  const auto text = json.get<std::string>();
  if (text.size() != 8 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw std::runtime_error("'" + text + "' is no checksum: expected 8 hexadecimal digits");
  }
  return static_cast<std::uint32_t>(std::stoul(text, nullptr, 16));
}

ShardPlan plan_from(const Json& json) {
  return {.source = json.at("source"),
          .images = json.at("images"),
          .images_per_shard = json.at("images_per_shard"),
          .short_side = json.at("short_side"),
          .quality = json.at("quality"),
          .fast_crop = json.value("fast_crop", false),  // Older shards do not name it.
          .labels_crc32 = crc32_from(json.at("labels_crc32"))};
}

Json to_json(const ShardFile& file) {
  return {{"file", file.file}, {"images", file.images}, {"bytes", file.bytes}, {"crc32", crc32_text(file.crc32)}};
}

ShardFile file_from(const Json& json) {
  ShardFile file{json.at("file"), json.at("images"), json.at("bytes"), crc32_from(json.at("crc32"))};
  if (file.file.empty() || file.file.find('/') != std::string::npos) {
    throw std::runtime_error("'" + file.file + "' is no name of a file in this folder");
  }
  return file;
}

void write_json(const Json& json, const fs::path& path) {
  AtomicFile file(path);
  file.write(json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
}

/// What `read` makes of the JSON file `name`; errors name it.
template <typename Read>
auto from_json_file(const fs::path& folder, const char* name, const Read& read) {
  try {
    std::ifstream file(folder / name);
    const Json json = Json::parse(file);
    if (const auto version = json.at("version").get<int64_t>(); version != kVersion) {
      throw std::runtime_error("version " + std::to_string(version) + ", expected " + std::to_string(kVersion));
    }
    return read(json);
  } catch (const std::exception& error) {
    fail(folder, std::string(name) + " is damaged or of another version: " + error.what() +
                     "; remove it and call vrwkv-shard again");
  }
}

}  // namespace

std::string shard_name(int64_t number) {
  std::ostringstream text;
  text << "shard-" << std::setfill('0') << std::setw(6) << number << ".tar";
  return text.str();
}

bool is_complete(const fs::path& folder) { return fs::exists(folder / kIndexFile); }

bool is_shard_folder(const fs::path& folder) { return is_complete(folder) || fs::exists(folder / kPlanFile); }

ShardPlan read_shard_plan(const fs::path& folder) {
  return from_json_file(folder, kPlanFile, [](const Json& json) { return plan_from(json.at("plan")); });
}

void write_shard_plan(const ShardPlan& plan, const fs::path& folder) {
  write_json({{"version", kVersion}, {"plan", to_json(plan)}}, folder / kPlanFile);
}

void write_shard_index(const ShardIndex& index, const fs::path& folder) {
  Json shards = Json::array();
  for (const ShardFile& shard : index.shards) shards.push_back(to_json(shard));
  write_json({{"version", kVersion},
              {"images", index.images.images},
              {"plan", to_json(index.plan)},
              {"images_index", to_json(index.images)},
              {"shards", std::move(shards)}},
             folder / kIndexFile);
}

ShardIndex read_shard_index(const fs::path& folder) {
  if (!is_complete(folder)) {
    fail(folder, "they are incomplete, as vrwkv-shard was interrupted: the same call goes on where it ended");
  }
  return from_json_file(folder, kIndexFile, [](const Json& json) {
    ShardIndex index{.plan = plan_from(json.at("plan")), .shards = {}, .images = file_from(json.at("images_index"))};
    for (const Json& shard : json.at("shards")) index.shards.push_back(file_from(shard));
    return index;
  });
}

ImageIndex read_shard_images(const fs::path& folder) {
  const ShardIndex shards = read_shard_index(folder);
  const std::string damaged =
      std::string(kShardImagesFile) + " is missing or damaged; remove index.json and call vrwkv-shard again: ";
  ImageIndex index;
  try {
    index = decode_index(MappedFile(folder / shards.images.file).bytes());
  } catch (const std::exception& error) {
    fail(folder, damaged + error.what());
  }
  if (index.size() != shards.images.images || index.sources.size() != shards.shards.size()) {
    fail(folder, damaged + "it has " + std::to_string(index.size()) + " images, index.json " +
                     std::to_string(shards.images.images));
  }
  for (const IndexSource& shard : index.sources) {
    if (!is_current(shard, folder)) {
      fail(folder, "'" + shard.path + "' is missing or has another size than " + std::to_string(shard.bytes) +
                       " bytes: copy it again, or remove it and index.json and call vrwkv-shard again");
    }
  }
  return index;
}

ShardFile measure_file(const fs::path& folder, const std::string& file) {
  const MappedFile mapped(folder / file);
  return {file, 0, std::ssize(mapped.bytes()), crc32(mapped.bytes())};
}

std::string check_file(const fs::path& folder, const ShardFile& expected) {
  try {
    const ShardFile now = measure_file(folder, expected.file);
    if (now.bytes != expected.bytes) {
      return expected.file + ": expected " + std::to_string(expected.bytes) + " bytes, got " +
             std::to_string(now.bytes);
    }
    if (now.crc32 != expected.crc32) {
      return expected.file + ": expected the CRC-32 " + crc32_text(expected.crc32) + ", got " + crc32_text(now.crc32);
    }
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}

}  // namespace vrwkv::data
