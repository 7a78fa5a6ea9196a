"""Runs a classifier that vrwkv-export has written as ONNX: run_onnx.py MODEL.onnx INPUT"""
import sys
import numpy
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape[1:]
images = numpy.fromfile(sys.argv[2], dtype=numpy.float32).reshape(1, *shape)
logits = session.run(["logits"], {"images": images})[0][0]
probabilities = numpy.exp(logits - logits.max())
probabilities /= probabilities.sum()
for index in (-probabilities).argsort()[:5]:
    print(index, f"{probabilities[index]:.6g}")
