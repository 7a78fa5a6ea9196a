"""vrwkv-augment, run as a user runs it."""

from cli_support import CliTest, main, write_png
from png_support import read_png

CELL = 64 + 4  # data.train_transform.size of the configuration, and the margin
PLAIN = {"size": 64, "crop": "resize", "hflip": 0.0}


def cell(sheet, row, column):
    _, _, rows = sheet
    top, left = 4 + row * CELL, 4 + column * CELL
    return [rows[y][3 * left : 3 * (left + 64)] for y in range(top, top + 64)]


class AugmentTest(CliTest):
    def sheet(self, *arguments, transform=None, name="sheet"):
        config = self.write_config("augment.yaml", data={"train_transform": transform or {"size": 64}})
        out = self.folder / f"{name}.png"
        self.run_program("vrwkv-augment", config, *arguments, "--out", out)
        return read_png(out)

    def square_image(self):
        path = self.folder / "square.png"
        write_png(path, 64, 64, seed=5)
        return path

    def test_help(self):
        self.help_names_every_default("vrwkv-augment", ["CONFIG", "--out", "--views", "--seed", "--op"])

    def test_a_row_for_each_image_and_a_column_for_each_view(self):
        width, height, rows = self.sheet(*self.images[:3], "--views", 2)
        self.assertEqual((width, height), (4 + 3 * CELL, 4 + 3 * CELL))
        self.assertEqual(set(b"".join(rows[:4])), {255})
        self.assertEqual(self.sheet(self.images[0])[0], 4 + 9 * CELL)

    def test_without_augmentation_every_view_is_the_image(self):
        image = self.square_image()
        sheet = self.sheet(image, "--views", 2, transform=PLAIN)
        source = read_png(image)[2]
        for column in range(3):
            self.assertEqual(cell(sheet, 0, column), source)

    def test_views_are_of_the_seed(self):
        one = self.sheet(self.images[0], "--seed", 3)
        self.assertEqual(one, self.sheet(self.images[0], "--seed", 3))
        self.assertEqual(one, self.sheet(self.images[0], "run.seed=3"))
        self.assertNotEqual(one, self.sheet(self.images[0], "--seed", 4))

    def test_augmentation_is_drawn(self):
        image = self.square_image()
        plain = self.sheet(image, transform=PLAIN)
        for change in (
            ["data.train_transform.rand_augment.num_ops=2", "data.train_transform.rand_augment.prob=1"],
            ["data.train_transform.erasing.prob=1"],
            ["data.train_transform.three_augment=true"],
            ["data.train_transform.color_jitter=0.4"],
        ):
            with self.subTest(change=change):
                drawn = self.sheet(image, *change, transform=PLAIN)
                self.assertEqual(cell(drawn, 0, 0), cell(plain, 0, 0))
                changed = sum(cell(drawn, 0, column) != cell(plain, 0, column) for column in range(1, 9))
                self.assertGreaterEqual(changed, 7)

    def test_one_operation(self):
        image = self.square_image()
        source = read_png(image)[2]

        def applied(operation):
            out = self.folder / "one.png"
            self.run_program("vrwkv-augment", "--op", operation, image, "--out", out)
            return read_png(out)[2]

        self.assertEqual(applied("invert"), [bytes(255 - level for level in row) for row in source])
        self.assertEqual(applied("posterize=1"), [bytes(level & 128 for level in row) for row in source])
        self.assertEqual(applied("rotate=0"), source)
        self.assertEqual(applied("rotate=180"), [bytes(self.mirrored(row)) for row in reversed(source)])
        half = applied("translate_x_rel=0.5")
        self.assertEqual([row[:96] for row in half], [row[96:] for row in source])
        self.assertEqual(half[0][96:], bytes((124, 116, 104)) * 32)

    @staticmethod
    def mirrored(row):
        for x in range(63, -1, -1):
            yield from row[3 * x : 3 * x + 3]

    def test_operations_that_cannot_be(self):
        image = self.images[0]
        for operation, says in (
            ("rotat=3", "unknown operation 'rotat' (did you mean 'rotate'?)"),
            ("zzz", "unknown operation 'zzz' (known: invert, posterize,"),
            ("rotate", "rotate needs a number; write --op rotate=VALUE"),
            ("rotate=much", "rotate needs a number, got 'much'"),
            ("posterize=1.5", "posterize needs an integer, got '1.5'"),
            ("posterize=9", "posterize: expected an integer from 0 to 8, got 9"),
            ("invert=1", "invert takes no value, got '1'; write --op invert"),
        ):
            with self.subTest(operation=operation):
                self.fails(2, "vrwkv-augment", "--op", operation, image, "--out", "x.png", says=["--op: " + says])
        self.fails(2, "vrwkv-augment", "--op", "invert", image, image, "--out", "x.png", says=["got 2 arguments"])
        self.fails(2, "vrwkv-augment", "--op", "invert", image, "--views", 3, "--out", "x.png", says=["--views"])

    def test_wrong_arguments(self):
        image = self.images[0]
        self.fails(2, "vrwkv-augment", says=["CONFIG is required"])
        self.fails(2, "vrwkv-augment", self.config, image, says=["--out is required"])
        self.fails(2, "vrwkv-augment", self.config, "--out", "x.png", says=["at least one image"])
        self.fails(2, "vrwkv-augment", self.config, image, "--out", "no/x.png", says=["--out: the folder of no/x.png"])
        self.fails(2, "vrwkv-augment", self.config, image, "--out", "x.png", "--views", 0, says=["integer >= 1"])
        self.fails(2, "vrwkv-augment", self.config, image, "--out", "x.png", "--seed", "-1", says=["run.seed"])
        self.fails(2, "vrwkv-augment", self.config, image, "data.repeat=2", "--out", "x.png", says=["'data.repeat'"])
        self.fails(1, "vrwkv-augment", self.config, "none.png", "--out", "x.png", says=["none.png: does not exist"])
        self.fails(1, "vrwkv-augment", self.config, self.config, "--out", "x.png", says=[str(self.config)])


if __name__ == "__main__":
    main()
