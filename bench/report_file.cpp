#include "bench/report_file.h"

#include <iostream>

#include "cli/output.h"

namespace vrwkv::bench {

void write_report(const std::string& target, const nlohmann::ordered_json& report) {
  if (target.empty()) return;
  cli::write_output(target, report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void print_text(const std::string& target, const std::string& text) {
  (target == "-" ? std::cerr : std::cout) << text << std::flush;
}

}  // namespace vrwkv::bench
