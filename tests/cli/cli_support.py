"""What the tests of the executables share. Only Python's standard library; configurations are JSON, which is YAML too.

Environment: VRWKV_BIN, the folder of the executables; VRWKV_SOURCE, the root of the repository.
"""

import array
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import tempfile
import unittest
import zlib

BIN = pathlib.Path(os.environ["VRWKV_BIN"])
GOLDEN = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "tests" / "golden"
CLASSES = [f"class_{i}" for i in range(10)]
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d (debug|info|warning|error) ")
TRACES = ("frame #", "terminate", "what():", "Aborted", "Exception raised from", "AddressSanitizer", "runtime error:")


CACHE = os.environ.get("VRWKV_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "vrwkv"
)
# Of the libraries that tests compare with; see scripts/setup.sh --tools.
TOOLS_PYTHON = os.path.join(CACHE, "tools", "bin", "python")


def has_tool(*modules):
    """Whether the tools environment has all these modules."""
    if not os.path.exists(TOOLS_PYTHON):
        return False
    return subprocess.run([TOOLS_PYTHON, "-c", "import " + ", ".join(modules)], capture_output=True).returncode == 0


def read_safetensors(path):
    """(tensors, metadata); a tensor is (dtype, shape, bytes)."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    body = data[8 + size :]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], body[begin:end])
    return tensors, metadata


def write_safetensors(path, tensors, metadata=None):
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def numbers(tensor):
    dtype, _, data = tensor
    return array.array({"F32": "f", "F64": "d", "I64": "q"}[dtype], data)


def write_png(path, width, height, seed):
    """Noise over a colour that the seed chooses."""
    noise = random.Random(seed)
    base = [noise.randrange(200) for _ in range(3)]
    rows = b"".join(
        b"\0" + bytes(base[i % 3] + noise.randrange(56) for i in range(3 * width)) for _ in range(height)
    )
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def golden_checkpoint(name, path, metadata=None, change=None):
    """Writes a golden model's weights as a checkpoint and returns the section `model` of its configuration."""
    tensors, golden_metadata = read_safetensors(GOLDEN / f"{name}.safetensors")
    state = {key[len("state.") :]: value for key, value in tensors.items() if key.startswith("state.")}
    if change:
        change(state)
    write_safetensors(path, state, metadata)
    config = json.loads(golden_metadata["config"])
    return {key: value for key, value in config.items() if key not in ("type", "input_hw")}


class CliTest(unittest.TestCase):
    """A folder with a checkpoint of ten classes, a configuration and twenty images to evaluate."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="vrwkv_cli_")
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.checkpoint = cls.folder / "model.safetensors"
        cls.model = golden_checkpoint("vrwkv_pre", cls.checkpoint, {"classes": json.dumps(CLASSES)})
        cls.images = []
        for label, name in enumerate(CLASSES):
            for i in range(2):
                path = cls.folder / "val" / name / f"{label}_{i}.png"
                write_png(path, 70 + label, 90, seed=10 * label + i)
                cls.images.append(path)
        cls.config = cls.write_config("config.yaml")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def write_config(cls, file, **sections):
        config = {
            "model": cls.model,
            "data": {
                "train": {"path": str(cls.folder / "val")},
                "val": {"path": str(cls.folder / "val")},
                "train_transform": {"size": 64},
                "eval_transform": {"resize": 64, "size": 64},
                "workers": 1,
            },
            "train": {"epochs": 1, "batch_size": 4},
            "run": {"output_dir": str(cls.folder / "run"), "threads": 1},
        }
        for section, values in sections.items():
            config[section] = values
        path = cls.folder / file
        path.write_text(json.dumps(config, indent=1))
        return path

    def run_program(self, program, *arguments, code=0, stdout=subprocess.PIPE):
        """Runs without GPUs, checks the exit code and that no stack trace comes out."""
        environment = dict(os.environ, CUDA_VISIBLE_DEVICES="")
        result = subprocess.run(
            [str(BIN / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=300,
        )
        self.assertEqual(result.returncode, code, f"{program} {arguments}\n{result.stdout}\n{result.stderr}")
        for trace in TRACES:
            self.assertNotIn(trace, result.stderr)
        return result

    def fails(self, code, program, *arguments, says=(), stdout=subprocess.PIPE, lines=1):
        """Runs a program that must fail: with `code`, and `lines` lines `program: error: …` that hold `says`.

        Indented lines may follow (lists of tensors), log lines come before. Returns the whole message.
        """
        result = self.run_program(program, *arguments, code=code, stdout=stdout)
        printed = [line for line in result.stderr.splitlines() if not LOG_LINE.match(line)]
        starts = [line for line in printed if not line.startswith(" ")]
        for line in starts:
            self.assertTrue(line.startswith(f"{program}: error: "), result.stderr)
        self.assertEqual(len(starts), lines, result.stderr)
        self.assertTrue(printed and not printed[0].startswith(" "), result.stderr)
        for text in says:
            self.assertIn(text, result.stderr)
        return "\n".join(printed)

    def help_names_every_default(self, program, flags):
        """Checks that --help describes exactly `flags`, each with its default, or as required."""
        text = self.run_program(program, "--help").stdout
        blocks = re.split(r"\n(?=  \S)", text)
        described = {}
        for block in blocks:
            block = block.split("\n\n")[0]
            name = re.match(r"  (?:-\w,)?(--[\w-]+|[\w.=]+)", block)
            if name:
                described[name.group(1)] = " ".join(block.split())
        self.assertEqual(set(described), set(flags) | {"--help", "--version"}, text)
        for name in flags:
            self.assertRegex(described[name], r"\[(default: .+|required)\]$")


def main():
    unittest.main(verbosity=2)
