"""Every shipped configuration trains two steps on synthetic images; given weights go from one configuration to another.

On the CPU: wide models have two blocks and fewer classes here, so that the test stays short.
"""

import json
import os
import pathlib

from cli_support import CliTest, main, read_safetensors

CONFIGS = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "configs"
# Each with what keeps it small; the second of a pair takes its weights from the first.
SHAPES = {
    "digits_vrwkv_micro": [],
    "cifar10_vrwkv_tiny": ["model.depth=2"],
    "imagenet_1k": ["model.depth=2"],
    "vrwkv_tiny_in1k": [],
    "cifar10_full_recipe": ["model.depth=2"],
    "finetune_digits": ["model.depth=2"],
    "finetune_example": [],
    "vrwkv_small_in1k": ["model.depth=3"],
    "vrwkv_base_in1k": ["model.depth=2"],
    "vrwkv6_tiny_in1k": ["model.depth=3"],
    "vrwkv6_small_in1k": ["model.depth=2"],
    "vrwkv6_base_in1k": ["model.depth=2"],
    "vrwkv_base_mae_in1k": ["model.depth=2", "mae.decoder_depth=1"],
    "vrwkv_base_finetune_mae": ["model.depth=2"],
    "cifar10_mae_tiny": ["model.depth=2"],
    "cifar10_finetune_mae_tiny": ["model.depth=2"],
    "vrwkv_large_in22k_192": ["model.depth=2", "model.num_classes=1200"],
    "vrwkv_large_22kto1k_384": ["model.depth=2"],
}
INITIAL = {"finetune_digits": "cifar10_full_recipe", "finetune_example": "vrwkv_tiny_in1k", "vrwkv_large_22kto1k_384": "vrwkv_large_in22k_192",
           "vrwkv_base_finetune_mae": "vrwkv_base_mae_in1k", "cifar10_finetune_mae_tiny": "cifar10_mae_tiny"}


class ShippedConfigs(CliTest):
    def train(self, name, *more, **options):
        size = 32 if "micro" in name or "cifar" in name or "digits" in name else 64
        synthetic = [
            f"data.{part}.{key}"
            for part in ("train", "val")
            for key in ("format=synthetic", "synthetic.images=4", "synthetic.classes=4", f"synthetic.size={size}")
        ]
        return self.run_program(
            "vrwkv-train", CONFIGS / f"{name}.yaml", f"run.output_dir={self.folder / name}", "run.threads=1",
            "data.workers=1", "run.dtype=float32", "train.epochs=1", "train.batch_size=2", "train.micro_batch_size=0",
            "train.schedule.warmup_epochs=0", "train.log_every=1", "train.keep_checkpoints=0", "eval.batch_size=2",
            *synthetic, *SHAPES[name], *more, **options,
        )

    def last(self, name):
        return self.folder / name / "checkpoints" / "last.safetensors"

    def test_each_trains_two_steps(self):
        self.assertEqual({path.stem for path in CONFIGS.glob("*.yaml")}, set(SHAPES))
        for name in SHAPES:
            with self.subTest(name):
                initial = [f"model.init_from={self.last(INITIAL[name])}"] if name in INITIAL else []
                result = self.train(name, *initial)
                if name == "finetune_example":
                    for text in (result.stderr, (self.folder / name / "train.log").read_text()):
                        self.assertRegex(text, r"frozen: \d+ of \d+ parameters")
                lines = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
                losses = [line["loss"] for line in lines if line["kind"] == "train"]
                self.assertEqual(len(losses), 2)
                for line in lines:
                    self.assertIsInstance(line["loss"], float)  # null: not finite
        self.check_report()
        self.check_frozen()

    def check_report(self):
        log = (self.folder / "vrwkv_large_22kto1k_384" / "train.log").read_text()
        self.assertIn("resized to another grid (1): backbone.pos_embed", log)
        self.assertIn("head initialised anew (2): head.2.bias, head.2.weight", log)
        log = (self.folder / "vrwkv_base_finetune_mae" / "train.log").read_text()
        self.assertRegex(log, r"loaded \(\d+\): backbone\.layers\.0\.att\.key\.weight")
        self.assertIn("head initialised anew (2): head.fc.bias, head.fc.weight", log)
        self.assertRegex(log, r"skipped, of the masked autoencoder's decoder \(\d+\): decoder_blocks\.0\.")
        self.assertNotIn("missing in the file", log)
        self.assertNotIn("unexpected in the file", log)
        log = (self.folder / "finetune_example" / "train.log").read_text()
        self.assertIn("head initialised anew (2): head.fc.bias, head.fc.weight", log)

    def check_frozen(self):
        """Frozen parameters are the file's to the last bit, the others have moved."""
        before, _ = read_safetensors(self.last("vrwkv_tiny_in1k"))
        after, _ = read_safetensors(self.last("finetune_example"))
        for name in ("backbone.pos_embed", "backbone.patch_embed.projection.weight", "backbone.layers.0.att.key.weight"):
            self.assertEqual(before["model." + name], after["model." + name], name)
            self.assertNotIn("optimizer.exp_avg." + name, after)
        name = "backbone.layers.1.att.key.weight"
        self.assertNotEqual(before["model." + name], after["model." + name])

    def test_resuming_wins_over_given_weights(self):
        name = "digits_vrwkv_micro"
        run = f"run.output_dir={self.folder / 'resumed'}"
        self.train(name, run)
        # The file is not there any more, and is not needed.
        self.train(name, run, "model.init_from=gone.safetensors", "--resume")

    def test_wrong_weights_are_errors(self):
        self.fails_with("digits_vrwkv_micro", 2, "there is no file gone.safetensors", "model.init_from=gone.safetensors")
        self.fails_with("digits_vrwkv_micro", 1, "backbone.patch_embed.projection.weight: the model has shape",
                        f"model.init_from={self.checkpoint}")
        self.fails_with("digits_vrwkv_micro", 2, "did you mean 'head.fc.*'?", "train.freeze=[head.fcc.*]")

    def fails_with(self, name, code, says, *more):
        result = self.train(name, f"run.output_dir={self.folder / 'failed'}", *more, code=code)
        self.assertIn(says, result.stderr)

    def test_synthetic_flag_replaces_the_data(self):
        folder = self.folder / "flag"
        self.run_program(
            "vrwkv-train", CONFIGS / "digits_vrwkv_micro.yaml", "--synthetic", f"run.output_dir={folder}",
            "data.train.path=nowhere", "train.epochs=2", "train.batch_size=64", "eval.batch_size=64", "run.threads=1",
        )
        last = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-1]
        self.assertEqual(last["kind"], "eval")
        self.assertEqual(last["images"], 1024)
        self.assertGreater(last["top1"], 50)  # Chance: 10.
        folder = self.folder / "fewer"
        self.run_program(
            "vrwkv-train", CONFIGS / "digits_vrwkv_micro.yaml", "--synthetic", f"run.output_dir={folder}",
            "data.val.synthetic.images=7", "train.epochs=1", "train.batch_size=256", "run.threads=1",
        )
        last = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-1]
        self.assertEqual(last["images"], 7)


if __name__ == "__main__":
    main()
