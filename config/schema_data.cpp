#include "config/schema_sections.h"

namespace vrwkv::config {
namespace {

Section synthetic_section(data::SyntheticOptions& synthetic) {
  return {
      .name = "synthetic",
      .about = "For `format: synthetic`: images made from numbers, the same in every run.",
      .fields =
          {
              {"images", &synthetic.images, Range::at_least(1), "How many; image i is of class i modulo `classes`."},
              {"classes", &synthetic.classes, Range::at_least(1),
               "Classes, each with a pattern of its own; at most `model.num_classes`."},
              {"size", &synthetic.size, Range::at_least(1), "Height and width in pixels."},
              {"seed", &synthetic.seed, Range::at_least(0), "Another one gives other images of the same classes."},
          },
      .sections = {},
  };
}

Section dataset_section(const std::string& name, const std::string& about, data::DatasetOptions& dataset) {
  return {
      .name = name,
      .about = about,
      .fields =
          {
              {"path", PathText{&dataset.path}, Range::any(),
               "A folder of images, a tar file, a folder of tar files, or a pattern of them (`*`, `?`, `[...]`). "
               "docs/data.md has the layouts."},
              {"format", choice(dataset.format, {"auto", "folder", "list", "tar", "synthetic"}), Range::any(),
               "`folder`: a folder per class; `list`: images named by `list`; `tar`: tar files of images, ImageNet's "
               "own and those of `vrwkv-shard` among them; `synthetic`: images made as `synthetic` says, `path` is not "
               "read; `auto`: by what `path` is, and `list` when that is set."},
              {"list", PathText{&dataset.list}, Range::any(),
               "For `list`: a text file of `relative/path label` lines, or a `.csv` file whose header names the "
               "columns "
               "`path` and `label` (numbers from 0) or `class` (names); paths are relative to `path`."},
              {"ground_truth", PathText{&dataset.ground_truth}, Range::any(),
               "For `tar`: the labels of ILSVRC2012_img_val.tar, the devkit's ILSVRC2012_validation_ground_truth.txt."},
              {"synsets", PathText{&dataset.synsets}, Range::any(),
               "With `ground_truth`: a text file whose line i begins with the WNID of ILSVRC's class i."},
              {"index_cache", PathText{&dataset.index_cache}, Range::any(),
               "For `folder` and `tar`: the folder where the list of images is kept for the next start, `auto` "
               "(`~/.cache/vrwkv/index`, see docs/data.md) or `off`. A list is made anew when a folder or tar of the "
               "set "
               "has changed."},
          },
      .sections = {synthetic_section(dataset.synthetic)},
  };
}

Section progressive_section(data::ProgressiveOptions& options) {
  return {
      .name = "progressive",
      .about =
          "Smaller samples at first, which cost less: the side grows linearly, in multiples of `model.patch_size`.",
      .fields =
          {
              {"start_size", &options.start_size, Range::at_least(0),
               "Side in pixels of the first epoch's samples; 0: `size` throughout."},
              {"growth_epochs", &options.epochs, Range::at_least(0),
               "Epochs before the first one with samples of `size`."},
          },
      .sections = {},
  };
}

Section rand_augment_section(data::RandAugmentOptions& options) {
  return {
      .name = "rand_augment",
      .about = "RandAugment: operations drawn from a list of 15. docs/augmentation.md has the list.",
      .fields =
          {
              {"num_ops", &options.num_ops, Range::between(0, 15), "Operations drawn for each image; 0: off."},
              {"magnitude", &options.magnitude, Range::between(0, 10), "Mean strength of an operation."},
              {"magnitude_std", &options.magnitude_std, Range::at_least(0),
               "Standard deviation of the strength, which is limited to 0 to 10."},
              {"prob", &options.prob, Range::between(0, 1), "Probability that a drawn operation is applied."},
              {"increasing", &options.increasing, Range::any(),
               "Every operation is stronger at a higher magnitude; false: posterize, solarize and the colour factors "
               "run over their ranges."},
          },
      .sections = {},
  };
}

Section erasing_section(data::ErasingOptions& options) {
  return {
      .name = "erasing",
      .about = "Random erasing of rectangles, after normalisation.",
      .fields =
          {
              {"prob", &options.prob, Range::between(0, 1), "Probability that an image is erased; 0: off."},
              {"fill", choice(options.fill, {"noise", "zero"}), Range::any(),
               "`noise`: standard normal noise, in normalised units; `zero`: the mean colour."},
              {"area", std::span<double>(options.area), Range::positive_share(),
               "Least and most share of the image's area, all rectangles together."},
              {"ratio", std::span<double>(options.ratio), Range::above(0), "Least and most height over width."},
              {"max_count", &options.max_count, Range::between(1, 64), "An erased image has 1 to so many rectangles."},
          },
      .sections = {},
  };
}

Section mix_section(data::MixOptions& mix) {
  return {
      .name = "mix",
      .about = "Mixup and CutMix of the images of a training batch (of each accumulation step), and of their labels.",
      .fields =
          {
              {"mixup_alpha", &mix.mixup_alpha, Range::at_least(0),
               "Mixup with a weight from Beta(alpha, alpha); 0: off."},
              {"cutmix_alpha", &mix.cutmix_alpha, Range::at_least(0),
               "CutMix with a share from Beta(alpha, alpha); 0: off."},
              {"prob", &mix.prob, Range::between(0, 1), "Probability of mixing at all."},
              {"switch_prob", &mix.switch_prob, Range::between(0, 1), "Probability of CutMix where both are on."},
              {"mode", choice(mix.mode, {"batch", "element"}), Range::any(),
               "What is drawn once: `batch`: for all images of a batch; `element`: for each image."},
          },
      .sections = {},
  };
}

Section train_transform_section(data::TrainTransformOptions& transform) {
  return {
      .name = "train_transform",
      .about = "From a decoded image to a training sample.",
      .fields =
          {
              {"size", &transform.size, Range::at_least(1),
               "Side of the result in pixels; a multiple of `patch_size`."},
              {"crop", choice(transform.crop, {"random_resized", "pad", "resize"}), Range::any(),
               "`random_resized`: a random part of the image, resized; `pad`: resized if it has another size, padded "
               "with "
               "zeros, then a random crop; `resize`: resized only."},
              {"scale", std::span<double>(transform.scale), Range::positive_share(),
               "random_resized: least and most share of the image's area."},
              {"ratio", std::span<double>(transform.ratio), Range::above(0),
               "random_resized: least and most width over height."},
              {"padding", &transform.padding, Range::at_least(0), "pad: pixels added on each side."},
              {"hflip", &transform.hflip, Range::between(0, 1), "Probability of a horizontal flip."},
              {"reduced_decode", &transform.reduced_decode, Range::any(),
               "random_resized: decode a JPEG at 1/2, 1/4 or 1/8 where the part still has `size` pixels then, as "
               "Pillow's draft mode; false: always exactly."},
              {"three_augment", &transform.three_augment, Range::any(),
               "3-Augment of DeiT III: grey, solarized or blurred; not together with `rand_augment`."},
              {"color_jitter", &transform.color_jitter, Range::between(0, 1),
               "Brightness, contrast and saturation change by factors within 1 +- this; 0: off."},
          },
      .sections = {progressive_section(transform.progressive), rand_augment_section(transform.rand_augment),
                   erasing_section(transform.erasing)},
  };
}

Section eval_transform_section(data::EvalTransformOptions& transform) {
  return {
      .name = "eval_transform",
      .about = "From a decoded image to an evaluation sample.",
      .fields =
          {
              {"resize", &transform.resize, Range::at_least(1),
               "Short side in pixels after the resize; of `short_side`."},
              {"size", &transform.size, Range::at_least(1),
               "Side of the centre crop in pixels; a multiple of `patch_size`. A smaller image is padded with zeros."},
              {"mode", choice(transform.mode, {"short_side", "stretch"}), Range::any(),
               "`short_side`: the short side becomes `resize`, then a centre crop; `stretch`: the whole image to "
               "`size` x "
               "`size`."},
              {"interpolation", choice(transform.interpolation, {"bicubic", "bilinear"}), Range::any(),
               "Of the resize, antialiased as Pillow's."},
          },
      .sections = {},
  };
}

Section normalize_section(data::NormalizeOptions& normalize) {
  return {
      .name = "normalize",
      .about = "Per channel (red, green, blue): (value - mean) / std, in grey levels from 0 to 255.",
      .fields =
          {
              {"mean", std::span<double>(normalize.mean), Range::between(0, 255), "Mean of each channel."},
              {"std", std::span<double>(normalize.std), Range::above(0), "Standard deviation of each channel."},
          },
      .sections = {},
  };
}

}  // namespace

Section data_section(data::DataOptions& data) {
  return {
      .name = "data",
      .about = "Images, what is done to them, and the loader.",
      .fields =
          {
              {"decode", choice(data.decode, {"cpu", "gpu", "auto"}), Range::any(),
               "Who decodes, crops and augments training images: `cpu`: the loader's threads; `gpu`: nvJPEG and "
               "kernels "
               "on the run's GPU (docs/data.md says what differs); `auto`: the GPU if the run and the build have what "
               "it "
               "takes. Evaluation is always on the CPU."},
              {"gpu_share", &data.gpu_share, Range::between(0, 1),
               "With `decode` gpu or auto: share of the JPEGs that the GPU decodes; the loader's threads decode the "
               "others, and the GPU goes on with their pixels."},
              {"workers", &data.workers, Range::at_least(0), "Loader threads; 0: one per core."},
              {"repeats", &data.repeats, Range::between(1, 64),
               "Repeated augmentation: so many different views of an image in an epoch, one after the other; the epoch "
               "keeps its length and has accordingly fewer images. 1: off."},
              {"prefetch_batches", &data.prefetch_batches, Range::at_least(1), "Batches prepared ahead."},
              {"max_corrupt_share", &data.max_corrupt_share, Range::between(0, 1),
               "Training stops when more of an epoch's images than this share are unreadable."},
          },
      .sections =
          {
              dataset_section("train", "Training images.", data.train),
              dataset_section("val", "Images that evaluation measures.", data.val),
              train_transform_section(data.train_transform),
              eval_transform_section(data.eval_transform),
              normalize_section(data.normalize),
              mix_section(data.mix),
          },
  };
}

}  // namespace vrwkv::config
