"""vrwkv-export: what it writes runs in PyTorch, in a C++ program of its own and in ONNX Runtime, and computes the same."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

import numpy
import torch
from cli_support import (
    BIN,
    CLASSES,
    GOLDEN,
    TOOLS_PYTHON,
    CliTest,
    golden_checkpoint,
    has_tool,
    main,
    numbers,
    read_safetensors,
    write_safetensors,
)

SOURCE = pathlib.Path(os.environ["VRWKV_SOURCE"])
OPS = os.environ["VRWKV_OPS"]
EXAMPLES = SOURCE / "docs" / "examples"
HAS_ONNX = has_tool("onnx", "onnxruntime")
needs_onnx = unittest.skipUnless(HAS_ONNX, "no onnx and onnxruntime in the tools environment: scripts/setup.sh --tools")

# Checks the model, runs it on a file of numbers, prints metadata and logits.
ONNX_RUN = """
import json, sys, numpy, onnx, onnxruntime
onnx.checker.check_model(sys.argv[1], full_check=True)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = numpy.load(sys.argv[2])
print(json.dumps({"logits": session.run(["logits"], {"images": images})[0].tolist(),
                  "metadata": session.get_modelmeta().custom_metadata_map,
                  "domains": [o.domain for o in onnx.load(sys.argv[1]).opset_import]}))
"""


def golden_tensor(tensors, name):
    return torch.tensor(list(numbers(tensors[name]))).reshape(tensors[name][1]).float()


class ExportTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        torch.ops.load_library(OPS)

    def config_of(self, model, name):
        return self.write_config(f"{name}.yaml", model=model)

    def export(self, config, checkpoint, name, *flags):
        output = self.folder / name
        result = self.run_program("vrwkv-export", config, output, "--checkpoint", checkpoint, *flags)
        self.assertIn(f"{output}: images [any, 3, ", result.stdout)
        return output

    def script(self, path, images):
        extra = {"config": "", "classes": "", "preprocessing": ""}
        model = torch.jit.load(str(path), _extra_files=extra)
        with torch.inference_mode():
            return model(images), extra

    def onnx(self, path, images):
        numpy.save(self.folder / "images.npy", images.numpy())
        result = subprocess.run([TOOLS_PYTHON, "-c", ONNX_RUN, str(path), str(self.folder / "images.npy")], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["domains"], [""])  # Standard operators alone.
        return torch.tensor(report["logits"]), report["metadata"]

    def close(self, actual, expected, tolerance=1e-5):
        self.assertEqual(actual.shape, expected.shape)
        self.assertLess((actual - expected).abs().max().item(), tolerance * max(1, expected.abs().max().item()))

    def golden(self, name, check):
        """Calls check(config, checkpoint, flags, input, expected) for both formulas of Bi-WKV."""
        tensors, _ = read_safetensors(GOLDEN / f"{name}.safetensors")
        checkpoint = self.folder / f"{name}.safetensors"
        model = golden_checkpoint(name, checkpoint)
        images = golden_tensor(tensors, "input")
        size = "x".join(map(str, images.shape[2:]))
        for wkv, key in (("paper", "logits"), ("published", "logits_official")):
            with self.subTest(f"{name} {wkv}"):
                config = self.config_of({**model, "wkv": wkv}, f"{name}_{wkv}")
                check(config, checkpoint, ["--size", size], images, golden_tensor(tensors, key))

    def test_torchscript_gives_the_golden_logits(self):
        def check(config, checkpoint, flags, images, expected):
            path = self.export(config, checkpoint, "golden.pt", *flags)
            logits, _ = self.script(path, images)
            self.close(logits, expected)
            for batch in (1, 5):
                repeated = images[:1].expand(batch, -1, -1, -1)
                self.close(self.script(path, repeated)[0], expected[:1].expand(batch, -1))

        for name in ("vrwkv_pre", "vrwkv_post", "vrwkv_l_like"):
            self.golden(name, check)

    @needs_onnx
    def test_onnx_gives_the_golden_logits(self):
        def check(config, checkpoint, flags, images, expected):
            path = self.export(config, checkpoint, "golden.onnx", *flags)
            self.close(self.onnx(path, images)[0], expected)
            self.close(self.onnx(path, images[1:])[0], expected[1:])

        for name in ("vrwkv_pre", "vrwkv_post", "vrwkv_l_like"):
            self.golden(name, check)

    def many_tokens(self, wkv):
        """A checkpoint with small patches, decays of all sizes and large keys: 18 x 10 tokens, chunks of six."""
        tensors, _ = read_safetensors(GOLDEN / "vrwkv_pre.safetensors")
        generator = torch.Generator().manual_seed(3)
        state = {}
        for name, tensor in tensors.items():
            if not name.startswith("state."):
                continue
            name, value = name[len("state.") :], golden_tensor(tensors, name)
            if name == "backbone.patch_embed.projection.weight":
                value = torch.randn(64, 3, 4, 4, generator=generator) / 5
            elif name == "backbone.pos_embed":
                value = torch.randn(1, 256, 64, generator=generator)
            elif name.endswith("spatial_decay"):
                value = torch.linspace(-5, 30, 64)
            elif name.endswith("spatial_first"):
                value = torch.linspace(-90, 90, 64)
            elif name.endswith("att.key.weight"):
                value = torch.randn(64, 64, generator=generator)
            state[name] = ("F32", list(value.shape), value.contiguous().numpy().tobytes())
        checkpoint = self.folder / "many.safetensors"
        write_safetensors(checkpoint, state)
        config = self.config_of({**self.model, "patch_size": 4, "wkv": wkv}, f"many_{wkv}")
        return config, checkpoint, torch.randn(3, 3, 72, 40, generator=generator)

    @needs_onnx
    def test_onnx_computes_what_torchscript_does_for_many_tokens(self):
        for wkv in ("paper", "published"):
            with self.subTest(wkv):
                config, checkpoint, images = self.many_tokens(wkv)
                script = self.export(config, checkpoint, "many.pt", "--size", "72x40")
                exact = self.export(config, checkpoint, "many64.pt", "--size", "72x40", "--dtype", "float64")
                onnx = self.export(config, checkpoint, "many.onnx", "--size", "72x40")
                expected = self.script(exact, images.double())[0].float()
                self.close(self.script(script, images)[0], expected)
                self.close(self.onnx(onnx, images)[0], expected)

    def test_another_precision(self):
        single, _ = self.script(self.export(self.config, self.checkpoint, "single.pt"), torch.ones(2, 3, 64, 64))
        rounded, _ = self.script(self.export(self.config, self.checkpoint, "rounded.pt", "--dtype", "bfloat16"), torch.ones(2, 3, 64, 64))
        self.assertFalse(torch.equal(single, rounded.float()))
        self.close(rounded.float(), single, 3e-2)
        self.fails(2, "vrwkv-export", self.config, "x.onnx", "--checkpoint", self.checkpoint, "--dtype", "bfloat16", says=["written in float32"])

    @needs_onnx
    def test_metadata(self):
        images = torch.zeros(1, 3, 64, 64)
        _, script = self.script(self.export(self.config, self.checkpoint, "meta.pt"), images)
        script = {key: value.decode() for key, value in script.items()}
        _, onnx = self.onnx(self.export(self.config, self.checkpoint, "meta.onnx"), images)
        self.assertEqual(script, onnx)
        self.assertEqual(json.loads(onnx["classes"]), CLASSES)
        self.assertIn("embed_dims: 64", onnx["config"])
        steps = json.loads(onnx["preprocessing"])
        self.assertEqual((steps["height"], steps["width"]), (64, 64))
        self.assertEqual(steps["mean"], [123.675, 116.28, 103.53])

    def test_the_examples_of_the_documentation(self):
        exported = self.export(self.config, self.checkpoint, "example.pt")
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
        (self.folder / "image.bin").write_bytes(images.numpy().tobytes())
        values, classes = self.script(exported, images)[0].softmax(1)[0].topk(5)
        commands = [
            [sys.executable, str(EXAMPLES / "run_exported.py"), str(exported), OPS, "image.bin"],
            [str(BIN / "run_exported"), str(exported), OPS, "image.bin"],
        ]
        if HAS_ONNX:
            onnx = self.export(self.config, self.checkpoint, "example.onnx")
            commands.append([TOOLS_PYTHON, str(EXAMPLES / "run_onnx.py"), str(onnx), "image.bin"])
        for command in commands:
            result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = [line.split() for line in result.stdout.splitlines()]
            self.assertEqual([int(line[0]) for line in lines], classes.tolist(), command)
            for line, value in zip(lines, values.tolist(), strict=True):
                self.assertAlmostEqual(float(line[1]), value, delta=1e-5)

    def test_vrwkv6(self):
        tensors, _ = read_safetensors(GOLDEN / "vrwkv6.safetensors")
        checkpoint = self.folder / "vrwkv6.safetensors"
        model = golden_checkpoint("vrwkv6", checkpoint)
        model.pop("num_heads")
        config = self.config_of({**model, "attention": "bi_wkv6"}, "vrwkv6")
        images = golden_tensor(tensors, "input")
        expected = golden_tensor(tensors, "logits")
        path = self.export(config, checkpoint, "vrwkv6.pt")
        self.close(self.script(path, images)[0], expected)
        self.close(self.script(path, images[:1])[0], expected[:1])
        self.fails(2, "vrwkv-export", config, "x.onnx", "--checkpoint", checkpoint, says=["bi_wkv", "export to a .pt file instead"])
        self.assertFalse((self.folder / "x.onnx").exists())

    def test_mistakes(self):
        def fails(code, *arguments, says):
            self.fails(code, "vrwkv-export", self.config, *arguments, says=says)

        fails(2, "x.pth", "--checkpoint", self.checkpoint, says=["OUT must end in .pt (TorchScript) or .onnx, got x.pth"])
        fails(2, "x.pt", "--checkpoint", "none.pth", says=["none.pth does not exist"])
        fails(2, "x.pt", "--checkpoint", self.checkpoint, "--size", "70", says=["multiples of model.patch_size (16), got 70"])
        fails(2, "x.pt", "--checkpoint", self.checkpoint, "--size", "4x", says=["N or HxW", "got 4x"])
        fails(2, "no/such/folder/x.pt", "--checkpoint", self.checkpoint, says=["no/such/folder"])
        fails(2, "x.pt", "--checkpoint", self.checkpoint, "model.num_classes=3", says=["3", "10"])
        self.assertFalse((self.folder / "x.pt").exists())
        self.help_names_every_default("vrwkv-export", ["CONFIG", "OUT", "--checkpoint", "--weights", "--dtype", "--size", "key.path=value"])


if __name__ == "__main__":
    main()
