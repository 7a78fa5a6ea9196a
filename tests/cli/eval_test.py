"""vrwkv-eval, run as a user runs it."""

import array
import csv
import json
import math
import re
import shutil
import struct

from cli_support import CLASSES, CliTest, main, numbers, read_safetensors, write_safetensors

SUMMARY = re.compile(r"top-1 (\d+\.\d\d)  top-5 (\d+\.\d\d)")


class EvalTest(CliTest):
    def evaluate(self, *arguments, **options):
        return self.run_program("vrwkv-eval", self.config, "--checkpoint", self.checkpoint, *arguments, **options)

    def test_help(self):
        self.help_names_every_default(
            "vrwkv-eval",
            ["CONFIG", "key.path=value", "--device", "--dtype", "--checkpoint", "--weights", "--batch-size", "--per-class", "--json",
             "--sizes", "--crop-ratio", "--tta", "--labels", "--csv", "--plot", "--per-class-csv", "--confusion"],
        )

    def test_version(self):
        self.assertRegex(self.run_program("vrwkv-eval", "--version").stdout, r"^vrwkv-eval \d+\.\d+\.\d+ \(LibTorch ")

    def test_counts_are_those_of_the_predictions(self):
        report = self.folder / "report.json"
        result = self.evaluate("--json", report, "--per-class")
        summary = SUMMARY.fullmatch(result.stdout.splitlines()[-1])
        self.assertTrue(summary, result.stdout)
        counts = json.loads(report.read_text())

        answers = json.loads(
            self.run_program(
                "vrwkv-predict", self.config, "--checkpoint", self.checkpoint, "--json", "-", *self.images
            ).stdout
        )
        correct1 = correct5 = 0
        by_class = {name: 0 for name in CLASSES}
        for path, answer in zip(self.images, answers, strict=True):
            names = [candidate["name"] for candidate in answer["top"]]
            correct1 += names[0] == path.parent.name
            correct5 += path.parent.name in names
            by_class[path.parent.name] += path.parent.name in names
        self.assertEqual((counts["images"], counts["correct1"], counts["correct5"]), (20, correct1, correct5))
        self.assertGreater(correct5, 0)
        self.assertLess(correct1, 20)
        self.assertEqual([entry["name"] for entry in counts["classes"]], CLASSES)
        self.assertEqual({entry["name"]: entry["correct5"] for entry in counts["classes"]}, by_class)
        self.assertEqual(summary.groups(), (f"{5 * correct1:.2f}", f"{5 * correct5:.2f}"))
        self.assertEqual(counts["config"], str(self.config))
        self.assertEqual(counts["checkpoint"], str(self.checkpoint))
        self.assertGreater(counts["loss"], 0)
        for name in CLASSES:
            self.assertRegex(result.stdout, rf"(?m)^{name} +2 ")

    def test_json_on_stdout_is_alone_there(self):
        result = self.evaluate("--json", "-")
        self.assertEqual(json.loads(result.stdout)["images"], 20)
        self.assertNotIn("classes", json.loads(result.stdout))
        self.assertRegex(result.stderr, SUMMARY)

    def test_batch_size_workers_and_precision_change_nothing(self):
        expected = json.loads(self.evaluate("--json", "-").stdout)
        for arguments in (
            ["--batch-size", "3"],
            ["data.workers=3", "data.prefetch_batches=1"],
            ["--dtype", "float64", "--device", "cpu"],
            ["run.device=auto"],
        ):
            found = json.loads(self.evaluate("--json", "-", *arguments).stdout)
            self.assertAlmostEqual(found.pop("loss"), expected["loss"], delta=1e-4)
            self.assertEqual(found, {key: value for key, value in expected.items() if key != "loss"})
        in_bfloat16 = json.loads(self.evaluate("--json", "-", "--dtype", "bfloat16").stdout)
        self.assertAlmostEqual(in_bfloat16["loss"], expected["loss"], delta=0.05 * expected["loss"])

    def logits(self, mirrored=False):
        """Of the twenty images, by way of vrwkv-predict."""
        inputs = self.folder / "inputs.safetensors"
        self.run_program("vrwkv-predict", self.config, "--checkpoint", self.checkpoint, "--save-inputs", inputs, *self.images)
        tensors, _ = read_safetensors(inputs)
        rows = []
        for path in self.images:
            values = array.array("f", tensors[path.name][2])
            if mirrored:
                for start in range(0, len(values), 64):
                    values[start : start + 64] = values[start : start + 64][::-1]
            rows.append(values.tobytes())
        whole, output = self.folder / "whole.safetensors", self.folder / "logits.safetensors"
        write_safetensors(whole, {"input": ("F32", [len(rows), 3, 64, 64], b"".join(rows))})
        self.run_program("vrwkv-predict", self.config, "--checkpoint", self.checkpoint, "--input", whole, "--output", output)
        values = list(numbers(read_safetensors(output)[0]["logits"]))
        return [values[i : i + 10] for i in range(0, len(values), 10)]

    @staticmethod
    def probabilities(logits, only=range(10)):
        top = max(logits)
        weights = [math.exp(value - top) if c in only else 0 for c, value in enumerate(logits)]
        return [weight / sum(weights) for weight in weights]

    def expect(self, report, probabilities, right):
        """Counts and loss of images with these probabilities and sets of right classes; an empty set does not count."""
        pairs = [(p, r) for p, r in zip(probabilities, right, strict=True) if r]
        ranked = [sorted(range(10), key=lambda c: -p[c]) for p, _ in pairs]
        self.assertEqual(report["images"], len(pairs))
        self.assertEqual(report["correct1"], sum(order[0] in r for order, (_, r) in zip(ranked, pairs, strict=True)))
        self.assertEqual(report["correct5"], sum(bool(r & set(order[:5])) for order, (_, r) in zip(ranked, pairs, strict=True)))
        loss = sum(-math.log(sum(p[c] for c in r)) for p, r in pairs) / len(pairs)
        self.assertAlmostEqual(report["loss"], loss, delta=1e-5 * max(1, loss))

    def report(self, *arguments):
        return json.loads(self.evaluate("--json", "-", *arguments).stdout)

    def test_flip(self):
        both = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(
            map(self.probabilities, self.logits()), map(self.probabilities, self.logits(mirrored=True)), strict=True)]
        right = [{CLASSES.index(path.parent.name)} for path in self.images]
        report = self.report("--tta", "flip")
        self.expect(report, both, right)
        self.assertEqual(report["tta"], "flip")
        self.assertNotEqual(report["loss"], self.report()["loss"])

    def label_file(self, content):
        path = self.folder / "labels.json"
        path.write_text(json.dumps(content))
        return path

    def test_label_sets(self):
        probabilities = [self.probabilities(logits) for logits in self.logits()]
        of_data = [CLASSES.index(path.parent.name) for path in self.images]
        # Every class means two others of the model; one means nothing.
        meanings = {name: [(i + 3) % 10, (7 * i) % 10] for i, name in enumerate(CLASSES)}
        meanings[CLASSES[4]] = []
        right = [set(meanings[CLASSES[label]]) for label in of_data]
        self.expect(self.report("--labels", self.label_file({"classes": meanings})), probabilities, right)
        # A choice of classes alone.
        few = {name: [2, 5, 7][i % 3] for i, name in enumerate(CLASSES)}
        only = [self.probabilities(logits, only={2, 5, 7}) for logits in self.logits()]
        restricted = self.report("--labels", self.label_file({"classes": few, "only": True}))
        self.expect(restricted, only, [{few[CLASSES[label]]} for label in of_data])
        self.assertEqual(restricted["correct5"], 20)
        # Image by image, some of which do not count.
        images = {path.name: [] if i % 5 == 0 else [i % 10, (i * i) % 10] for i, path in enumerate(self.images)}
        report = self.report("--labels", self.label_file({"images": images}))
        self.expect(report, probabilities, [set(images[path.name]) for path in self.images])
        self.assertEqual(report["images"], 16)

    def test_imagenet_real(self):
        """A list without names: entry i is of ILSVRC2012_val_<i + 1>."""
        folder = self.folder / "real" / CLASSES[0]
        folder.mkdir(parents=True)
        for i in range(3):
            (folder / f"ILSVRC2012_val_{i + 1:08}.png").write_bytes(self.images[5 * i].read_bytes())
        labels = [[3, 8], [], [1]]
        logits = self.logits()
        report = self.report("--labels", self.label_file(labels), f"data.val.path={folder.parent}")
        self.expect(report, [self.probabilities(logits[5 * i]) for i in range(3)], list(map(set, labels)))
        self.fails(1, "vrwkv-eval", self.config, "--checkpoint", self.checkpoint, "--labels", self.label_file(labels[:2]),
                   f"data.val.path={folder.parent}", says=["ILSVRC2012_val_00000003.png", "has no entry"])

    def test_confusion_and_classes(self):
        confusion, classes = self.folder / "confusion.csv", self.folder / "classes.csv"
        report = self.folder / "report.json"
        self.evaluate("--confusion", confusion, "--per-class-csv", classes, "--json", report, "--per-class")
        table = list(csv.reader(confusion.read_text().splitlines()))
        self.assertEqual(table[0], ["class", *CLASSES])
        expected = [[0] * 10 for _ in CLASSES]
        for path, logits in zip(self.images, self.logits(), strict=True):
            expected[CLASSES.index(path.parent.name)][logits.index(max(logits))] += 1
        self.assertEqual([row[0] for row in table[1:]], CLASSES)
        self.assertEqual([list(map(int, row[1:])) for row in table[1:]], expected)
        rows = list(csv.DictReader(classes.read_text().splitlines()))
        for row, entry in zip(rows, json.loads(report.read_text())["classes"], strict=True):
            self.assertEqual((row["class"], int(row["images"]), int(row["correct5"])), (entry["name"], entry["images"], entry["correct5"]))
        if shutil.which("gnuplot"):
            for path in (confusion, classes):
                self.assertEqual(path.with_suffix(".png").read_bytes()[:4], b"\x89PNG")

    def test_sizes_and_checkpoints(self):
        second = self.folder / "second.safetensors"
        tensors, metadata = read_safetensors(self.checkpoint)
        dtype, shape, data = tensors["head.fc.bias"]
        tensors["head.fc.bias"] = (dtype, shape, struct.pack("<10f", *[-0.5 * i for i in range(10)]))
        write_safetensors(second, tensors, metadata)
        table, plot, report = (self.folder / name for name in ("sizes.csv", "sizes.png", "sizes.json"))
        result = self.evaluate("--checkpoint", second, "--sizes", "48,64,80", "--csv", table, "--plot", plot, "--json", report)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        entries = json.loads(report.read_text())
        expected = [(str(file), size) for file in (self.checkpoint, second) for size in (48, 64, 80)]
        self.assertEqual([(row["checkpoint"], int(row["size"])) for row in rows], expected)
        self.assertEqual(len(result.stdout.splitlines()), 6)
        for (file, size), row, entry, line in zip(expected, rows, entries, result.stdout.splitlines(), strict=True):
            alone = json.loads(self.run_program(
                "vrwkv-eval", self.config, "--checkpoint", file, "--json", "-",
                f"data.eval_transform.size={size}", f"data.eval_transform.resize={size}").stdout)
            self.assertEqual(entry, alone)
            for key in ("images", "correct1", "correct5", "resize"):
                self.assertEqual(int(row[key]), alone[key])
            self.assertTrue(line.startswith(f"{file}  size {size}  top-1 "), line)
        self.assertNotEqual(entries[0]["loss"], entries[3]["loss"])
        if shutil.which("gnuplot"):
            self.assertEqual(plot.read_bytes()[:4], b"\x89PNG")
        ratio = self.report("--sizes", "48", "--crop-ratio", "0.9")
        self.assertEqual((ratio["size"], ratio["resize"]), (48, 53))

    def test_overrides_may_follow_flags(self):
        half = ["data.eval_transform.size=32", "data.eval_transform.resize=32"]
        expected = self.report("--sizes", "32")
        for arguments in (["--checkpoint", self.checkpoint, *half], ["--checkpoint", self.checkpoint, "--sizes", "32", *half]):
            found = self.run_program("vrwkv-eval", self.config, "--json", "-", *arguments).stdout
            self.assertEqual(json.loads(found), expected)

    def test_resize_modes(self):
        losses = {self.report(f"data.eval_transform.mode={mode}", f"data.eval_transform.interpolation={kind}")["loss"]
                  for mode in ("short_side", "stretch") for kind in ("bicubic", "bilinear")}
        self.assertEqual(len(losses), 4)

    def test_mistakes(self):
        def fails(*arguments, says):
            self.fails(2, "vrwkv-eval", self.config, "--checkpoint", self.checkpoint, *arguments, says=says)

        fails("--sizes", "50", says=["50 is no multiple of model.patch_size (16)"])
        fails("--sizes", "48,64", "--per-class", says=["--per-class is for one --checkpoint and one size"])
        fails("--plot", "x.png", says=["--plot needs two --sizes or more"])
        fails("--confusion", "x.png", says=["--confusion: expected a file that ends in .csv, got x.png"])
        fails("--tta", "crop", says=["--tta"])
        fails("--labels", "none.json", says=["cannot read none.json"])
        for content, says in (
            ({"classes": {CLASSES[0]: 1}}, f"the data's class '{CLASSES[1]}' is missing"),
            ({"classes": {name: 10 for name in CLASSES}}, "integers from 0 to 9, got 10"),
            ({"images": {"a.png": ["cat"]}}, 'got "cat"'),
            ({"images": {"a.png": 1, "b/a.jpg": 1}}, "two entries are of the image a"),
            ({"labels": {}}, "unknown key 'labels'; there are classes, images and only"),
            ({"classes": [1]}, "classes: expected an object"),
            ({}, "expected classes, images, or both"),
            ("text", "expected a JSON object"),
        ):
            fails("--labels", self.label_file(content), says=["labels.json", says])
        (self.folder / "labels.json").write_text("{")
        fails("--labels", self.folder / "labels.json", says=["not JSON"])

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            self.fails(
                1,
                "vrwkv-eval",
                self.config,
                "--checkpoint",
                self.checkpoint,
                stdout=full,
                says=["cannot write to stdout"],
            )


if __name__ == "__main__":
    main()
