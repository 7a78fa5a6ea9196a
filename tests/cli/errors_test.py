"""Bad input: exit codes, and one readable line on stderr, for every program that reads a configuration."""

import json
import shutil
import subprocess

from cli_support import CLASSES, CliTest, golden_checkpoint, main, read_safetensors, write_png, write_safetensors


class ConfigErrorsTest(CliTest):
    """What all three programs do alike."""

    def commands(self, config):
        yield ["vrwkv-eval", config, "--checkpoint", self.checkpoint]
        yield ["vrwkv-predict", config, "--checkpoint", self.checkpoint, self.images[0]]
        yield ["vrwkv-train", config]

    def all_fail(self, *extra, config=None, says=(), code=2):
        for command in self.commands(config or self.config):
            with self.subTest(program=command[0], extra=extra):
                self.fails(code, *command, *extra, says=says)

    def test_missing_configuration(self):
        self.all_fail(config="no/such/config.yaml", says=["no/such/config.yaml"])

    def test_no_arguments(self):
        for program in ("vrwkv-eval", "vrwkv-predict", "vrwkv-train"):
            self.fails(2, program, says=["CONFIG is required", "--help"])

    def test_unknown_key_with_the_near_name(self):
        config = self.folder / "unknown.yaml"
        config.write_text("data:\n  workrs: 2\n")
        self.all_fail(config=config, says=["unknown.yaml:2: ", "'data.workrs'", "did you mean 'workers'"])
        self.all_fail("train.epoch=3", says=["command line: ", "'train.epoch'", "did you mean 'epochs'"])

    def test_wrong_type(self):
        config = self.folder / "type.yaml"
        config.write_text("train:\n  epochs: many\n")
        self.all_fail(config=config, says=["type.yaml:2: ", "train.epochs", "many"])

    def test_every_problem_of_a_file_is_told(self):
        config = self.folder / "several.yaml"
        config.write_text("train:\n  epochs: many\n  lr: 1\n")
        self.fails(2, "vrwkv-eval", config, "--checkpoint", self.checkpoint, lines=2, says=["yaml:2:", "yaml:3:"])

    def test_not_yaml(self):
        config = self.folder / "broken.yaml"
        config.write_text("train: [1, 2\n")
        self.all_fail(config=config, says=["broken.yaml:"])

    def test_image_size_that_the_patch_does_not_divide(self):
        self.all_fail("data.eval_transform.size=60", says=["data.eval_transform.size", "60", "(16)"])

    def test_cuda_asked_for_and_absent(self):
        self.all_fail("--device", "cuda", says=["device 'cuda' was asked for", "--device cpu"])
        self.all_fail("--device", "cuda:7", says=["device 'cuda:7' was asked for"])
        self.all_fail("run.device=cuda", says=["device 'cuda' was asked for"])

    def test_values_of_flags(self):
        self.all_fail("--device", "gpu", says=["--device: must be cpu, cuda, cuda:N or auto, got 'gpu'"])
        self.all_fail("--dtype", "half", says=["--dtype: must be float64, float32, bfloat16 or float16, got 'half'"])
        self.all_fail("--devise", "cpu", says=["unknown flag '--devise' (did you mean '--device'?)"])


class EvalErrorsTest(CliTest):
    def evaluate_fails(self, code, *extra, checkpoint=None, says=(), **options):
        return self.fails(
            code, "vrwkv-eval", self.config, "--checkpoint", checkpoint or self.checkpoint, *extra, says=says, **options
        )

    def test_missing_checkpoint(self):
        self.evaluate_fails(2, checkpoint="none.safetensors", says=["none.safetensors does not exist"])
        self.evaluate_fails(2, checkpoint=self.folder, says=["is a folder"])
        self.fails(2, "vrwkv-eval", self.config, says=["--checkpoint is required"])

    def test_truncated_checkpoint(self):
        whole = self.checkpoint.read_bytes()
        cut = self.folder / "cut.safetensors"
        for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
            cut.write_bytes(whole[:size])
            with self.subTest(size=size):
                self.evaluate_fails(1, checkpoint=cut, says=[str(cut)])

    def test_something_else_than_a_checkpoint(self):
        self.evaluate_fails(1, checkpoint=self.images[0], says=[str(self.images[0])])
        pickle = self.folder / "model.pth"
        pickle.write_bytes(b"PK\x03\x04" + bytes(100))
        self.evaluate_fails(1, checkpoint=pickle, says=[".pth"])

    def test_wrong_shape_lists_every_key(self):
        def change(state):
            state["backbone.layers.1.ln1.weigth"] = state.pop("backbone.layers.1.ln1.weight")
            dtype, _, data = state["backbone.pos_embed"]
            state["backbone.pos_embed"] = (dtype, [1, 4, 64], data[: 4 * 4 * 64])

        checkpoint = self.folder / "shape.safetensors"
        golden_checkpoint("vrwkv_pre", checkpoint, change=change)
        message = self.evaluate_fails(
            1,
            checkpoint=checkpoint,
            says=[
                "missing backbone.layers.1.ln1.weight",
                "unexpected backbone.layers.1.ln1.weigth",
                "backbone.pos_embed: the model has shape [1, 16, 64], the file [1, 4, 64]",
                str(checkpoint),
            ],
        )
        self.assertEqual(len(message.splitlines()), 4)

    def test_every_tensor_of_another_model_is_listed(self):
        message = self.evaluate_fails(1, "model.embed_dims=32")
        names = set(read_safetensors(self.checkpoint)[0])
        for name in names:
            # Biases of the head are the only tensors without a channel dimension.
            if name != "head.fc.bias":
                self.assertIn(f" {name}", message)

    def test_missing_and_empty_data(self):
        self.evaluate_fails(2, "data.val.path=no/such/folder", says=["no/such/folder"])
        empty = self.folder / "empty"
        empty.mkdir()
        self.evaluate_fails(2, f"data.val.path={empty}", says=[str(empty), "empty"])
        (empty / "class_0").mkdir()
        self.evaluate_fails(2, f"data.val.path={empty}", says=[str(empty), "class_0"])
        self.evaluate_fails(2, 'data.val.path=""', says=["path"])

    def test_class_counts(self):
        fewer = self.folder / "nine"
        shutil.copytree(self.folder / "val", fewer)
        shutil.rmtree(fewer / CLASSES[4])
        three = "data.val has 9 classes, the configuration 10 (model.num_classes), the checkpoint's head 10"
        self.evaluate_fails(2, f"data.val.path={fewer}", says=[three])
        three = "data.val has 10 classes, the configuration 12 (model.num_classes), the checkpoint's head 10"
        self.evaluate_fails(2, "model.num_classes=12", says=[three])

    def test_class_names(self):
        checkpoint = self.folder / "names.safetensors"
        names = CLASSES[:3] + ["zebra"] + CLASSES[4:]
        golden_checkpoint("vrwkv_pre", checkpoint, {"classes": json.dumps(names)})
        self.evaluate_fails(2, checkpoint=checkpoint, says=["class 3 of data.val is 'class_3'", "'zebra'"])

    def test_corrupt_image(self):
        data = self.folder / "corrupt"
        shutil.copytree(self.folder / "val", data)
        broken = data / CLASSES[2] / "2_1.png"
        broken.write_bytes(broken.read_bytes()[:60])
        self.evaluate_fails(1, f"data.val.path={data}", says=[str(broken)])

    def test_report_that_cannot_be_written(self):
        self.evaluate_fails(2, "--json", "no/such/folder/report.json", says=["--json: the folder of", "does not exist"])
        self.evaluate_fails(2, "--json", self.folder, says=["is a folder"])


class TrainErrorsTest(CliTest):
    def train_fails(self, code, *extra, says=()):
        return self.fails(code, "vrwkv-train", self.config, *extra, says=says)

    def test_help(self):
        self.help_names_every_default("vrwkv-train", ["CONFIG", "key.path=value", "--device", "--dtype", "--resume", "--synthetic"])

    def test_data(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.train_fails(2, f"data.train.path={empty}", says=[str(empty), "empty"])
        self.train_fails(2, "data.train.path=no/such.tar", says=["no/such.tar"])
        self.train_fails(2, "data.val.path=no/such.tar", says=["no/such.tar"])
        self.train_fails(2, "model.num_classes=12", says=["data.train has 10 classes, the configuration 12"])

    def test_resume_from_a_missing_file(self):
        self.train_fails(2, "--resume=no/such.safetensors", says=["no/such.safetensors"])

    def test_nothing_is_left_behind(self):
        self.train_fails(2, "data.train.path=no/such.tar")
        self.assertFalse((self.folder / "run" / "checkpoints" / "last.safetensors").exists())


if __name__ == "__main__":
    main()
