"""vrwkv-train's options of optimisation, through the program: each leaves its trace in the weights or the log."""

import json
import math
import os
import pathlib

from cli_support import CliTest, main, numbers, read_safetensors

CONFIG = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "configs" / "digits_vrwkv_micro.yaml"


class Training(CliTest):
    def train(self, name, *more):
        """One epoch of synthetic images; the tensors of its last checkpoint and the logged training steps."""
        folder = self.folder / name
        self.run_program(
            "vrwkv-train", CONFIG, f"run.output_dir={folder}", "run.threads=1", "data.workers=1", "model.depth=2",
            "data.train.format=synthetic", "data.train.synthetic.images=96", "data.val.format=synthetic",
            "data.val.synthetic.images=40", "data.train.synthetic.classes=10", "data.val.synthetic.classes=10",
            "train.epochs=1", "train.batch_size=32", "train.log_every=1",
            "train.schedule.warmup_epochs=0", "eval.batch_size=32", *more,
        )
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        tensors, _ = read_safetensors(folder / "checkpoints" / "last.safetensors")
        return tensors, [line for line in lines if line["kind"] == "train"], [l for l in lines if l["kind"] == "eval"]

    def difference(self, one, other, name):
        """Largest difference of a tensor between two checkpoints."""
        return max(abs(a - b) for a, b in zip(numbers(one[name]), numbers(other[name]), strict=True))

    def test_four_parts_of_eight_equal_one_batch_of_32(self):
        for optimizer in ("adamw", "lamb", "sgd"):
            with self.subTest(optimizer):
                more = [f"train.optimizer.name={optimizer}", "run.dtype=float64", "train.optimizer.lr=0.01"]
                whole, steps, _ = self.train(f"whole_{optimizer}", *more)
                parts, split, _ = self.train(f"parts_{optimizer}", *more, "train.grad_accumulation=4")
                self.assertEqual(len(steps), 3)
                for one, other in zip(steps, split, strict=True):
                    self.assertAlmostEqual(one["loss"], other["loss"], delta=1e-9)
                    self.assertAlmostEqual(one["grad_norm"], other["grad_norm"], delta=1e-9)
                for name in whole:
                    if name.startswith("model."):
                        self.assertLess(self.difference(whole, parts, name), 1e-8, name)

    def test_every_option_changes_the_weights(self):
        """One that were accepted and ignored would give the plain run's weights."""
        name = "model.backbone.layers.1.ffn.key.weight"
        plain, _, _ = self.train("plain")
        sgd, _, _ = self.train("sgd", "train.optimizer.name=sgd")
        lamb, _, _ = self.train("lamb", "train.optimizer.name=lamb")
        bce, _, _ = self.train("bce", "train.loss.name=bce")
        base = {"": plain, "train.optimizer.name=sgd": sgd, "train.optimizer.name=lamb": lamb, "train.loss.name=bce": bce}
        options = {
            "": ["train.optimizer.lr=1e-3", "train.optimizer.weight_decay=1", "train.optimizer.betas=[0.8,0.9]",
                 "train.optimizer.eps=0.1", "train.optimizer.layer_decay=0.5",
                 "train.schedule.policy=linear", "train.schedule.warmup_steps=2", "train.schedule.min_lr_ratio=0.5",
                 "train.label_smoothing=0.3", "train.clip_grad_norm=0.01", "model.drop_path_rate=0.5", "run.seed=1",
                 "run.dtype=bfloat16", "run.dtype=float16"],
            "train.optimizer.name=sgd": ["train.optimizer.momentum=0.5", "train.optimizer.nesterov=true"],
            "train.optimizer.name=lamb": ["train.optimizer.weight_decay=1", "train.optimizer.eps=0.1"],
            "train.loss.name=bce": ["train.loss.bce_threshold=0.2", "train.loss.bce_sum=true"],
        }
        for number, (start, changes) in enumerate(options.items()):
            self.assertTrue(start == "" or self.difference(plain, base[start], name) > 0, start)
            for i, change in enumerate(changes):
                with self.subTest(start + " " + change):
                    changed, _, _ = self.train(f"change_{number}_{i}", *([start] if start else []), change)
                    self.assertGreater(self.difference(base[start], changed, name), 0)

    def test_images_grow(self):
        """16 pixels at last, 8 at first: resumed in the middle, the run is the same."""
        more = ["train.epochs=4", "data.train_transform.progressive.start_size=8",
                "data.train_transform.progressive.growth_epochs=3"]
        full, _, _ = self.train("full_size", "train.epochs=4")
        grown, steps, _ = self.train("grown", *more)
        self.assertGreater(self.difference(full, grown, "model.head.fc.weight"), 0)
        self.train("resumed", *more, "train.epochs=2", "train.schedule.policy=constant")
        again, _, _ = self.train("resumed", *more, "train.schedule.policy=constant", "--resume")
        constant, _, _ = self.train("constant", *more, "train.schedule.policy=constant")
        self.assertEqual(again["model.head.fc.weight"], constant["model.head.fc.weight"])

    def test_decay_rules_differ_in_what_has_one_dimension(self):
        by_name, _, _ = self.train("norm_bias", "model.init_values=1", "train.optimizer.weight_decay=1")
        by_shape, _, _ = self.train("layer_wise", "model.init_values=1", "train.optimizer.weight_decay=1",
                                    "train.optimizer.decay_rule=layer_wise")
        self.assertGreater(self.difference(by_name, by_shape, "model.backbone.layers.0.gamma1"), 0)

    def test_half_precisions_follow_float32(self):
        _, exact, _ = self.train("float32")
        for dtype in ("bfloat16", "float16"):
            tensors, steps, _ = self.train(dtype, f"run.dtype={dtype}")
            for one, other in zip(exact, steps, strict=True):
                self.assertAlmostEqual(one["loss"], other["loss"], delta=0.05 * one["loss"])
            self.assertEqual("loss_scale.scale" in tensors, dtype == "float16")
            self.assertEqual(tensors["model.head.fc.weight"][0], "F32")

    def test_moving_average_is_evaluated_by_name(self):
        tensors, _, evaluations = self.train("ema", "train.ema.enabled=true", "train.ema.decay=0.5")
        self.assertNotEqual(tensors["ema.head.fc.weight"], tensors["model.head.fc.weight"])
        checkpoint = self.folder / "ema" / "checkpoints" / "last.safetensors"
        config = self.folder / "ema" / "config.yaml"
        found = {}
        for which in ("raw", "ema"):
            output = self.folder / f"{which}.json"
            self.run_program("vrwkv-eval", config, "--checkpoint", checkpoint, "--weights", which, "--json", output)
            found[which] = json.loads(output.read_text())["loss"]
        self.assertTrue(math.isclose(found["raw"], evaluations[-1]["loss"], rel_tol=1e-5))
        self.assertTrue(math.isclose(found["ema"], evaluations[-1]["ema_loss"], rel_tol=1e-5))
        self.assertNotEqual(found["raw"], found["ema"])
        self.train("plain_run")
        plain = self.folder / "plain_run" / "checkpoints" / "last.safetensors"
        self.fails(1, "vrwkv-eval", config, "--checkpoint", plain, "--weights", "ema", says=["no averaged weights"])
        self.fails(2, "vrwkv-eval", config, "--checkpoint", plain, "--weights", "mean", says=["--weights"])


if __name__ == "__main__":
    main()
