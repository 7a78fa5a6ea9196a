"""vrwkv-bench and the scripts beside it, run as a user runs them."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

from cli_support import CliTest, main

SCRIPTS = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "scripts"
QUICK = ["--device", "cpu", "--threads", "1", "--min-time", "0.01"]


class BenchTest(CliTest):
    def bench(self, *arguments, **options):
        return self.run_program("vrwkv-bench", *arguments, *QUICK, **options)

    def test_help_names_every_flag_and_default(self):
        common = ["--sizes", "--dtype", "--device", "--threads", "--min-time", "--json"]
        for command, flags in (
            ("ops", ["--op", "--reference"]),
            ("model", ["--variant", "--batch", "--kernels"]),
            ("train", ["--variant", "--batch", "--kernels"]),
        ):
            text = self.run_program("vrwkv-bench", command, "--help").stdout
            for flag in common + flags:
                self.assertRegex(text, rf"(?m)^  {flag} .*\[default: .+\]$")
        for command in ("ops", "model", "train"):
            self.assertRegex(self.run_program("vrwkv-bench", "--help").stdout, rf"(?m)^  {command} +[A-Z]")

    def test_data(self):
        file = self.folder / "data.json"
        result = self.run_program("vrwkv-bench", "data", self.config, "--seconds", "0.05", "--workers", "1,2", "--json", file,
                                  "data.train_transform.rand_augment.num_ops=2")
        report = json.loads(file.read_text())["data"]
        for kind, stages in (("training", ["read", "decode", "resize and flip", "augment"]),
                             ("evaluation", ["read", "decode", "resize and crop"])):
            self.assertGreater(report[kind]["images_per_s"], 0)
            self.assertEqual(list(report[kind]["stages_ms"]), stages)
            self.assertLessEqual(1000 / report[kind]["images_per_s"], sum(report[kind]["stages_ms"].values()) * (1 + 1e-9))
            self.assertRegex(result.stdout, rf"(?m)^{kind} samples: \d+ images/s on one thread$")
            for stage in stages:
                self.assertRegex(result.stdout, rf"(?m)^  {stage} +[\d.]+ ms +\d+ %  #*$")
        self.assertEqual([row["workers"] for row in report["loader"]], [1, 2])
        for row in report["loader"]:
            self.assertGreater(row["images_per_s"], 0)
            self.assertAlmostEqual(row["linear"], row["images_per_s"] / row["workers"] / report["training"]["images_per_s"])
        self.assertRegex(result.stdout, r"(?m)^loader, 2 threads: \d+ images/s, \d+ % of so many single threads$")
        text = self.run_program("vrwkv-bench", "data", "--help").stdout
        for flag in ("--seconds", "--workers", "--json"):
            self.assertRegex(text, rf"(?m)^  {flag} .*\[default: .+\]$")
        self.fails(2, "vrwkv-bench", "data", self.config, "data.train.path=none", says=["none"])
        self.fails(2, "vrwkv-bench", "data", self.config, "--seconds", "0.05", "data.decode=gpu", "run.device=cpu",
                   says=["data.decode is gpu, but the run's device is cpu", "set data.decode to cpu or auto"])

    def test_ops(self):
        file = self.folder / "ops.json"
        result = self.bench("ops", "--op", "bi_wkv", "q_shift", "--sizes", "2,9,8", "1,4,4", "--json", file)
        report = json.loads(file.read_text())
        self.assertEqual((report["device"], report["threads"]), ("cpu", 1))
        self.assertGreater(report["copy_gbs"], 0)
        self.assertEqual(
            [(row["op"], row["size"]) for row in report["ops"]],
            [(op, size) for op in ("bi_wkv", "q_shift") for size in ([2, 9, 8], [1, 4, 4])],
        )
        for row in report["ops"]:
            self.assertEqual((row["dtype"], row["out_of_memory"]), ("float32", False))
            for name in ("forward", "backward"):
                entry = row[name]
                self.assertGreater(entry["ms"], 0)
                self.assertLessEqual(entry["p10_ms"], entry["ms"])
                self.assertLessEqual(entry["ms"], entry["p90_ms"])
                self.assertAlmostEqual(entry["gbs"], entry["bytes"] / entry["ms"] / 1e6)
                self.assertAlmostEqual(entry["copy_share"], entry["gbs"] / report["copy_gbs"])
        self.assertEqual(report["ops"][0]["forward"]["bytes"], 3 * 4 * 2 * 9 * 8)
        self.assertEqual(report["ops"][0]["backward"]["bytes"], 5 * 4 * 2 * 9 * 8)
        first, titles, *rows = result.stdout.splitlines()
        self.assertRegex(first, r"^device: cpu, .*; LibTorch \d.*; CPU threads: 1; copy \(read \+ written\): [\d.]+ GB")
        self.assertRegex(titles, r"^op +B,T,C +dtype +forward ms +GB/s +% of copy +backward ms +GB/s +% of copy$")
        self.assertEqual(len(rows), 4)

    def test_ops_with_the_reference_in_double_precision(self):
        arguments = ["ops", "--op", "bi_wkv", "--sizes", "2,9,8", "--dtype", "float64", "--reference", "--json", "-"]
        result = self.bench(*arguments)
        rows = json.loads(result.stdout)["ops"]
        self.assertEqual([row["reference"] for row in rows], [False, True])
        self.assertEqual(rows[0]["forward"]["bytes"], 3 * 8 * 2 * 9 * 8)
        self.assertRegex(result.stderr, r"bi_wkv 2,9,8: LibTorch's own operations take [\d.]+ times as long forward, ")

    def test_model_and_train(self):
        for command in ("model", "train"):
            file = self.folder / f"{command}.json"
            result = self.bench(command, "--variant", "tiny", "--sizes", "32,48", "--batch", "1", "--json", file)
            rows = json.loads(file.read_text())[command]
            cases = [(row["variant"], row["size"], row["batch"]) for row in rows]
            self.assertEqual(cases, [("tiny", 32, 1), ("tiny", 48, 1)])
            for row in rows:
                self.assertAlmostEqual(row["images_per_s"], 1e3 / row["ms"])
                self.assertIsNone(row["peak_bytes"])
            self.assertEqual(len(result.stdout.splitlines()), 4)

    def test_wrong_command_lines(self):
        def fails(*arguments, says):
            self.fails(2, "vrwkv-bench", *arguments, says=says)

        fails(says=["subcommand is required"])
        fails("speed", says=["--help"])
        fails("ops", "--op", "bi_wkv6", "--sizes", "2,9,8", says=["bi_wkv6 takes multiples of 64 channels", "2,9,8"])
        fails("ops", "--sizes", "1,2", says=["--sizes: expected B,T,C", "128,196,192", "got '1,2'"])
        fails("ops", "--op", "bi_wvk", says=["--op: expected bi_wkv, ", "did you mean 'bi_wkv'?"])
        fails("ops", "--dtype", "int8", says=["--dtype: expected one of float64, float32, float16, bfloat16; got 'int8'"])
        fails("ops", "--op", "q_shift", "--reference", says=["--reference: none of the operators"])
        fails("ops", "--min-time", "0", says=["--min-time: expected seconds, a number above 0; got '0'"])
        fails("ops", "--threads", "0", says=["--threads: must be an integer >= 1, got '0'"])
        fails("ops", "--device", "cuda", says=["device 'cuda' was asked for", "--device cpu"])
        fails("ops", "--json", "no/such/folder/x.json", says=["--json: the folder of", "does not exist"])
        fails("model", "--variant", "huge", says=["tiny, small, base, large", "'huge'"])
        fails("model", "--sizes", "225", says=["multiples of the patch size 16", "got '225'"])
        fails("train", "--dtype", "float16", says=["float64, float32, bfloat16; got 'float16'"])
        fails("train", "--batch", "many", says=["--batch: must be an integer >= 1, got 'many'"])
        fails("train", "--op", "bi_wkv", says=["--op"])
        fails("train", "--kernels", "0", says=["--kernels: must be an integer >= 1, got '0'"])
        fails("model", "--kernels", "5", says=["--kernels: expected a GPU", "got cpu"])


class ScriptsTest(CliTest):
    def script(self, name, *arguments, code=0, python=()):
        result = subprocess.run(
            [sys.executable, "-B", *python, str(SCRIPTS / name), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=300,
        )
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        return result

    def write_results(self):
        def row(size, batch, rate, gigabytes, **more):
            numbers = {"images_per_s": rate, "peak_bytes": gigabytes and gigabytes * 10**9, "out_of_memory": rate is None}
            return {"variant": "tiny", "size": size, "batch": batch, "dtype": "bfloat16", **numbers, **more}

        ours = {
            "device_name": "GPU A",
            "model": [row(224, 256, 30000.0, 1), row(2048, 2, 150.0, 3), row(64, 1, 5.0, None)],
        }
        deit = {
            "device_name": "GPU A",
            "model": [
                row(224, 256, 40000.0, 2, compiled=False),
                row(224, 256, 60000.0, 1, compiled=True),
                row(2048, 2, None, None, compiled=False),
            ],
            "train": [row(224, 256, 7000.0, 4, compiled=False)],
        }
        paths = self.folder / "ours.json", self.folder / "deit.json"
        for path, report in zip(paths, (ours, deit)):
            path.write_text(json.dumps(report))
        return paths

    def test_compare(self):
        ours, deit = self.write_results()
        result = self.script("bench_compare.py", "--ours", ours, "--deit", deit)
        self.assertEqual(result.stderr, "")
        title, *rows = [line.split() for line in result.stdout.replace("no memory", "no_memory").splitlines()]
        self.assertEqual(title[:2], ["kind", "variant"])
        case = ["inference", "tiny"]
        self.assertEqual(rows[0], case + ["64", "1", "bfloat16", "5.0"] + 4 * ["-"] + 5 * ["-"])
        rates = ["30000.0", "40000.0", "0.75", "60000.0", "0.50"]
        self.assertEqual(rows[1], case + ["224", "256", "bfloat16"] + rates + ["1.00", "2.00", "0.50", "1.00", "1.00"])
        self.assertEqual(rows[2][5:], ["150.0", "no_memory", "-", "-", "-", "3.00", "no_memory", "-", "-", "-"])
        self.assertEqual(rows[3][:7], ["training", "tiny", "224", "256", "bfloat16", "-", "7000.0"])

    def test_compare_in_markdown(self):
        ours, deit = self.write_results()
        lines = self.script("bench_compare.py", "--ours", ours, "--deit", deit, "--markdown").stdout.splitlines()
        self.assertEqual(len({line.count("|") for line in lines}), 1)
        self.assertIn("| inference | tiny | 224 | 256 | bfloat16 | 30000.0 | 40000.0 | 0.75 |", lines[3])

    def test_compare_draws_where_matplotlib_is(self):
        ours, deit = self.write_results()
        plot = self.folder / "bench.svg"
        arguments = ["--ours", ours, "--deit", deit, "--plot", plot]
        if importlib.util.find_spec("matplotlib"):
            self.script("bench_compare.py", *arguments)
            self.assertIn("<svg", plot.read_text())
        # Without site-packages there is surely none.
        text = self.script("bench_compare.py", *arguments, code=2, python=["-I", "-S"]).stderr
        self.assertIn("--plot needs matplotlib", text)
        self.assertIn("pip install matplotlib", text)

    def test_compare_takes_what_vrwkv_bench_writes(self):
        _, deit = self.write_results()
        ours = self.folder / "written.json"
        self.run_program(
            "vrwkv-bench", "model", "--variant", "tiny", "--sizes", "32", "--batch", "1", *QUICK, "--json", ours
        )
        result = self.script("bench_compare.py", "--ours", ours, "--deit", deit)
        self.assertRegex(result.stdout, r"(?m)^inference +tiny +32 +1 +float32 +[\d.]+")
        self.assertIn("measured on different devices", result.stderr)

    def test_compare_refuses_other_files(self):
        ours, deit = self.write_results()
        text = self.script("bench_compare.py", "--ours", "none.json", "--deit", deit, code=2).stderr
        self.assertIn("--ours: none.json is no JSON of vrwkv-bench", text)
        text = self.script("bench_compare.py", "--ours", ours, "--deit", ours, code=2).stderr
        self.assertIn("is no JSON of scripts/bench_deit.py", text)
        other = self.folder / "ops.json"
        other.write_text(json.dumps({"device_name": "x", "ops": []}))
        text = self.script("bench_compare.py", "--ours", other, "--deit", deit, code=2).stderr
        self.assertIn("neither 'model' nor 'train'", text)
        text = self.script("bench_compare.py", "--ours", ours, "--deit", deit, "--plot", "x.pdf", code=2).stderr
        self.assertIn("expected a name that ends in .svg or .png, got 'x.pdf'", text)

    def write_samples(self, *instructions):
        """The CSV of a kernel's source page in Nsight Compute, of (text, executed, samples, wait, long_sb) each."""
        title = ["Address", "Source", "# Samples", "Instructions Executed", "stall_wait", "stall_long_sb"]
        rows = [["Kernel Name", "a_kernel"], [*title, "stall_wait (Not Issued)"]]
        rows += [[hex(i), text, samples, executed, wait, long, wait] for i, (text, executed, samples, wait, long)
                 in enumerate(instructions)]
        path = self.folder / "source.csv"
        path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in rows))
        return path

    def test_stalls(self):
        path = self.write_samples(
            ("      LDG.E R2, [R4]", 8, 0, 0, 0), ("FADD  R3, R2, R2", 8, 150, 10, 130), ("EXIT", 8, 50, 50, 0)
        )
        lines = self.script("kernel_stalls.py", path).stdout.splitlines()
        self.assertIn("200 of 200 samples, 3 of 3 instructions", lines[0])
        self.assertEqual(lines[1].split(), ["long_sb", "65.0", "wait", "30.0", "other", "5.0"])
        waits = ["long_sb", "65.0", "other", "5.0", "wait", "5.0"]
        self.assertEqual(sorted(lines[3].split()), sorted(["1", "75.0", "75.0", "8", "FADD", "R3,", "R2,", "R2"] + waits))
        self.assertEqual(lines[4].split(), ["2", "100.0", "25.0", "8", "EXIT", "wait", "25.0"])
        self.assertEqual(len(lines), 5)
        part = self.script("kernel_stalls.py", path, "--least", "0", "--end", "1").stdout.splitlines()
        self.assertIn("0 of 200 samples, 1 of 3 instructions", part[0])
        self.assertEqual(len(part), 4)

    def test_stalls_refuses_other_files(self):
        for path, says in (
            ("none.csv", "none.csv: No such file or directory"),
            (SCRIPTS / "lib.sh", "expected the CSV of `ncu -i REPORT --page source --csv`"),
            (self.write_samples(("EXIT", 8, 0, 0, 0)), "no samples; collect them with ncu --set full"),
        ):
            self.assertIn(says, self.script("kernel_stalls.py", path, code=2).stderr)

    def test_deit_says_what_is_missing(self):
        text = self.script("bench_deit.py", "--only", "train:tiny:224", code=2, python=["-I", "-S"]).stderr
        self.assertIn("pip install torch", text)

    def test_deit_checks_its_command_line(self):
        for arguments, says in (
            (["--sizes", "225"], "expected multiples of 16"),
            (["--device", "gpu"], "expected cpu, cuda, cuda:N or auto; got 'gpu'"),
            (["--only", "train:tiny:224", "--batch", "3"], "--batch does not go together with --only"),
            (["--json", "no/such/folder/x.json"], "--json: the folder of"),
        ):
            self.assertIn(says, self.script("bench_deit.py", *arguments, code=2).stderr)


if __name__ == "__main__":
    main()
