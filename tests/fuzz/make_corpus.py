"""Writes the small files that fuzzing starts from: corpus/{pickle,pth,safetensors,tar}. Needs PyTorch.

Pictures and configurations start from those of tests/data/fixtures and configs. pth/claims_gigabytes.pth and
pickle/doubled_names.pkl are no work of this script: fuzzing found them.
"""

import argparse
import collections
import io
import pathlib
import pickle
import tarfile
import zipfile

import torch

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(kind, name, data):
    path = CORPUS / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def checkpoints():
    shared = torch.arange(6.0)
    state = collections.OrderedDict(
        [
            ("a", torch.ones(2, 3)),
            ("b", torch.arange(4)),
            ("c", torch.zeros(3, dtype=torch.bfloat16)),
            ("view", shared.view(2, 3).t()),
            ("same", shared[1:4]),
            ("one", torch.tensor(1.5, dtype=torch.float64)),
            ("none", torch.zeros(0, 2)),
        ]
    )
    yield "plain", state
    yield "state_dict", {"meta": {"epoch": 3, "config": "x = 1"}, "state_dict": state, "optimizer": {"lr": [0.1]}}
    yield "model_ema", {
        "model": {"module.w": torch.ones(1)},
        "model_ema": {"w": torch.zeros(1)},
        "args": argparse.Namespace(lr=1e-3, name="x"),
    }
    yield "parameter", {"p": torch.nn.Parameter(torch.ones(2)), "h": torch.ones(2, dtype=torch.half)}


def compressed(data):
    """The same archive with deflated entries."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name)  # Of 1980: the same bytes each time.
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))
    return result.getvalue()


def write_checkpoints():
    for name, value in checkpoints():
        data = saved(value)
        write("pth", f"{name}.pth", data)
        write("pth", f"{name}_compressed.pth", compressed(data))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inner = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
            write("pickle", f"{name}.pkl", archive.read(inner))


def write_pickles():
    value = {
        "text": "é",
        "bytes": b"\0\xff",
        "list": [1, 2.5, None, True, -(2**40), 2**70],
        "tuple": ((), (1,), (1, 2, 3)),
        "set": {1, 2},
        "dict": collections.OrderedDict(a=collections.defaultdict(list, b=[1])),
    }
    value["itself"] = value["list"]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        write("pickle", f"protocol{protocol}.pkl", pickle.dumps(value, protocol))


def write_safetensors():
    def file(header, body=b""):
        text = header.encode()
        return len(text).to_bytes(8, "little") + text + body

    one = '{"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
    two = (
        '{"__metadata__":{"k":"v"},"h":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},'
        '"s":{"dtype":"I64","shape":[],"data_offsets":[6,14]},"e":{"dtype":"U8","shape":[0,4],"data_offsets":[14,14]}}'
    )
    write("safetensors", "one.safetensors", file(one, bytes(16)))
    write("safetensors", "two.safetensors", file(two + "  ", bytes(range(14))))
    write("safetensors", "empty.safetensors", file("{}"))


def write_tars():
    for name, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            depth = 4 if form == tarfile.USTAR_FORMAT else 30
            for path in ("./a/1.png", "b/2.cls", "c/" + "long/" * depth + "é.jpg"):
                info = tarfile.TarInfo(path)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"12345"))
            folder = tarfile.TarInfo("d")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            link = tarfile.TarInfo("e")
            link.type, link.linkname = tarfile.SYMTYPE, "a/1.png"
            tar.addfile(link)
        write("tar", f"{name}.tar", buffer.getvalue())


if __name__ == "__main__":
    write_checkpoints()
    write_pickles()
    write_safetensors()
    write_tars()
