"""vrwkv-info, run as a user runs it."""

import json

from cli_support import GOLDEN, CliTest, golden_checkpoint, main


class InfoTest(CliTest):
    def described(self, *arguments):
        return json.loads(self.run_program("vrwkv-info", *arguments, "--json", "-").stdout)

    def test_help(self):
        self.help_names_every_default(
            "vrwkv-info", ["CONFIG", "--device", "--dtype", "--size", "--depth", "--json", "key.path=value"]
        )

    def test_a_variant_beside_the_paper(self):
        text = self.run_program("vrwkv-info", "tiny", "--depth", 1).stdout
        self.assertIn("  backbone  Vrwkv             5,962,176  1,164,108,288\n", text)
        self.assertIn("input: 224 x 224 pixels, 196 tokens\nhere: 6.2M parameters, 1.2G FLOPs\n", text)
        self.assertIn("paper: VRWKV tiny, 6.2M parameters, 1.2G FLOPs\n", text)
        self.assertNotIn("patch_embed", text)
        small = self.run_program("vrwkv-info", "tiny", "--size", 32).stdout
        self.assertIn("paper: VRWKV tiny, 6.2M parameters, 1.2G FLOPs (FLOPs at 224 pixels)\n", small)

    def test_a_configuration_and_its_checkpoint_are_one_network(self):
        by_config = self.described(self.config)
        by_checkpoint = self.described(self.checkpoint, "--size", 64)
        published = self.described(GOLDEN / "vrwkv_pre.pth", "--size", 64)
        self.assertEqual(by_config["source"], str(self.config))
        for described in (by_checkpoint, published):
            del described["source"]
        del by_config["source"]
        by_config["activation_bytes"]["precision"] = by_checkpoint["activation_bytes"]["precision"]
        self.assertEqual(by_config, by_checkpoint)
        self.assertEqual(by_config, published)
        self.assertEqual((by_config["image_size"], by_config["tokens"], by_config["paper"]), (64, 16, None))

    def test_sums(self):
        def check(module):
            if module["modules"]:
                self.assertGreaterEqual(module["parameters"], sum(part["parameters"] for part in module["modules"]))
                self.assertGreaterEqual(module["flops"], sum(part["flops"] for part in module["modules"]))
            for part in module["modules"]:
                check(part)

        described = self.described(self.config, "model.num_classes=3", "--dtype", "float64")
        self.assertEqual(described["parameters"], described["modules"]["parameters"])
        check(described["modules"])
        memory = described["activation_bytes"]
        self.assertEqual(memory["precision"], "cpu, float64")
        self.assertEqual(memory["total"], memory["rest"] + (self.model["depth"] - 1) * memory["each_block"])

    def test_json_beside_the_text(self):
        out = self.folder / "info.json"
        text = self.run_program("vrwkv-info", self.config, "--json", out).stdout
        self.assertIn("kept for the backward pass, an image: ", text)
        self.assertEqual(json.loads(out.read_text())["modules"]["class"], "VrwkvClassifier")

    def test_wrong_arguments(self):
        self.fails(2, "vrwkv-info", says=["CONFIG is required"])
        self.fails(2, "vrwkv-info", "tinny", says=["tinny is no file; model variant must be one of tiny, small"])
        self.fails(2, "vrwkv-info", "none.yaml", says=["none.yaml"])
        self.fails(2, "vrwkv-info", "tiny", "--size", 100, says=["--size must be a multiple of the patch size 16"])
        self.fails(2, "vrwkv-info", "tiny", "--depth", 0, says=["integer >= 1"])
        self.fails(2, "vrwkv-info", "tiny", "--device", "gpu", says=["--device", "got 'gpu'"])
        self.fails(2, "vrwkv-info", "tiny", "model.depth=2", says=["tiny is none, got model.depth=2"])
        self.fails(2, "vrwkv-info", "tiny", "--json", "no/x.json", says=["--json: the folder of no/x.json"])
        self.fails(2, "vrwkv-info", self.folder, says=[f"{self.folder} is a folder; name a configuration"])
        self.fails(1, "vrwkv-info", self.images[0], says=[str(self.images[0])])

    def test_a_file_of_something_else(self):
        def lose_the_head(state):
            del state["head.fc.weight"]

        path = self.folder / "headless.safetensors"
        golden_checkpoint("vrwkv_pre", path, change=lose_the_head)
        self.fails(1, "vrwkv-info", path, says=["holds no VRWKV classifier: expected a tensor 'head.fc.weight'"])


if __name__ == "__main__":
    main()
