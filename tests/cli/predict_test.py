"""vrwkv-predict, run as a user runs it."""

import csv
import json
import math
import re
import shutil

from cli_support import (
    CLASSES,
    GOLDEN,
    CliTest,
    golden_checkpoint,
    main,
    numbers,
    read_safetensors,
    write_png,
    write_safetensors,
)


class PredictTest(CliTest):
    def predict(self, *arguments, **options):
        return self.run_program("vrwkv-predict", self.config, "--checkpoint", self.checkpoint, *arguments, **options)

    def test_help(self):
        self.help_names_every_default(
            "vrwkv-predict",
            ["CONFIG", "IMAGE", "--device", "--dtype", "--checkpoint", "--weights", "--top-k", "--classes", "--json"]
            + ["--csv", "--annotate", "--save-inputs", "--input", "--output", "--reconstruct"],
        )

    def test_prints_the_five_most_probable_classes(self):
        lines = self.predict(self.images[3], self.images[8]).stdout.splitlines()
        self.assertEqual(len(lines), 12)
        self.assertEqual([lines[0], lines[6]], [str(self.images[3]), str(self.images[8])])
        for block in (lines[1:6], lines[7:12]):
            found = [re.fullmatch(r"  ([01]\.\d{4})  (class_\d)", line).groups() for line in block]
            probabilities = [float(probability) for probability, _ in found]
            self.assertEqual(probabilities, sorted(probabilities, reverse=True))
            self.assertEqual(len({name for _, name in found}), 5)

    def test_top_k(self):
        self.assertEqual(len(self.predict(self.images[0], "--top-k", "2").stdout.splitlines()), 3)
        self.assertEqual(len(self.predict(self.images[0], "--top-k", "99").stdout.splitlines()), 11)

    def test_folders_csv_and_annotated_pictures(self):
        broken = self.folder / "val" / CLASSES[3] / "broken.JPG"
        broken.write_bytes(b"no image")
        self.addCleanup(broken.unlink)
        (self.folder / "val" / "notes.txt").write_text("no image, and not named as one")
        self.addCleanup((self.folder / "val" / "notes.txt").unlink)
        table, pictures = self.folder / "predictions.csv", self.folder / "annotated" / "here"
        arguments = [self.folder / "val", "--csv", table, "--top-k", "3"]
        result = self.predict(*arguments, "--annotate", pictures, code=1)
        self.assertIn("vrwkv-predict: error: ", result.stderr)
        self.assertIn("broken.JPG", result.stderr)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        answers = json.loads(self.predict(*self.images, "--json", "-", "--top-k", "3").stdout)
        expected = {entry["image"]: entry["top"] for entry in answers}
        found = {str(path): [] for path in self.images}
        for row in rows:
            if row["error"]:
                self.assertEqual((row["image"], row["rank"]), (str(broken), ""))
            else:
                found[row["image"]].append(row)
        self.assertEqual(sum(bool(row["error"]) for row in rows), 1)
        for path, top in expected.items():
            self.assertEqual([(row["rank"], row["label"], row["name"]) for row in found[path]],
                             [(str(i + 1), str(entry["label"]), entry["name"]) for i, entry in enumerate(top)])
            for row, entry in zip(found[path], top, strict=True):
                self.assertAlmostEqual(float(row["probability"]), entry["probability"], delta=1e-4)
        if shutil.which("gnuplot"):
            self.assertEqual({path.name for path in pictures.iterdir()}, {f"{path.name}.png" for path in self.images})
            for path in pictures.iterdir():
                self.assertEqual(path.read_bytes()[:4], b"\x89PNG")
        empty = self.folder / "empty"
        empty.mkdir()
        self.fails(2, "vrwkv-predict", self.config, "--checkpoint", self.checkpoint, empty, says=["holds no JPEG or PNG files"])
        self.fails(2, "vrwkv-predict", self.config, "--checkpoint", self.checkpoint, self.images[0], "--annotate", table,
                   says=["--annotate: cannot create the folder"])

    def test_names(self):
        unnamed = self.folder / "unnamed.safetensors"
        golden_checkpoint("vrwkv_pre", unnamed)
        arguments = ["vrwkv-predict", self.config, "--checkpoint", unnamed, self.images[0]]
        self.assertRegex(self.run_program(*arguments).stdout, r"(?m)^  \d\.\d{4}  class \d$")
        names = self.folder / "names.txt"
        names.write_text("".join(f"animal {i}\n" for i in range(10)))
        self.assertRegex(self.run_program(*arguments, "--classes", names).stdout, r"(?m)^  \d\.\d{4}  animal \d$")
        names.write_text("only one\n")
        self.fails(2, *arguments, "--classes", names, says=["names.txt has 1 class names", "10 classes"])

    def test_overrides_stand_among_the_images(self):
        whole = self.predict(self.images[0]).stdout
        shrunk = self.predict(self.images[0], "data.eval_transform.resize=200", "eval.batch_size=1").stdout
        self.assertEqual(len(shrunk.splitlines()), 6)
        self.assertNotEqual(shrunk, whole)

    def test_saved_inputs_give_the_same_answers_as_the_images(self):
        saved, batch, out = (self.folder / f"{name}.safetensors" for name in ("saved", "batch", "out"))
        images = self.images[4:7]
        answers = json.loads(self.predict(*images, "--save-inputs", saved, "--json", "-", "--top-k", "10").stdout)
        inputs, _ = read_safetensors(saved)
        self.assertEqual(set(inputs), {path.name for path in images})
        for dtype, shape, _ in inputs.values():
            self.assertEqual((dtype, shape), ("F32", [3, 64, 64]))
        write_safetensors(batch, {"input": ("F32", [3, 3, 64, 64], b"".join(inputs[path.name][2] for path in images))})
        result = self.predict("--input", batch, "--output", out)
        self.assertEqual(result.stdout, "")
        tensors, _ = read_safetensors(out)
        self.assertEqual(tensors["logits"][:2], ("F32", [3, 10]))
        logits = numbers(tensors["logits"])
        for row, answer in enumerate(answers):
            exponentials = [math.exp(x) for x in logits[10 * row : 10 * row + 10]]
            for candidate in answer["top"]:
                expected = exponentials[candidate["label"]] / sum(exponentials)
                self.assertAlmostEqual(candidate["probability"], expected, delta=1e-5)
                self.assertEqual(candidate["name"], CLASSES[candidate["label"]])

    def test_inputs_of_equal_names_are_keyed_by_path(self):
        first, second, saved = self.folder / "a" / "x.png", self.folder / "b" / "x.png", self.folder / "s.safetensors"
        write_png(first, 64, 64, seed=1)
        write_png(second, 64, 64, seed=2)
        self.predict(first, second, self.images[0], "--save-inputs", saved)
        self.assertEqual(set(read_safetensors(saved)[0]), {str(first), str(second), self.images[0].name})

    def test_golden_logits(self):
        for name in ("vrwkv_pre", "vrwkv_post", "vrwkv_l_like"):
            checkpoint, batch, out = (self.folder / f"golden_{kind}.safetensors" for kind in ("model", "in", "out"))
            config = self.write_config("golden.yaml", model=golden_checkpoint(name, checkpoint))
            golden, _ = read_safetensors(GOLDEN / f"{name}.safetensors")
            write_safetensors(batch, {"input": golden["input"]})
            expected = numbers(golden["logits"])
            norm = math.sqrt(sum(x * x for x in expected))
            for dtype, kind, tolerance in (("float64", "F64", 1e-10), ("float32", "F32", 1e-5), ("bfloat16", "F32", 3e-2)):
                self.run_program(
                    "vrwkv-predict", config, "--checkpoint", checkpoint, "--dtype", dtype, "--input", batch, "--output", out
                )
                logits = read_safetensors(out)[0]["logits"]
                self.assertEqual(logits[:2], (kind, [2, 10]))
                difference = math.sqrt(sum((x - y) ** 2 for x, y in zip(numbers(logits), expected, strict=True)))
                self.assertLessEqual(difference, tolerance * norm, f"{name} {dtype}")

    def test_unreadable_images_among_others(self):
        broken = self.folder / "broken.png"
        broken.write_bytes(self.images[0].read_bytes()[:100])
        result = self.predict(self.images[0], broken, "missing.jpg", self.images[1], code=1)
        self.assertEqual([line for line in result.stdout.splitlines() if line[0] != " "], list(map(str, self.images[:2])))
        errors = [line for line in result.stderr.splitlines() if line.startswith("vrwkv-predict: error: ")]
        self.assertEqual(len(errors), 2, result.stderr)
        self.assertIn(f"{broken}: ", errors[0])
        self.assertIn("missing.jpg: ", errors[1])

    def test_bad_usage(self):
        start = ["vrwkv-predict", self.config, "--checkpoint", self.checkpoint]
        tensor = self.folder / "tensor.safetensors"
        write_safetensors(tensor, {"input": ("F32", [1, 3, 64, 60], bytes(4 * 3 * 64 * 60))})
        in_out = ["--input", tensor, "--output", self.folder / "out.safetensors"]
        for arguments, says in (
            ([], "nothing to predict"),
            (["--input", tensor], "--output"),
            (["--output", tensor], "--input"),
            ([*in_out, self.images[0]], "cannot go together"),
            ([*in_out, "--save-inputs", "s.safetensors"], "--save-inputs"),
            ([*in_out, "--top-k", "3"], "--top-k"),
            ([*in_out], "multiples of model.patch_size (16), got [1, 3, 64, 60]"),
            (["--input", "none.safetensors", "--output", "out.safetensors"], "none.safetensors does not exist"),
            ([self.images[0], "--top-k", "0"], "must be an integer >= 1, got '0'"),
            ([self.images[0], "--top_k", "3"], "did you mean '--top-k'"),
            ([self.images[0], "--save-inputs", "no/such/folder/s.safetensors"], "does not exist"),
            ([self.images[0], "model.num_classes=12"], "the configuration has 12"),
            ([self.images[0], "data.workrs=1"], "did you mean 'workers'"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, *start, *arguments, says=[says])

    def test_truncated_input(self):
        tensor = self.folder / "cut.safetensors"
        write_safetensors(tensor, {"input": ("F32", [1, 3, 64, 64], bytes(4 * 3 * 64 * 64))})
        tensor.write_bytes(tensor.read_bytes()[:-1])
        arguments = ["--input", tensor, "--output", self.folder / "out.safetensors"]
        self.fails(1, "vrwkv-predict", self.config, "--checkpoint", self.checkpoint, *arguments, says=[str(tensor)])


if __name__ == "__main__":
    main()
