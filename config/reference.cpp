#include "config/run_config.h"
#include "config/schema.h"
#include "config/text.h"

namespace vrwkv::config {

namespace {

constexpr const char* kIntroduction = R"(# Configuration reference

Generated from the program's own list of keys by `vrwkv-config-reference`; a test keeps it up to date.

A run is described by one YAML file. Every key has a default, so a file only holds what differs. An unknown key, a wrong
type or a value out of range is an error that names file, line and key; nothing is ignored.

    vrwkv-train configs/digits_vrwkv_micro.yaml train.epochs=3 data.normalize.mean=[0,0,0]

- **Base file.** The top-level key `base: FILE` extends another file, named relative to the folder of the file that says
  so. Sections are merged key by key, lists and single values are replaced. A base cannot have a base itself.
- **Command line.** `key.path=value` overrides the files; the value is read as YAML, so lists work. The last one wins.
  `model.init_values=null` removes an optional value. A path may have to be quoted for the shell.
- **Variants.** `model.variant` gives the starting values of the section `model`; keys that a file or the command line
  sets win over the variant, wherever they stand.
- **Types.** An integer is accepted where a number is expected, but not the other way round. Integers go up to 2147483647.
  `true` and `false` are the only truth values; nan and inf are refused. Text that looks like a number is put in quotes.
- **Paths** are relative to the folder in which the program is started. `~` at the start becomes the home folder,
  `${NAME}` the environment variable NAME (an error when it is not set), `$$` a dollar sign.
- **Precision.** `run.dtype: float32` and `float64` compute everything in that type. `bfloat16` and
  `float16` keep the weights, the optimizer's state and the loss in float32 and run the network under autocast; `float16`
  trains with a loss scale.
- **CUDA graphs.** A GPU runs the first three training steps as they are, records the fourth and from then on launches the
  recording, with the same results; `train.cuda_graph` chooses whether. What cannot be recorded runs as before, after one
  warning with `auto`, and as an error with `on`; float64 is not recorded. Evaluation never is.

Checked across keys: `model.img_size` and both transforms' `size` are multiples of `model.patch_size`;
`train.grad_accumulation` divides `train.batch_size`; `train.schedule.warmup_epochs` is at most `train.epochs`;
`model.in_channels` is 3; the two values of `scale` and of `ratio` are in ascending order; `format: list` needs `list`,
and `folder`, `tar` and `synthetic` refuse it. A key that counts only with another key's value (`momentum` with
`name: sgd`, say) must keep its default elsewhere.
)";

std::string code(const std::string& text) { return "`" + text + "`"; }

/// What a value may be, for the table: a choice's names as code.
std::string accepted(const Field& field) {
  const auto* choice = std::get_if<Choice>(&field.target);
  if (choice == nullptr) return expected(field);
  std::string names;
  for (const std::string& name : choice->names) names += (names.empty() ? "" : ", ") + code(name);
  return names;
}

std::string default_text(const Target& target) {
  return std::visit(Overloaded{
                        [](int64_t* value) { return code(std::to_string(*value)); },
                        [](double* value) { return code(number_text(*value)); },
                        [](std::optional<double>* value) { return code(*value ? number_text(**value) : "null"); },
                        [](std::span<double> values) {
                          std::string items;
                          for (const double value : values) items += (items.empty() ? "" : ", ") + number_text(value);
                          return code("[" + items + "]");
                        },
                        [](bool* value) { return code(*value ? "true" : "false"); },
                        [](const PathText& path) { return code(path.value->empty() ? "\"\"" : *path.value); },
                        [](const TextList& list) {
                          std::string items;
                          for (const std::string& text : *list.values) items += (items.empty() ? "" : ", ") + text;
                          return code("[" + items + "]");
                        },
                        [](const DeviceText& device) { return code(*device.value); },
                        [](const Choice& choice) { return code(choice.names[choice.get()]); },
                    },
                    target);
}

void describe_section(const Section& section, const std::string& prefix, std::string& out) {
  const std::string dotted = prefix + section.name;
  const std::string before = dotted.empty() ? "" : dotted + ".";
  out += "\n## " + (dotted.empty() ? "The file itself" : dotted) + "\n\n" + section.about + "\n";
  if (!section.fields.empty()) out += "\n| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const Field& field : section.fields) {
    out += "| " + code(before + field.name) + " | " + accepted(field) + " | " + default_text(field.target) + " | " +
           field.about + " |\n";
  }
  for (const Section& inner : section.sections) describe_section(inner, before, out);
}

}  // namespace

std::string config_reference_markdown() {
  Document defaults;
  std::string out = kIntroduction;
  describe_section(describe(defaults), "", out);
  return out;
}

}  // namespace vrwkv::config
