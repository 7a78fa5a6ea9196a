"""vrwkv-eval, run as a user runs it."""

import json
import re

from cli_support import CLASSES, CliTest, main

SUMMARY = re.compile(r"top-1 (\d+\.\d\d)  top-5 (\d+\.\d\d)")


class EvalTest(CliTest):
    def evaluate(self, *arguments, **options):
        return self.run_program("vrwkv-eval", self.config, "--checkpoint", self.checkpoint, *arguments, **options)

    def test_help(self):
        self.help_names_every_default(
            "vrwkv-eval",
            ["CONFIG", "key.path=value", "--device", "--dtype", "--checkpoint", "--weights", "--batch-size", "--per-class", "--json"],
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
