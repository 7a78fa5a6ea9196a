"""The files in which a run is watched, and its answers to anomalies, through the program.

TensorBoard's own reader is asked where Python has the package `tensorboard`; else that test is skipped.
"""

import csv
import json
import os
import pathlib
import struct
import unittest

from cli_support import CliTest, main

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None

CONFIG = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "configs" / "digits_vrwkv_micro.yaml"


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Watch(CliTest):
    def arguments(self, name, *more):
        return [
            CONFIG, f"run.output_dir={self.folder / name}", "run.threads=1", "data.workers=1", "model.depth=1",
            "data.train.format=synthetic", "data.train.synthetic.images=96", "data.val.format=synthetic",
            "data.val.synthetic.images=40", "data.train.synthetic.classes=10", "data.val.synthetic.classes=10",
            "train.epochs=3", "train.batch_size=16", "train.log_every=2", "train.keep_checkpoints=3",
            "eval.batch_size=32", *more,
        ]

    def lines(self, name, kind):
        text = (self.folder / name / "metrics.jsonl").read_text()
        return [line for line in map(json.loads, text.splitlines()) if line.pop("kind") == kind]

    def trained_twice(self, name):
        """Three epochs, then once more from the end of the first: the later two are logged anew."""
        self.run_program("vrwkv-train", *self.arguments(name))
        first = self.folder / name / "checkpoints" / "epoch_0001.safetensors"
        self.run_program("vrwkv-train", *self.arguments(name), "--resume", first)

    def test_csv_files_hold_the_numbers_of_metrics_jsonl(self):
        self.trained_twice("csv")
        for kind in ("train", "eval"):
            with open(self.folder / "csv" / f"{kind}.csv", newline="") as file:
                rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
            self.assertEqual(rows, self.lines("csv", kind))
        self.assertEqual([line["step"] for line in self.lines("csv", "train")], list(range(2, 19, 2)))

    @unittest.skipIf(EventAccumulator is None, "Python has no package tensorboard")
    def test_tensorboard_reads_the_numbers_of_metrics_jsonl(self):
        self.trained_twice("board")
        folder = self.folder / "board"
        self.assertEqual(len(list(folder.glob("events.out.tfevents.*"))), 2)
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        expected = {}
        for kind in ("train", "eval"):
            for line in self.lines("board", kind):
                for name, value in line.items():
                    if name not in ("step", "epoch"):
                        expected.setdefault(f"{kind}/{name}", []).append((line["step"], as_float32(value)))
        self.assertEqual(set(events.Tags()["scalars"]), set(expected))
        for tag, points in expected.items():
            self.assertEqual([(event.step, event.value) for event in events.Scalars(tag)], points, tag)

    def test_keys_turn_the_files_off(self):
        off = ["train.logs.csv=false", "train.logs.tensorboard=false", "train.epochs=1"]
        self.run_program("vrwkv-train", *self.arguments("off", *off))
        self.assertEqual(len(self.lines("off", "eval")), 1)
        self.assertEqual([path.name for pattern in ("*.csv", "events.*") for path in (self.folder / "off").glob(pattern)], [])

    def test_a_run_that_diverges_ends_with_the_files_of_the_batch(self):
        wild = ["train.optimizer.lr=1e30", "train.schedule.warmup_epochs=0", "train.clip_grad_norm=0"]
        says = [" at step ", "its batch: ", "anomalies.jsonl", "train.optimizer.lr"]
        self.fails(1, "vrwkv-train", *self.arguments("wild", *wild), says=says)
        text = (self.folder / "wild" / "anomalies.jsonl").read_text()
        first = json.loads(text.splitlines()[0])
        self.assertEqual(len(first["files"]), 16)
        self.assertIn(None, (first["loss"], first["grad_norm"]))
        more = ["train.anomaly.answer=rollback", "train.anomaly.max_rollbacks=2"]
        self.fails(1, "vrwkv-train", *self.arguments("back", *wild, *more), says=["after 2 rollbacks"])
        self.run_program("vrwkv-train", *self.arguments("on", *wild, "train.anomaly.answer=none", "train.epochs=1"))


if __name__ == "__main__":
    main()
