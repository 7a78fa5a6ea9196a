#include "eval/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/predict_report.h"

namespace vrwkv::eval {
namespace {

Accuracy example() {
  Accuracy accuracy;
  accuracy.images = 360;
  accuracy.correct1 = 350;
  accuracy.correct5 = 360;
  accuracy.loss = 0.25;
  accuracy.classes = {{160, 160, 160}, {200, 190, 200}};
  return accuracy;
}

TEST(Report, SummaryHasTwoDecimals) {
  EXPECT_EQ(summary_line(example()), "top-1 97.22  top-5 100.00");
  EXPECT_EQ(summary_line({}), "top-1 0.00  top-5 0.00");
}

TEST(Report, TableIsAligned) {
  EXPECT_EQ(class_table(example(), {"a long name", "b"}),
            "class          images  correct1  correct5     top-1     top-5\n"
            "a long name       160       160       160    100.00    100.00\n"
            "b                 200       190       200     95.00    100.00\n");
}

TEST(Report, JsonHoldsTheExactCounts) {
  const auto json = nlohmann::json::parse(report_json({{"c.yaml", "w.safetensors"}, example()}, {"a", "b"}));
  EXPECT_EQ(json.at("config"), "c.yaml");
  EXPECT_EQ(json.at("checkpoint"), "w.safetensors");
  EXPECT_EQ(json.at("images"), 360);
  EXPECT_EQ(json.at("correct1"), 350);
  EXPECT_EQ(json.at("correct5"), 360);
  EXPECT_DOUBLE_EQ(json.at("top1").get<double>(), 100.0 * 350 / 360);
  EXPECT_EQ(json.at("loss"), 0.25);
  ASSERT_EQ(json.at("classes").size(), 2u);
  EXPECT_EQ(json["classes"][1]["name"], "b");
  EXPECT_EQ(json["classes"][1]["label"], 1);
  EXPECT_EQ(json["classes"][1]["correct1"], 190);
}

TEST(Report, JsonWithoutClassesAndWithoutALoss) {
  Accuracy accuracy = example();
  accuracy.loss = NAN;
  const auto json = nlohmann::json::parse(report_json({{"c.yaml", "\xff.safetensors"}, accuracy}, {}));
  EXPECT_FALSE(json.contains("classes"));
  EXPECT_TRUE(json.at("loss").is_null());
}

TEST(Report, CsvQuotesWhatNeedsIt) {
  Report report{{"c.yaml", "a,\"b\".safetensors", WeightSet::ema, {}, "flip"}, example()};
  report.source.transform.size = 48;
  EXPECT_EQ(reports_csv({report}),
            "checkpoint,weights,size,resize,tta,images,correct1,correct5,top1,top5,loss\n"
            "\"a,\"\"b\"\".safetensors\",ema,48,256,flip,360,350,360,97.2222,100,0.25\n");
  EXPECT_EQ(class_csv(example(), {"x", "y\nz"}),
            "label,class,images,correct1,correct5,top1,top5\n0,x,160,160,160,100,100\n"
            "1,\"y\nz\",200,190,200,95,100\n");
  EXPECT_EQ(unreadable_csv("a", "b,c"), "a,,,,,\"b,c\"\n");
}

TEST(PredictionReport, TextAndJson) {
  const ImagePrediction prediction{"dir/a.png", {{1, 0.97}, {0, 0.03}}};
  EXPECT_EQ(prediction_text(prediction, {"cat", "dog"}), "dir/a.png\n  0.9700  dog\n  0.0300  cat\n");
  const auto json = prediction_json(prediction, {"cat", "dog"});
  EXPECT_EQ(json.at("image"), "dir/a.png");
  EXPECT_EQ(json.at("top").at(0).at("name"), "dog");
  EXPECT_EQ(json.at("top").at(0).at("label"), 1);
  EXPECT_EQ(json.at("top").at(1).at("probability"), 0.03);
  EXPECT_EQ(unreadable_json("a", "b").at("error"), "b");
}

}  // namespace
}  // namespace vrwkv::eval
