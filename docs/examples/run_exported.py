"""Runs a classifier that vrwkv-export has written: run_exported.py MODEL.pt LIBVRWKV_OPS.SO INPUT"""
import sys
import torch

torch.ops.load_library(sys.argv[2])
model = torch.jit.load(sys.argv[1])  # map_location="cuda" to run on a GPU
numbers = torch.frombuffer(bytearray(open(sys.argv[3], "rb").read()), dtype=torch.float32)
side = round((numbers.numel() / 3) ** 0.5)
with torch.inference_mode():
    values, classes = model(numbers.view(1, 3, side, side)).softmax(1)[0].topk(5)
for value, index in zip(values.tolist(), classes.tolist()):
    print(index, f"{value:.6g}")
