#include "train/mae_task.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "data/transforms.h"
#include "eval/evaluator.h"
#include "eval/mae_evaluator.h"
#include "eval/reconstruction_picture.h"
#include "train/checkpoint_store.h"
#include "train/trainer.h"
#include "vrwkv/checkpoint/transfer.h"
#include "vrwkv/checkpoint/weights.h"
#include "vrwkv/mae_pixels.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

class MaeTaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("mae_task_" + std::to_string(::getpid()) + "_" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// A small autoencoder on the digits of the repository.
  config::RunConfig small_config(const std::string& name) const {
    config::RunConfig config;
    config.task = config::TaskName::mae;
    VrwkvOptions& backbone = config.model.backbone;
    backbone.img_size = 16;
    backbone.patch_size = 4;
    backbone.embed_dims = 32;
    backbone.depth = 2;
    backbone.shift = Shift::single_shift;
    backbone.drop_path_rate = 0.1;
    config.mae.decoder_embed_dims = 16;
    config.mae.decoder_depth = 1;
    config.pictures = {.every = 2, .images = 3};
    config.data.train.path = VRWKV_SOURCE_DIR "/data/digits/train.tar";
    config.data.val.path = VRWKV_SOURCE_DIR "/data/digits/val.tar";
    for (data::DatasetOptions* dataset : {&config.data.train, &config.data.val}) dataset->index_cache = "off";
    config.data.train_transform.size = 16;
    config.data.train_transform.crop = data::TrainCrop::pad;
    config.data.train_transform.padding = 1;
    config.data.eval_transform = {.resize = 16, .size = 16};
    config.data.normalize = {{127.5, 127.5, 127.5}, {127.5, 127.5, 127.5}};
    config.data.workers = 2;
    config.train.epochs = 3;
    config.train.batch_size = 64;
    config.train.log_every = 1;
    config.train.optimizer.lr = 4e-3;
    config.run.output_dir = (folder_ / name).string();
    return config;
  }

  /// Runs to the end, from the beginning or from `resume`; returns the last checkpoint's tensors.
  static std::map<std::string, at::Tensor> run(const config::RunConfig& config,
                                               const std::optional<std::string>& resume = std::nullopt,
                                               at::Device device = at::kCPU) {
    MaeTask task(config, device);
    Trainer(config, task, resume).run();
    return read_checkpoint(fs::path(config.run.output_dir) / "checkpoints" / "last.safetensors").tensors;
  }

  fs::path folder_;
};

TEST_F(MaeTaskTest, TheLossFallsAndTheLeastIsTheBest) {
  const config::RunConfig config = small_config("run");
  MaeTask task(config, at::kCPU);
  const Evaluation before = task.evaluate();
  EXPECT_DOUBLE_EQ(before.score, -before.metrics.at("loss"));
  EXPECT_EQ(before.metrics.at("images"), 355);
  EXPECT_EQ(task.evaluate().metrics.at("loss"), before.metrics.at("loss"));  // The same masks again.
  Trainer(config, task, std::nullopt).run();
  const Evaluation after = task.evaluate();
  EXPECT_LT(after.metrics.at("loss"), 0.5 * before.metrics.at("loss"));
  EXPECT_TRUE(fs::exists(folder_ / "run" / "reconstructions" / "epoch_0002.png"));
  EXPECT_TRUE(fs::exists(folder_ / "run" / "reconstructions" / "epoch_0003.png"));  // The last one.
  EXPECT_FALSE(fs::exists(folder_ / "run" / "reconstructions" / "epoch_0001.png"));
}

TEST_F(MaeTaskTest, ResumingGivesTheBitsOfTheUnbrokenRun) {
  const auto whole = run(small_config("whole"));
  config::RunConfig broken = small_config("broken");
  broken.train.keep_checkpoints = 9;
  run(broken);
  for (const char* name : {"last.safetensors", "best.safetensors", "epoch_0003.safetensors"}) {
    fs::remove(folder_ / "broken" / "checkpoints" / name);
  }
  const auto resumed = run(broken, (folder_ / "broken" / "checkpoints" / "epoch_0002.safetensors").string());
  ASSERT_EQ(whole.size(), resumed.size());
  for (const auto& [name, tensor] : whole) EXPECT_TRUE(at::equal(tensor, resumed.at(name))) << name;
}

TEST_F(MaeTaskTest, ARecordedRunHasTheBitsOfAPlainOne) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  for (const Shift shift : {Shift::q_shift, Shift::single_shift, Shift::bidirectional}) {
    std::vector<std::map<std::string, at::Tensor>> ends;
    for (const GraphMode mode : {GraphMode::off, GraphMode::on}) {
      config::RunConfig config = small_config("run");
      config.model.backbone.shift = shift;
      config.train.epochs = 1;
      config.train.cuda_graph = mode;
      config.run.dtype = config::Dtype::bfloat16;
      ends.push_back(run(config, std::nullopt, at::Device(at::kCUDA, 0)));
      fs::remove_all(folder_);
    }
    for (const auto& [name, tensor] : ends[0]) EXPECT_TRUE(at::equal(tensor, ends[1].at(name))) << name;
  }
}

TEST_F(MaeTaskTest, EvaluationIsTheMeanErrorWhateverTheBatchSize) {
  config::RunConfig config = small_config("run");
  config.mae.norm_pix_loss = true;
  MaeTask task(config, at::kCPU);
  MaskedAutoencoder model(MaskedAutoencoderOptions{config.model.backbone, config.mae});
  std::vector<double> found;
  for (const int64_t batch_size : {7, 256}) {
    config.eval.batch_size = batch_size;
    const auto loader = eval::make_eval_loader(config, data::open_dataset(config.data.val), at::kCPU);
    distributed::World world;
    found.push_back(
        eval::evaluate_autoencoder(model, *loader, config.data.normalize, {at::kCPU, config::Dtype::float32}, world)
            .loss);
  }
  EXPECT_NEAR(found[0], found[1], 1e-6 * found[0]);
  // By hand.
  const at::NoGradGuard no_grad;
  model->eval();
  const auto dataset = data::open_dataset(config.data.val);
  double sum = 0;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    const data::EncodedSample sample = dataset->get(i);
    const at::Tensor view = data::eval_view(data::ImageSource(sample.bytes), config.data.eval_transform);
    const at::Tensor image = data::normalize(view.unsqueeze(0), config.data.normalize, at::kFloat);
    sum += model(image, eval::fixed_noise({i}, 16)).error.item<double>();
  }
  EXPECT_NEAR(found[0], sum / static_cast<double>(dataset->size()), 1e-5 * found[0]);
}

TEST_F(MaeTaskTest, MasksDifferFromStepToStep) {
  const config::RunConfig config = small_config("run");
  MaeTask task(config, at::kCPU);
  task.model().eval();
  task.start_epoch(0, 0);
  task.fetch(1);
  const at::NoGradGuard no_grad;
  torch::manual_seed(1);
  const double first = task.loss(0).item<double>(), second = task.loss(0).item<double>();
  EXPECT_NE(first, second);
  torch::manual_seed(1);
  EXPECT_EQ(task.loss(0).item<double>(), first);
}

TEST_F(MaeTaskTest, PicturesShowInputMaskAndPrediction) {
  torch::manual_seed(4);
  for (const bool norm_pix_loss : {false, true}) {
    config::RunConfig config = small_config("run");
    config.mae.norm_pix_loss = norm_pix_loss;
    MaskedAutoencoder model(MaskedAutoencoderOptions{config.model.backbone, config.mae});
    const at::Tensor views = eval::first_views(*data::open_dataset(config.data.val), 5, config.data.eval_transform);
    ASSERT_EQ(views.sizes(), (std::vector<int64_t>{5, 16, 16, 3}));
    const at::Tensor cells =
        eval::reconstructions(model, views, config.data.normalize, {at::kCPU, config::Dtype::float32});
    ASSERT_EQ(cells.sizes(), (std::vector<int64_t>{5, 3, 16, 16, 3}));
    EXPECT_TRUE(at::equal(cells.select(1, 0), views));
    const at::Tensor noise = eval::fixed_noise({0, 1, 2, 3, 4}, 16);
    const auto patches = [](const at::Tensor& images) { return patch_pixels(images.permute({0, 3, 1, 2}), 4); };
    const at::Tensor hidden = random_masking(noise, 4).mask.unsqueeze(2).expand({5, 16, 48}) == 1;
    const at::Tensor input = patches(views), masked = patches(cells.select(1, 1)), shown = patches(cells.select(1, 2));
    EXPECT_TRUE(at::equal(masked, input.masked_fill(hidden, 128)));
    EXPECT_TRUE(at::equal(shown.masked_select(~hidden), input.masked_select(~hidden)));
    EXPECT_FALSE(at::equal(shown, input));
  }
}

TEST_F(MaeTaskTest, AClassifierTakesTheEncoder) {
  config::RunConfig config = small_config("run");
  config.train.epochs = 1;
  run(config);
  const ModelWeights weights = read_model_weights(folder_ / "run" / "checkpoints" / "last.safetensors");
  ClassifierOptions options{config.model.backbone};
  options.backbone.shift = Shift::q_shift;
  options.backbone.img_size = 32;  // Another grid.
  options.num_classes = 10;
  VrwkvClassifier classifier(options);
  const TransferReport report = transfer_weights(*classifier, weights.tensors);
  EXPECT_EQ(report.loaded.size() + report.resized.size() + report.new_head.size(), classifier->parameters().size());
  EXPECT_EQ(report.resized, (std::vector<std::string>{"backbone.pos_embed"}));
  EXPECT_TRUE(report.missing.empty());
  EXPECT_TRUE(report.unexpected.empty());
  EXPECT_EQ(report.decoder.size() + report.loaded.size() + report.resized.size(), weights.tensors.size());
  EXPECT_TRUE(at::equal(classifier->backbone->layers[1]->named_parameters()["att.key.weight"],
                        weights.tensors.at("blocks.1.att.key.weight")));
}

}  // namespace
}  // namespace vrwkv::train
