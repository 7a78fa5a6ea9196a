"""Masked autoencoding by the programs, run as a user runs them."""

import json

from cli_support import CliTest, main, read_safetensors
from png_support import read_png


class MaeTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mae = cls.write_config(
            "mae.yaml",
            task="mae",
            model={"img_size": 64, "patch_size": 16, "embed_dims": 16, "depth": 2, "shift": "single_shift"},
            mae={"decoder_embed_dims": 8, "decoder_depth": 1, "picture_every": 1, "picture_images": 2},
            train={"epochs": 2, "batch_size": 4, "log_every": 1, "optimizer": {"lr": 0.002}},
            run={"output_dir": str(cls.folder / "pretrained"), "threads": 1},
        )
        cls.trained = cls.folder / "pretrained" / "checkpoints" / "last.safetensors"
        cls("run_program").run_program("vrwkv-train", cls.mae)

    def test_training_writes_losses_and_pictures(self):
        lines = [json.loads(line) for line in (self.folder / "pretrained" / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["kind"] for line in lines].count("eval"), 2)
        for line in lines:
            self.assertIsInstance(line["loss"], float)
            self.assertNotIn("top1", line)
        for epoch in (1, 2):
            picture = self.folder / "pretrained" / "reconstructions" / f"epoch_000{epoch}.png"
            width, height, _ = read_png(picture)
            self.assertEqual((width, height), (3 * 68 + 4, 2 * 68 + 4))
        tensors, _ = read_safetensors(self.trained)
        for name in ("pos_embed", "blocks.1.att.key.weight", "mask_token", "decoder_blocks.0.ln0.weight", "ln2.bias"):
            self.assertIn("model." + name, tensors)

    def test_evaluation_reports_the_loss_of_training(self):
        lines = [json.loads(line) for line in (self.folder / "pretrained" / "metrics.jsonl").read_text().splitlines()]
        answer = self.run_program("vrwkv-eval", self.mae, "--checkpoint", self.trained, "--json", "-")
        found = json.loads(answer.stdout)
        self.assertEqual((found["images"], found["checkpoint"], found["weights"]), (20, str(self.trained), "raw"))
        self.assertAlmostEqual(found["loss"], lines[-1]["loss"], places=6)
        self.assertEqual(self.run_program("vrwkv-eval", self.mae, "--checkpoint", self.trained).stdout,
                         f"loss {found['loss']:.5f}\n")
        both = self.run_program("vrwkv-eval", self.mae, "--checkpoint", self.trained, "--checkpoint", self.trained)
        self.assertEqual(both.stdout, 2 * f"{self.trained}  loss {found['loss']:.5f}\n")

    def test_predict_reconstructs(self):
        out = self.folder / "out.png"
        self.run_program("vrwkv-predict", self.mae, "--checkpoint", self.trained, "--reconstruct", out, *self.images[:3])
        width, height, rows = read_png(out)
        self.assertEqual((width, height), (3 * 68 + 4, 3 * 68 + 4))
        self.assertEqual(rows[0], b"\xff" * 3 * width)
        broken = self.folder / "broken.png"
        broken.write_bytes(b"no image")
        arguments = ("vrwkv-predict", self.mae, "--checkpoint", self.trained, "--reconstruct", out)
        self.fails(1, *arguments, broken, self.images[0], says=["broken.png"])
        self.assertEqual(read_png(out)[1], 68 + 4)

    def test_fine_tuning_takes_the_encoder(self):
        config = self.write_config(
            "finetune.yaml",
            model={"img_size": 64, "patch_size": 16, "embed_dims": 16, "depth": 2, "num_classes": 10,
                   "init_from": str(self.trained)},
            train={"epochs": 1, "batch_size": 4, "optimizer": {"layer_decay": 0.5}},
            run={"output_dir": str(self.folder / "finetuned"), "threads": 1},
        )
        log = self.run_program("vrwkv-train", config).stderr
        self.assertRegex(log, r"loaded \(\d+\): backbone\.layers\.0\.")
        self.assertRegex(log, r"skipped, of the masked autoencoder's decoder \(\d+\): decoder_blocks\.0\.")
        self.assertIn("head initialised anew (2)", log)
        self.assertNotIn("missing in the file", log)
        self.run_program("vrwkv-eval", config, "--checkpoint",
                         self.folder / "finetuned" / "checkpoints" / "last.safetensors")

    def test_info_shows_what_the_encoder_sees(self):
        described = json.loads(self.run_program("vrwkv-info", self.mae, "--json", "-").stdout)
        self.assertEqual((described["tokens"], described["visible_tokens"]), (16, 4))
        self.assertEqual(sum(part["flops"] for part in described["modules"]["modules"]), described["flops"])
        text = self.run_program("vrwkv-info", self.mae).stdout
        self.assertIn("16 tokens, 4 of them visible", text)
        self.fails(2, "vrwkv-info", self.trained, says=["holds a masked autoencoder"])

    def test_what_does_not_go_together_is_an_error(self):
        given = (self.mae, "--checkpoint", self.trained)
        self.fails(2, "vrwkv-eval", *given, "--tta", "flip", says=["--tta is for classifiers"])
        self.fails(1, "vrwkv-eval", self.mae, "--checkpoint", self.checkpoint, says=["holds no masked autoencoder"])
        self.fails(1, "vrwkv-eval", self.config, "--checkpoint", self.trained,
                   says=["holds a masked autoencoder, not a classifier"])
        self.fails(2, "vrwkv-predict", *given, self.images[0], says=["add --reconstruct FILE.png"])
        self.fails(2, "vrwkv-predict", self.config, "--checkpoint", self.checkpoint, "--reconstruct", "out.png",
                   self.images[0], says=["--reconstruct needs a configuration with task: mae"])
        self.fails(2, "vrwkv-predict", *given, "--reconstruct", "out.png", "--top-k", 2, self.images[0],
                   says=["--reconstruct"])
        self.fails(2, "vrwkv-maps", *given, "--out", "maps.png", self.images[0], says=["this program is for classifiers"])
        self.fails(2, "vrwkv-train", self.mae, "train.label_smoothing=0.2",
                   says=["'train.label_smoothing' is set, but counts only with 'task' classification"])
        self.fails(2, "vrwkv-train", self.config, "mae.mask_ratio=0.5",
                   says=["'mae.mask_ratio' is set, but counts only with 'task' mae"])
        self.fails(2, "vrwkv-train", self.mae, "mae.mask_ratio=0.99", says=["mae.mask_ratio must be such that some of the 16 patches"],
                   lines=3)


if __name__ == "__main__":
    main()
