#include "config/yaml_source.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

std::string parse_error(const std::string& text) {
  try {
    parse_yaml(text, "f");
    return "no error";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(ParseYaml, KeepsTheLineOfEveryKeyAndValue) {
  const Node root = parse_yaml("# comment\na: 1\nb:\n  c: [x,\n      y]\n  d:\n    - 'q'\ne:\nf: 2\n", "f");
  ASSERT_EQ(root.kind, Node::Kind::mapping);
  ASSERT_EQ(root.entries.size(), 4U);
  EXPECT_EQ(root.find("a")->where.text(), "f:2");
  EXPECT_EQ(root.find("a")->value.where.text(), "f:2");
  EXPECT_FALSE(root.find("a")->value.quoted);
  const Node& b = root.find("b")->value;
  EXPECT_EQ(root.find("b")->where.line, 3);
  EXPECT_EQ(b.find("c")->value.items.at(0).where.line, 4);
  EXPECT_EQ(b.find("c")->value.items.at(1).where.line, 5);
  EXPECT_EQ(b.find("d")->value.items.at(0).where.line, 7);
  EXPECT_TRUE(b.find("d")->value.items.at(0).quoted);
  EXPECT_EQ(root.find("e")->value.kind, Node::Kind::null);
  EXPECT_EQ(root.find("e")->value.where.line, 8);
  EXPECT_EQ(root.find("g"), nullptr);
  EXPECT_EQ(locate(root, "b.c").line, 4);
  EXPECT_EQ(locate(root, "b.absent").line, 3);
  EXPECT_EQ(locate(root, "absent.c").line, root.where.line);
}

TEST(ParseYaml, AliasesAreCopies) {
  const Node root = parse_yaml("a: &x {p: 1, q: [2, 3]}\nb: *x\n", "f");
  EXPECT_EQ(root.find("b")->value.find("q")->value.items.at(1).text, "3");
  EXPECT_EQ(root.find("b")->where.line, 2);
}

TEST(ParseYaml, WindowsLineEndsAndByteOrderMarkAreFine) {
  const Node root = parse_yaml(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: two\r\n",
      "f");
  ASSERT_NE(root.find("b"), nullptr);
  EXPECT_EQ(root.find("b")->value.text, "two");
  EXPECT_EQ(root.find("b")->where.line, 2);
}

TEST(ParseYaml, RefusesWhatIsNotAPlainConfiguration) {
  EXPECT_EQ(parse_error("a: 1\nb: 2\na: 3\n"), "f:3: duplicate key 'a' (first on line 1); keep one of them");
  EXPECT_EQ(parse_error("s:\n  a: 1\n  'a': 1\n"), "f:3: duplicate key 'a' (first on line 2); keep one of them");
  EXPECT_EQ(parse_error("a: 1\n[x]: 2\n"), "f:2: a key must be a single word");
  EXPECT_EQ(parse_error("a: 1\n---\nb: 2\n"),
            "f:2: a configuration is one YAML document, but a second one starts here");
  EXPECT_EQ(parse_error("a: 1\nb: !!int 2\n").substr(0, 24), "f:2: YAML tags are not u");
  EXPECT_EQ(parse_error("a: &x [1, *x]\n"), "f:1: an alias stands inside the value that it names");
  EXPECT_EQ(parse_error("a: 1\nb: x\x01y\n"), "f:2: not UTF-8 text, or it holds a control character");
  EXPECT_EQ(parse_error("a: 1\nb: [1, 2\n").substr(0, 24), "f:3: YAML syntax error: ");
  EXPECT_EQ(parse_error("a: 1\nb: *nowhere\n").substr(0, 24), "f:2: YAML syntax error: ");
  EXPECT_NE(parse_error("a: 1\n\tb: 2\n"), "no error");
}

TEST(ParseYaml, BoundsDepthAndSize) {
  EXPECT_EQ(parse_error(std::string(32, '[') + std::string(32, ']')), "no error");
  EXPECT_EQ(parse_error(std::string(33, '[') + std::string(33, ']')), "f:1: values are nested more than 32 deep");
  EXPECT_NE(parse_error(std::string(100'000, '[')), "no error");
  EXPECT_NE(parse_error(std::string(100'000, '{')), "no error");
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = std::string("*a").append(std::to_string(i - 1));
    std::string line = std::string("a").append(std::to_string(i));
    line += ": &" + line + " [" + before;
    for (int j = 0; j < 8; ++j) line += ", " + before;
    bomb += line + "]\n";
  }
  EXPECT_NE(parse_error(bomb).find("more than 10000 values"), std::string::npos);
}

TEST(ReadConfigFile, MergesMappingsAndReplacesTheRest) {
  const TemporaryConfigs configs;
  configs.write("base.yaml", "a:\n  x: 1\n  y: [1, 2, 3]\n  z: {p: 1}\nb: 5\nc:\n  q: 1\n");
  configs.write("sub/top.yaml", "base: ../base.yaml\n\na:\n  y: [9]\n  z: {r: 2}\n  w: 3\nb: 6\nc:\n");
  const Node root = read_config_file(configs.folder() / "sub/top.yaml");
  EXPECT_EQ(root.find("base"), nullptr);
  const Node& a = root.find("a")->value;
  EXPECT_EQ(a.find("x")->value.text, "1");
  EXPECT_EQ(a.find("x")->where.text(), (configs.folder() / "base.yaml").string() + ":2");
  ASSERT_EQ(a.find("y")->value.items.size(), 1U);
  EXPECT_EQ(a.find("y")->where.text(), (configs.folder() / "sub/top.yaml").string() + ":4");
  EXPECT_EQ(a.find("z")->value.entries.size(), 2U);
  EXPECT_EQ(a.find("w")->value.text, "3");
  EXPECT_EQ(root.find("b")->value.text, "6");
  EXPECT_NE(root.find("c")->value.find("q"), nullptr);
}

TEST(ReadConfigFile, BaseErrors) {
  const TemporaryConfigs configs;
  configs.write("plain.yaml", "{}");
  configs.write("one.yaml", "base: plain.yaml\n");
  configs.write("two.yaml", "# two\nbase: one.yaml\n");
  EXPECT_EQ(configs.error("one.yaml"), "no error");
  EXPECT_EQ(
      configs.error("two.yaml"),
      "one.yaml:1: a base cannot have a base of its own, but two.yaml:2 extends this file; move the keys into one of "
      "the two");
  configs.write("self.yaml", "base: ./self.yaml\n");
  EXPECT_EQ(configs.error("self.yaml"), "self.yaml:1: 'base' names this file itself; remove it or name another file");
  configs.write("ping.yaml", "base: pong.yaml\n");
  configs.write("pong.yaml", "base: ping.yaml\n");
  EXPECT_EQ(configs.error("ping.yaml").substr(0, 41), "pong.yaml:1: a base cannot have a base of");
  configs.write("lost.yaml", "train:\n  epochs: 3\nbase: nowhere.yaml\n");
  EXPECT_EQ(
      configs.error("lost.yaml"),
      "lost.yaml:3: 'base' names 'nowhere.yaml', which does not exist; the path is relative to this file's folder");
  for (const char* value : {"", " ''", " [plain.yaml]", " {a: b}"}) {
    configs.write("odd.yaml", std::string("base:") + value);
    EXPECT_EQ(configs.error("odd.yaml"),
              "odd.yaml:1: 'base' must be the path of one YAML file, relative to this file's folder");
  }
  configs.write("broken.yaml", "a: [1\n");
  configs.write("onbroken.yaml", "base: broken.yaml\n");
  EXPECT_EQ(configs.error("onbroken.yaml").substr(0, 34), "broken.yaml:2: YAML syntax error: ");
}

TEST(ReadConfigFile, FileErrors) {
  const TemporaryConfigs configs;
  EXPECT_EQ(configs.error("absent.yaml"),
            "absent.yaml: there is no such configuration file; give the path of a YAML file such as configs/NAME.yaml");
  std::filesystem::create_directory(configs.folder() / "folder");
  EXPECT_EQ(configs.error("folder"), "folder: expected a YAML file, but this is a folder");
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "null\n"}) {
    configs.write("empty.yaml", text);
    EXPECT_EQ(configs.error("empty.yaml"),
              "empty.yaml: the file holds no configuration; write at least one key, or {} for all defaults")
        << text;
  }
  configs.write("list.yaml", "\n- a\n- b\n");
  EXPECT_EQ(configs.error("list.yaml"), "list.yaml:2: a configuration is a mapping of `key: value` lines, got a list");
  configs.write("word.yaml", "epochs\n");
  EXPECT_EQ(configs.error("word.yaml"),
            "word.yaml:1: a configuration is a mapping of `key: value` lines, got 'epochs'");
  configs.write("huge.yaml", std::string(256 * 1024 + 1, '#'));
  EXPECT_EQ(configs.error("huge.yaml"), "huge.yaml: a configuration has at most 262144 bytes, this file has more");
}

}  // namespace
}  // namespace vrwkv::config
