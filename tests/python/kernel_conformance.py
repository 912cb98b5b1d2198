"""The conformance suite of the Jupyter project, with its optional parts: `kernel_conformance.py KERNEL`.

Fails when a part is skipped that the kernel should have."""

import sys
import unittest

import jupyter_kernel_test

from kernel_cases import KERNEL, LANGUAGES

RHAI = {
    "language_name": "rhai",
    "file_extension": ".rhai",
    "code_hello_world": 'print("hello, world");',
    "code_stderr": 'eprint("hello, error");',
    "completion_samples": [
        {"text": "prune_gr", "matches": {"prune_groups("}},
        {"text": "tensorrt", "matches": {"tensorrt_export("}},
        {"text": 'model("yolo11n-', "matches": {'yolo11n-cls"', 'yolo11n-seg"', 'yolo11n-pose"', 'yolo11n-obb"'}},
        {"text": "%loa", "matches": {"%load"}},
    ],
    "complete_code_samples": ["1", "let x = 1;", 'print("a");\nprint("b")', "fn twice(n) { n * 2 }", "// a comment", "%time 1 + 1", "", "[1, 2].map(|x| x + 1)"],
    "incomplete_code_samples": ["let f = |x| {", "[1, 2,", "fn twice(n) {\n  n * 2", "if true {", "`open", "#{ a: 1", "print("],
    "invalid_code_samples": ["let = 5;", "1 +* 2", "fn (", ")", "let x = 1 }"],
    "code_page_something": "?prune",
    "code_generate_error": 'throw "deliberate"',
    "code_execute_result": [
        {"code": "20 + 22", "result": "42"},
        {"code": "6 * 7 + 0", "result": "42"},
        {"code": '"a" + "b"', "mime": "text/plain"},
        {"code": "table([#{ layer: 1, size: 20 }])", "mime": "text/html"},
        {"code": "[1, 2, 3]", "mime": "text/plain"},
    ],
    "code_display_data": [
        # A picture and, in an output before it, its numbers.
        {"code": "show(plot([1.0, 4.0, 9.0]));", "mime": "text/plain"},
        {"code": "show(table([#{ layer: 1, size: 20 }]));", "mime": "text/html"},
        {"code": 'show(dataset("shapes", #{ images: 8, size: 32, classes: ["circle"] }).grid(#{ images: 4 }));', "mime": "text/plain"},
    ],
    "supported_history_operations": ("tail", "range", "search"),
    "code_history_pattern": "2?*2*",
    "code_inspect_sample": "prune",
    "code_clear_output": "clear_output();",
}

RUST = {
    "language_name": "rust",
    "file_extension": ".rs",
    "code_hello_world": 'println!("hello, world");',
    "code_stderr": 'eprintln!("hello, error");',
    "completion_samples": [{"text": "prune_gr"}, {"text": "Stri"}],
    "complete_code_samples": ["1", "let x = 1;", "fn twice(n: u32) -> u32 { n * 2 }", "// a comment"],
    "incomplete_code_samples": ["fn twice(n: u32) {", "let v = vec![1,", "if true {", 'let s = "open'],
    "invalid_code_samples": ["let x = 1 }", ")"],
    "code_generate_error": 'let x: i32 = "text";',
    "code_execute_result": [{"code": "30 + 12", "result": "42"}, {"code": "6 * 7", "result": "42"}, {"code": "2 + 2", "result": "4"}],
    "code_display_data": [
        {"code": "show(&plot([1.0, 4.0, 9.0])?);", "mime": "text/plain"},
        {"code": 'show(&table("Sizes", &[">layer", ">size"], [[1, 20]]));', "mime": "text/html"},
    ],
    "supported_history_operations": ("tail", "range", "search"),
    "code_history_pattern": "2?*2*",
    "code_inspect_sample": "prune",
    "code_clear_output": "clear(false);",
}

PARTS = {"compresso-rhai": RHAI, "compresso-rust": RUST}
# What the language has no means for.
MAY_SKIP = {"compresso-rhai": set(), "compresso-rust": {"test_pager"}}

if __name__ == "__main__":
    if KERNEL not in PARTS:
        sys.exit(f"usage: {sys.argv[0]} KERNEL, one of {', '.join(PARTS)}")
    # A small cell of Rust takes longer than one of Rhai, the first one much longer.
    jupyter_kernel_test.TIMEOUT = max(15, LANGUAGES[KERNEL]["patience"])
    suite = type("Conformance", (jupyter_kernel_test.KernelTests,), {"kernel_name": KERNEL, **PARTS[KERNEL]})
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(suite))
    skipped = {test.id().rsplit(".", 1)[-1].split(" ")[0] for test, _ in result.skipped} - MAY_SKIP[KERNEL]
    if skipped:
        print("skipped, though the kernel should have them:", *sorted(skipped))
    sys.exit(bool(skipped) or not result.wasSuccessful())
