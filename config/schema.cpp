#include "config/schema.h"

#include "config/schema_sections.h"

namespace vrwkv::config {

namespace {

Section model_section(Document& document) {
  ClassifierOptions& classifier = document.config.model;
  InitOptions& init = document.config.init;
  VrwkvOptions& model = classifier.backbone;
  return {
      .name = "model",
      .about = "The network. `variant` gives the starting values of this section; the other keys override it.",
      .fields =
          {
              {"variant", choice(document.variant, variant_names()), Range::any(),
               "Named model to start from; `none` starts from the defaults below."},
              {"img_size", &model.img_size, Range::at_least(1),
               "Side in pixels of the square input that the position embedding is made for; a multiple of "
               "`patch_size`."},
              {"patch_size", &model.patch_size, Range::at_least(1), "Side of a patch in pixels."},
              {"in_channels", &model.in_channels, Range::at_least(1), "Channels of the input; images have 3."},
              {"embed_dims", &model.embed_dims, Range::at_least(4), "Channels of a token."},
              {"depth", &model.depth, Range::at_least(1), "Number of blocks."},
              {"hidden_rate", &model.hidden_rate, Range::at_least(1),
               "Hidden channels of the channel mix, as a multiple of `embed_dims`."},
              {"attention", choice(model.attention, {"bi_wkv", "bi_wkv6"}), Range::any(),
               "Attention of the blocks: VRWKV's, or VRWKV6's, in heads of 64 channels."},
              {"shift", choice(model.shift, {"q_shift", "single_shift", "bidirectional"}), Range::any(),
               "What a token reads of others: `q_shift`, its four neighbours in the grid; by the order of the tokens "
               "alone `single_shift`, the one before, or `bidirectional`, the ones before and behind."},
              {"post_norm", &model.post_norm, Range::any(), "Normalise each mix's output instead of its input."},
              {"init_values", &model.init_values, Range::at_least(0),
               "Start of the layer scale; null: no layer scale."},
              {"key_norm", &model.key_norm, Range::any(),
               "Layer norm after Bi-WKV and on the hidden values of the channel mix."},
              {"wkv", choice(model.wkv, {"auto", "paper", "published"}), Range::any(),
               "Formula of Bi-WKV: `paper`; `published`, that of the public kernel, which the published weights were "
               "trained with (exact, but slow); `auto`: `published` to evaluate a published .pth file, else `paper`."},
              {"drop_rate", &model.drop_rate, Range::share(), "Dropout after the position embedding."},
              {"drop_path_rate", &model.drop_path_rate, Range::share(),
               "Stochastic depth of the last block; rises linearly from 0 at the first."},
              {"init_mode", choice(model.init_mode, {"fancy", "local", "global"}), Range::any(),
               "Start of the decay, first and mix parameters; `fancy` is the published one."},
              {"linear_init", choice(model.linear_init, {"trunc_normal", "zero_orthogonal"}), Range::any(),
               "Start of the linear weights; `zero_orthogonal` is the large model's."},
              {"with_cp", &model.with_cp, Range::any(),
               "Activation checkpointing: less memory, each block is computed twice."},
              {"num_classes", &classifier.num_classes, Range::at_least(1), "Classes of the head."},
              {"head", choice(classifier.head, {"linear", "mlp_tanh"}), Range::any(),
               "`linear`, or the large model's `mlp_tanh` (linear, tanh, linear)."},
              {"init_from", PathText{&init.from}, Range::any(),
               "Weights that a new run starts from: a checkpoint of ours, a .safetensors or a .pth file, see "
               "finetuning.md; "
               "`--resume` wins over it."},
              {"init_weights", choice(init.weights, {"raw", "ema"}), Range::any(),
               "Which weights of that file: the trained ones, or their moving average (`ema.*`)."},
          },
      .sections = {},
  };
}

Section mae_section(MaeOptions& mae, PictureOptions& pictures) {
  return {
      .name = "mae",
      .about = "For `task: mae`, masked autoencoding; see mae.md. The encoder is the network of the section `model`.",
      .fields =
          {
              {"mask_ratio", &mae.mask_ratio, Range{.low = 0, .high = 1, .low_open = true, .high_open = true},
               "Share of the patches that are hidden from the encoder."},
              {"norm_pix_loss", &mae.norm_pix_loss, Range::any(),
               "Each patch of the target is normalised by its own mean and variance."},
              {"decoder_embed_dims", &mae.decoder_embed_dims, Range::at_least(4),
               "Channels of the decoder's tokens; a multiple of 4."},
              {"decoder_depth", &mae.decoder_depth, Range::at_least(1),
               "Blocks of the decoder, of the encoder's kind."},
              {"double_pos_embed", &mae.double_pos_embed, Range::any(),
               "Add the encoder's position embedding twice, as the public code does."},
              {"picture_every", &pictures.every, Range::at_least(0),
               "Epochs between pictures of reconstructions in the run folder; the last epoch always has one; 0: none."},
              {"picture_images", &pictures.images, Range::at_least(1),
               "Images of a picture: the first ones of `data.val`."},
          },
      .sections = {},
  };
}

Section eval_section(EvalOptions& eval) {
  return {
      .name = "eval",
      .about = "Evaluation, during training and on its own.",
      .fields = {{"batch_size", &eval.batch_size, Range::at_least(1), "Images evaluated at once."}},
      .sections = {},
  };
}

Section run_section(RunOptions& run) {
  return {
      .name = "run",
      .about = "Where and how it runs.",
      .fields =
          {
              {"output_dir", PathText{&run.output_dir}, Range::any(),
               "Folder of checkpoints and logs; `{name}` becomes the configuration's file name without its ending."},
              {"device", DeviceText{&run.device}, Range::any(), "`auto`: the first GPU if there is one, else the CPU."},
              {"dtype", choice(run.dtype, {"float64", "float32", "bfloat16", "float16"}), Range::any(),
               "Precision of the computation; `bfloat16` and `float16` keep float32 weights and compute under "
               "autocast."},
              {"tf32", &run.tf32, Range::any(),
               "float32 only: matrix products on CUDA may round their factors to TF32 (10 bits of mantissa)."},
              {"seed", &run.seed, Range::at_least(0), "Start of all random numbers."},
              {"threads", &run.threads, Range::at_least(0), "CPU threads of LibTorch; 0: LibTorch's default."},
          },
      .sections = {},
  };
}

}  // namespace

std::vector<std::string> variant_names() {
  return {"none", "tiny", "small", "base", "large", "vrwkv6_tiny", "vrwkv6_small", "vrwkv6_base"};
}

Section describe(Document& document) {
  return {
      .name = "",
      .about = "Keys outside of all sections.",
      .fields = {{"task", choice(document.config.task, {"classification", "mae"}), Range::any(),
                  "What is trained: a classifier, or a masked autoencoder, see mae.md."}},
      .sections =
          {
              model_section(document),
              mae_section(document.config.mae, document.config.pictures),
              data_section(document.config.data),
              train_section(document.config.train),
              eval_section(document.config.eval),
              run_section(document.config.run),
          },
  };
}

}  // namespace vrwkv::config
