"""vrwkv-convert and the .pth files that people have. Needs PyTorch, which CI has as LibTorch's wheel."""

import argparse
import collections
import json
import subprocess
import sys
import types
import unittest
import zipfile

import torch
from cli_support import CLASSES, GOLDEN, TOOLS_PYTHON, CliTest, has_tool, main, read_safetensors, write_safetensors

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "BOOL": torch.bool,
}


def torch_tensors(path):
    tensors, metadata = read_safetensors(path)
    return {
        name: torch.frombuffer(bytearray(data), dtype=DTYPES[dtype]).reshape(shape)
        if data
        else torch.empty(shape, dtype=DTYPES[dtype])
        for name, (dtype, shape, data) in tensors.items()
    }, metadata


def foreign_object():
    """An object of a class in a module that whoever reads the file does not have: a dict with attributes, like yacs's."""
    module = types.ModuleType("no_such_module")

    class Node(dict):
        pass

    Node.__module__, Node.__qualname__ = "no_such_module", "Node"
    module.Node = Node
    sys.modules["no_such_module"] = module
    node = Node(a=1, nested=Node(b=[1, 2.5, None, (3,)]))
    node.frozen = True
    return node


class ConvertTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        torch.manual_seed(0)
        base = torch.randn(4, 6)
        cls.state = collections.OrderedDict(
            {
                "backbone.float": base,
                "backbone.double": base.double(),
                "backbone.half": base.half(),
                "backbone.bfloat16": base.bfloat16(),
                "backbone.steps": torch.tensor(7),
                "backbone.flags": base > 0,
                "backbone.transposed": base.t(),
                "backbone.slice": base[1:3, ::2],
                "backbone.expanded": base[0].expand(3, 6),
                "backbone.empty": torch.empty(0, 3),
                "head.parameter": torch.nn.Parameter(base[2]),
            }
        )
        cls.state._metadata = {"": {"version": 1}}

    def expect_state(self, path, state=None):
        tensors, _ = torch_tensors(path)
        state = state or self.state
        self.assertEqual(set(tensors), set(state))
        for name, tensor in state.items():
            self.assertEqual(tensors[name].dtype, tensor.dtype, name)
            self.assertTrue(torch.equal(tensors[name], tensor.detach()), name)

    def convert(self, saved, *flags, **options):
        source, target = self.folder / "in.pth", self.folder / "out.safetensors"
        torch.save(saved, source, **options)
        result = self.run_program("vrwkv-convert", source, target, *flags)
        self.assertIn("tensors", result.stdout)
        return target

    def test_reads_every_layout(self):
        prefixed = {f"module.{name}": tensor for name, tensor in self.state.items()}
        bare = {name.removeprefix("backbone."): t for name, t in self.state.items()}
        bare["patch_embed.projection.weight"] = self.state["backbone.float"]
        layouts = {
            "state dict": self.state,
            "published": {"meta": {"epoch": 3}, "state_dict": self.state, "optimizer": {"state": {}}},
            "timm": {"model": self.state, "model_ema": {}, "args": argparse.Namespace(lr=1e-3)},
            "data parallel": {"state_dict": prefixed},
            "foreign": {"config": foreign_object(), "state_dict": self.state, "huge": 10**40},
        }
        for name, layout in layouts.items():
            for protocol in (2, 4):
                with self.subTest(layout=name, protocol=protocol):
                    self.expect_state(self.convert(layout, pickle_protocol=protocol))
        with self.subTest(layout="without backbone."):
            tensors, _ = torch_tensors(self.convert(bare))
            self.assertIn("backbone.patch_embed.projection.weight", tensors)
            self.assertIn("head.parameter", tensors)

    def test_reads_the_moving_average(self):
        average = {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in self.state.items()}
        for key in ("model_ema", "ema_state_dict", "state_dict_ema"):
            self.expect_state(self.convert({"model": self.state, key: average}, "--weights", "ema"), average)

    def test_reads_archives_of_others(self):
        """Compressed, and with storages that lie at any byte; two tensors share one of them."""
        base = torch.arange(24.0).reshape(4, 6)
        state = {**self.state, "base": base, "turned": base.t()}
        expected = {**state, "turned": base.t().contiguous()}
        original, rewritten = self.folder / "original.pth", self.folder / "rewritten.pth"
        torch.save(state, original)
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            for name in ("archive", "archives", "an archive"):
                with zipfile.ZipFile(original) as source, zipfile.ZipFile(rewritten, "w", method) as target:
                    for item in source.infolist():
                        target.writestr(item.filename.replace("original", name, 1), source.read(item))
                self.run_program("vrwkv-convert", rewritten, self.folder / "rewritten.safetensors")
                self.expect_state(self.folder / "rewritten.safetensors", expected)

    def test_shared_storages(self):
        base = torch.arange(24.0).reshape(4, 6)
        self.expect_state(
            self.convert({"a": base, "b": base, "c": base.t()}), {"a": base, "b": base, "c": base.t().contiguous()}
        )

    def test_python_reads_what_it_writes(self):
        source = self.convert(self.state)
        target = self.folder / "back.pth"
        self.run_program("vrwkv-convert", source, target)
        read = torch.load(target, weights_only=True)
        self.assertEqual(set(read["state_dict"]), set(self.state))
        for name, tensor in self.state.items():
            self.assertEqual(read["state_dict"][name].dtype, tensor.dtype, name)
            self.assertTrue(torch.equal(read["state_dict"][name], tensor.detach()), name)

    @unittest.skipUnless(has_tool("safetensors"), "no safetensors in the tools environment: scripts/setup.sh --tools")
    def test_the_safetensors_library_reads_what_it_writes(self):
        target = self.convert(self.state)
        program = (
            "import sys, numpy; from safetensors import safe_open\n"
            "with safe_open(sys.argv[1], 'np') as file:\n"
            "    for name in file.keys():\n"
            "        if 'bfloat16' not in name:\n"
            "            print(name, file.get_tensor(name).tobytes().hex())\n"
        )
        result = subprocess.run([TOOLS_PYTHON, "-c", program, str(target)], capture_output=True, text=True, check=True)
        read = dict((line.split() + [""])[:2] for line in result.stdout.splitlines())
        self.assertEqual(set(read), {name for name in self.state if "bfloat16" not in name})
        for name, data in read.items():
            self.assertEqual(data, self.state[name].detach().contiguous().numpy().tobytes().hex(), name)

    def test_rounds_when_asked(self):
        for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            tensors, _ = torch_tensors(self.convert(self.state, "--dtype", name))
            self.assertTrue(torch.equal(tensors["backbone.double"], self.state["backbone.double"].to(dtype)))
            self.assertEqual(tensors["backbone.steps"].dtype, torch.int64)

    def test_training_checkpoints_keep_classes_and_configuration(self):
        _, state = self.golden()
        checkpoint = self.folder / "training.safetensors"
        tensors = {f"model.{name}": tensor for name, tensor in state.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
        metadata = {"classes": json.dumps(CLASSES), "config": "model: {}\n", "train_state": "{}"}
        write_safetensors(checkpoint, tensors, metadata)
        for ending in ("safetensors", "pth"):
            target = self.folder / f"weights.{ending}"
            self.run_program("vrwkv-convert", checkpoint, target)
            if ending == "pth":
                read = torch.load(target, weights_only=True)
                kept, names = read["meta"], set(read["state_dict"])
            else:
                read, kept = read_safetensors(target)
                names = set(read)
            self.assertEqual(kept, {"classes": metadata["classes"], "config": metadata["config"], "wkv": "paper"})
            self.assertEqual(names, set(state))

    def golden(self):
        tensors, _ = read_safetensors(GOLDEN / "vrwkv_pre.safetensors")
        return tensors, {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}

    def test_published_weights_are_evaluated_with_their_formula(self):
        tensors, _ = self.golden()
        source, target = self.folder / "input.safetensors", self.folder / "logits.safetensors"
        write_safetensors(source, {"input": tensors["input"]})
        paper, published = torch_tensors(GOLDEN / "vrwkv_pre.safetensors")[0], self.folder / "published.safetensors"
        self.run_program("vrwkv-convert", GOLDEN / "vrwkv_pre.pth", published)
        cases = [
            (GOLDEN / "vrwkv_pre.pth", [], "logits_official", True),
            (published, [], "logits_official", True),
            (GOLDEN / "vrwkv_pre.pth", ["model.wkv=paper"], "logits", False),
            (self.checkpoint, [], "logits", False),
            (self.checkpoint, ["model.wkv=published"], "logits_official", False),
        ]
        for checkpoint, overrides, expected, logged in cases:
            with self.subTest(checkpoint=checkpoint, overrides=overrides):
                arguments = [self.config, "--checkpoint", checkpoint, "--input", source, "--output", target]
                result = self.run_program("vrwkv-predict", *arguments, *overrides)
                self.assertEqual("weights of the public kernel" in result.stderr, logged)
                logits = torch_tensors(target)[0]["logits"].double()
                error = (logits - paper[expected]).norm() / paper[expected].norm()
                self.assertLess(error, 1e-5)

    def test_wrong_input(self):
        good, target = GOLDEN / "vrwkv_pre.pth", self.folder / "x.safetensors"
        self.fails(2, "vrwkv-convert", says=["IN is required", "--help"])
        self.fails(2, "vrwkv-convert", good, self.folder / "x.onnx", says=["must be .safetensors, .pth or .pt", "'.onnx'"])
        self.fails(2, "vrwkv-convert", "no.pth", target, says=["no.pth does not exist"])
        self.fails(2, "vrwkv-convert", self.folder, target, says=["is a folder"])
        self.fails(2, "vrwkv-convert", good, target, "--dtype", "int8", says=["--dtype"])
        self.fails(1, "vrwkv-convert", good, target, "--weights", "ema", says=["no moving average", "'meta'"])
        copy = self.folder / "same.pth"
        copy.write_bytes(good.read_bytes())
        self.fails(2, "vrwkv-convert", copy, copy, says=["is the input itself"])
        cut = self.folder / "cut.pth"
        cut.write_bytes(good.read_bytes()[:5000])
        self.fails(1, "vrwkv-convert", cut, target, says=["cut.pth", "damaged archive"])
        old = self.folder / "old.pth"
        torch.save(self.state, old, _use_new_zipfile_serialization=False)
        self.fails(1, "vrwkv-convert", old, target, says=["since PyTorch 1.6", "weights_only=True"])
        script = self.folder / "script.pth"
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(script))
        self.fails(1, "vrwkv-convert", script, target, says=["TorchScript"])
        sparse = self.folder / "sparse.pth"
        torch.save({"a": torch.eye(3).to_sparse()}, sparse)
        self.fails(1, "vrwkv-convert", sparse, target, says=["tensor 'a'", "_rebuild_sparse_tensor"])
        self.assertFalse(target.exists())

    def test_help(self):
        self.help_names_every_default("vrwkv-convert", {"IN", "OUT", "--weights", "--dtype"})


if __name__ == "__main__":
    main()
