"""What the tests run in each kernel, and the frame of a test: `SCRIPT.py KERNEL [TEST...]`."""

import functools
import sys
import time
import unittest

from kernel_wire import Kernel

LANGUAGES = {
    "compresso-rhai": {
        "name": "rhai",
        "extension": ".rhai",
        "patience": 20.0,
        "nothing": "",
        "hello": 'print("hello, world");',
        "define": "let kept = {};",
        "kept": "kept",
        # Text without a line break between the two.
        "value": ("20 + 22", "42"),
        "error": 'throw "deliberate";',
        "says": "deliberate",
        "mistake": "let x = ;",
        # Works for so many seconds, in the language itself.
        "work": "let begin = now(); while now() - begin < {} {{ }}",
        "ask": 'let answer = input("name? "); print(`hello ${answer}`);',
        "ask_secret": None,
        "expression": ("6 * 7", "42"),
        "bad_expression": "no_such_variable",
        "complete": ("prun", "prune"),
        "wide_prefix": 'let s = "é🚀"; ',
        "inspect": ("prune", "Share to remove"),
        "variable": ("let seen = [1, 2];", "seen", "[1, 2]"),
        "plot": "plot([1.0, 4.0, 9.0])",
        "table": "table([#{ layer: 1, size: 20 }])",
        # Cells that leave values behind, again and again under the same names.
        "cells": [
            "let n = NUMBER;\nlet list = []; for i in 0..100 { list.push(i * n); }\nlist.len()",
            "table([#{ cell: NUMBER, size: 20 }])",
            'fn square(x) { x * x }\nsquare(NUMBER)',
            'let f = |x| x + NUMBER; print(`${f.call(1)}`);',
            "plot([1.0, 4.0, NUMBER.0])",
            "let t = random([32, 32]); t.mean() > 0.0",
        ],
        # Cells before memory is measured, cells after, megabytes that these may add.
        "endurance": (500, 1500, 10),
        "prepare_training": [
            'let shapes = dataset("shapes", #{ images: 160, size: 64, classes: 3 });\nlet train_set = shapes.split("train");',
            'let kept = model("yolov8n", #{ classes: train_set.classes, image_size: 64, width: 0.125 });',
        ],
        "training": "let trained = train(kept, train_set, #{ epochs: 1000, batch: 8 });",
        # What an interrupted training had reached: assigned when the script came so far.
        "trained": 'if is_def_var("trained") { trained.params } else { partial.params }',
        "count": "for i in 0..5000 { print(i); }",
        "picture": 'dataset("shapes", #{ images: 8, size: 32, classes: ["circle"] }).grid(#{ images: 4 })',
    },
    "compresso-rust": {
        "name": "rust",
        "extension": ".rs",
        "patience": 90.0,
        "nothing": "",
        "hello": 'println!("hello, world");',
        "define": "let kept = {};",
        "kept": "kept",
        "value": ("20 + 22", "42"),
        "error": 'panic!("deliberate");',
        "says": "deliberate",
        "mistake": 'let x: i32 = "text";',
        "work": "let begin = now(); while now() - begin < {}f64 {{ ctx().check()?; }}",
        "ask": 'let answer = input("name? ")?; println!("hello {answer}");',
        "ask_secret": None,
        "expression": ("6 * 7", "42"),
        "bad_expression": "no_such_variable",
        "complete": ("prun", "prune"),
        "wide_prefix": 'let s = "é🚀"; ',
        "inspect": ("prune", "channels"),
        "variable": ("let seen = 7i32;", "seen", "i32"),
        "plot": "plot([1.0, 4.0, 9.0])?",
        "table": 'table("Sizes", &[">layer", ">size"], [[1, 20]])',
        "picture": 'grid(&dataset("shapes", DataOptions { images: Some(8), size: Some(32.into()), ..default() })?, GridOptions { images: 4, ..default() })?',
        "cells": ["let n = NUMBER;", "fn square(x: u64) -> u64 { x * x }", "square(NUMBER)", 'table("Cells", &[">cell"], [[NUMBER]])'],
        # Each cell is an object that stays loaded.
        "endurance": (10, 30, 10),
        "prepare_training": [
            'let shapes = dataset("shapes", DataOptions { images: Some(160), size: Some(64.into()), classes: Some(3.into()), ..default() })?; let train_set = shapes.split("train")?;',
            'let kept = model("yolov8n", ModelOptions { classes: Some(3.into()), image_size: Some(64.into()), width: Some(0.125), ..default() })?;',
        ],
        "training": "let trained = train(&kept, &train_set, None, Train { epochs: 1000, batch: 8, ..default() })?;",
        "trained": "partial()?.params()",
        "count": 'for i in 0..5000 { println!("{i}"); }',
    },
    # The reference implementation: a check that fails with it is wrong, or stricter than ipykernel is.
    "python3": {
        "name": "python",
        "extension": ".py",
        "patience": 20.0,
        "nothing": "",
        "hello": 'print("hello, world")',
        "define": "kept = {}",
        "kept": "kept",
        "value": ("20 + 22", "42"),
        "error": 'raise ValueError("deliberate")',
        "says": "deliberate",
        "mistake": "x = = 1",
        "work": "import time\nbegin = time.time()\nwhile time.time() - begin < {}: pass",
        "ask": 'print("hello", input("name? "))',
        "ask_secret": 'import getpass\nprint(len(getpass.getpass("secret? ")), "letters")',
        "expression": ("6 * 7", "42"),
        "bad_expression": "no_such_variable",
        "complete": ("isinst", "isinstance"),
        "wide_prefix": 's = "é🚀"; ',
        "inspect": ("isinstance", "instance"),
        "variable": None,
        "plot": None,
        "table": None,
        "cells": None,
        "endurance": None,
        "prepare_training": None,
        "training": None,
        "trained": None,
        "count": None,
        "picture": None,
    },
}

KERNEL = sys.argv[1] if len(sys.argv) > 1 else ""


def with_trace(test):
    """A test that adds the messages to its failure."""

    @functools.wraps(test)
    def run(self):
        try:
            test(self)
        except unittest.SkipTest:
            raise
        except Exception as e:
            e.add_note(self.kernel.trace())
            # What it does now says nothing about the next test.
            self.tearDownClass()
            raise

    return run


class KernelTest(unittest.TestCase):
    """Tests that share a kernel; one that ended is started anew for the next test."""

    kernel = None

    def __init_subclass__(cls):
        for name, test in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, with_trace(test))

    @classmethod
    def tearDownClass(cls):
        if cls.kernel:
            cls.kernel.close()
            cls.kernel = None

    @property
    def language(self):
        return LANGUAGES[KERNEL]

    @property
    def patience(self):
        return self.language["patience"]

    def setUp(self):
        if self.kernel and not self.kernel.alive():
            self.kernel.close()
            type(self).kernel = None
        if not self.kernel:
            type(self).kernel = Kernel(KERNEL)
        self.kernel.client.pump(0)
        self.kernel.client.seen.clear()
        self.kernel.client.trace.clear()

    def code(self, name):
        """A sample of the language."""
        sample = self.language[name]
        if sample is None:
            self.skipTest(f"{KERNEL} has no sample '{name}'")
        return sample

    def run_code(self, code, **options):
        return self.kernel.run(code, self.patience, **options)

    def value(self, code):
        """What a cell gives, as text."""
        return self.run_code(code).result()

    def assert_well(self):
        """The kernel runs cells and gives their results."""
        code, wanted = self.code("value")
        self.assertEqual(self.value(code), wanted)

    def settle(self, seconds=0.4):
        """Takes in what comes within so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.kernel.client.pump(left)

    def answers(self, header):
        """All messages that name a request as their parent."""
        return [m for m in self.kernel.client.seen if m.parent_id == header["msg_id"]]


def main():
    if KERNEL not in LANGUAGES:
        sys.exit(f"usage: {sys.argv[0]} KERNEL [TEST...], KERNEL one of {', '.join(LANGUAGES)}")
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
