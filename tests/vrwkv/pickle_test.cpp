#include "vrwkv/checkpoint/pickle.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>

namespace vrwkv::testing {
namespace {

using Kind = Pickle::Kind;

Pickle parse(const std::string& text) { return Pickle({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

/// A literal that may hold zero bytes.
template <size_t kSize>
std::string raw(const char (&literal)[kSize]) {
  return {literal, kSize - 1};
}

TEST(PickleTest, ReadsNumbersOfEveryWidth) {
  struct Case {
    std::string pickle;
    int64_t value;
  };
  for (const auto& [text, value] :
       {Case{raw("K\xFF."), 255},
        {raw("M\x01\x02."), 0x201},
        {raw("J\xFE\xFF\xFF\xFF."), -2},
        {raw("I-17\n."), -17},
        {raw("L123456789012L\n."), 123456789012},
        {raw("\x8A\x00."), 0},
        {raw("\x8A\x01\x80."), -128},
        {raw("\x8A\x02\x00\x80."), -32768},
        {raw("\x8A\x08\x00\x00\x00\x00\x00\x00\x00\x80."), std::numeric_limits<int64_t>::min()}}) {
    const Pickle pickle = parse(text);
    EXPECT_EQ(pickle.root().kind, Kind::integer);
    EXPECT_EQ(pickle.root().integer, value);
  }
  EXPECT_EQ(parse(raw("\x8A\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.")).root().kind, Kind::other);
  EXPECT_EQ(parse("L99999999999999999999999L\n.").root().kind, Kind::other);
  EXPECT_EQ(parse(raw("G\xBF\xF8\x00\x00\x00\x00\x00\x00.")).root().real, -1.5);
  EXPECT_EQ(parse("F2.5e-3\n.").root().real, 2.5e-3);
  EXPECT_EQ(parse("I01\n.").root().kind, Kind::boolean);
}

// {'a': [1, 2], 'b': ('x', None)} as protocol 0 and protocol 4 write it.
TEST(PickleTest, ReadsContainersOfOldAndNewProtocols) {
  for (const std::string& text : {raw("(dp0\nVa\np1\n(lp2\nI1\naI2\nasVb\np3\n(Vx\np4\nNtp5\ns."),
                                  raw("\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00}\x94(\x8C\x01"
                                      "a\x94]\x94(K\x01K\x02"
                                      "e\x8C\x01"
                                      "b\x94\x8C\x01x\x94N\x86\x94u.")}) {
    const Pickle pickle = parse(text);
    const Pickle::Value* list = pickle.find(pickle.root(), "a");
    ASSERT_NE(list, nullptr);
    EXPECT_EQ(list->kind, Kind::list);
    ASSERT_EQ(list->items.size(), 2U);
    EXPECT_EQ(pickle[list->items[1]].integer, 2);
    const Pickle::Value* tuple = pickle.find(pickle.root(), "b");
    ASSERT_NE(tuple, nullptr);
    EXPECT_EQ(tuple->kind, Kind::tuple);
    EXPECT_EQ(pickle[tuple->items[0]].text, "x");
    EXPECT_EQ(pickle[tuple->items[1]].kind, Kind::none);
    EXPECT_EQ(pickle.find(pickle.root(), "c"), nullptr);
  }
}

TEST(PickleTest, RunsNothing) {
  // os.system('true'), in both spellings.
  for (const std::string& text :
       {raw("cos\nsystem\n(S'true'\ntR."), raw("\x8C\x02os\x8C\x06system\x93\x8C\x04true\x85R.")}) {
    const Pickle pickle = parse(text);
    EXPECT_EQ(pickle.root().kind, Kind::call);
    EXPECT_EQ(pickle[pickle.root().items[0]].text, "os system");
  }
}

TEST(PickleTest, PassesOverObjectsOfUnknownClasses) {
  // An object of yacs.config.CfgNode (a dict with attributes): made, filled, given a state; then 7 is the result.
  const Pickle pickle = parse(raw("cyacs.config\nCfgNode\n)\x81(Va\nI1\nu}(V_frozen\nI1\nub0K\x07."));
  EXPECT_EQ(pickle.root().integer, 7);
}

TEST(PickleTest, LetsAContainerHoldItself) {
  const Pickle pickle = parse("(lp0\ng0\na.");
  ASSERT_EQ(pickle.root().items.size(), 1U);
  EXPECT_EQ(&pickle[pickle.root().items[0]], &pickle.root());
}

TEST(PickleTest, RefusesNonsense) {
  EXPECT_EQ(error_of(""), "damaged pickle at byte 0: 1 bytes expected, 0 are left");
  EXPECT_EQ(error_of("."), "damaged pickle at byte 0: the stack is empty");
  EXPECT_EQ(error_of("\x80\x09."), "damaged pickle at byte 0: protocols up to 5 are known");
  EXPECT_EQ(error_of("\xFF"), "damaged pickle at byte 0: the opcode 0xff is not known");
  EXPECT_EQ(error_of(raw("X\xFF\xFF\xFF\xFF"
                         "a.")),
            "damaged pickle at byte 0: 4294967295 bytes expected, 2 are left");
  EXPECT_EQ(error_of("h\x05."), "damaged pickle at byte 0: the memo has no entry 5");
  EXPECT_EQ(error_of("e."), "damaged pickle at byte 0: a mark is missing");
  EXPECT_EQ(error_of("(K\x01t\x86."), "damaged pickle at byte 4: the stack is too short");
  EXPECT_EQ(error_of("}(K\x01u."), "damaged pickle at byte 4: a dict has a key without a value");
  EXPECT_EQ(error_of("K\x01K\x02"
                     "a."),
            "damaged pickle at byte 4: items are added to something else than they belong to");
  EXPECT_EQ(error_of("Ix\n."), "damaged pickle at byte 0: 'x' is not an integer");
}

// A text doubled by each pair of bytes, or named again by each three: gigabytes of a hundred bytes.
TEST(PickleTest, RefusesTextsThatGrow) {
  std::string doubling =
      raw("\x8c\x01"
          "a");
  for (int i = 0; i < 40; ++i) doubling += "2\x93";
  EXPECT_EQ(error_of(doubling + "."), "damaged pickle at byte 6: a class is named by something else than texts");
  std::string repeated = raw("X\xE8\x03\0\0") + std::string(1000, 'a');
  const size_t start = repeated.size() + 1;
  repeated += "2";
  for (int i = 0; i < 2000; ++i)
    repeated +=
        "22\x93"
        "0";
  EXPECT_NE(error_of(repeated + ".").find("the names of its classes are longer than any pickle has them"),
            std::string::npos);
  EXPECT_EQ(error_of(repeated.substr(0, start) + "22\x93"
                                                 "."),
            "no error");
}

TEST(PickleTest, SurvivesRandomPrograms) {
  const std::string opcodes =
      "(.0125FGIJKLMNQRSTUVXabcdeghijlopqrstu]}B)C\x80\x81\x82\x85\x86\x87\x88\x89\x8A\x8C\x8F\x90\x91"
      "\x92\x93\x94\x95\n\x01\x02";
  std::mt19937 random(1);
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string program(1 + random() % 40, ' ');
    for (char& c : program) {
      c = random() % 8 == 0 ? static_cast<char>(random()) : opcodes[random() % opcodes.size()];
    }
    accepted += error_of(program + ".") == "no error";
  }
  EXPECT_GT(accepted, 100);  // Else the programs would test no more than the first opcode.
}

}  // namespace
}  // namespace vrwkv::testing
