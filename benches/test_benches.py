"""The parts of the benchmarks that compute nothing: rows, bars, and what counts as a valid call."""

import argparse
import json
import os
import tempfile
import unittest

import inference
import rows
import tool_call

LLAMA = {
    "llama.cpp 1 -fa 1": {"prefill-128": [100, 120, 110], "decode-64": [50], "load": [200], "peak-rss": [150]},
    "llama.cpp 1 BLAS": {"prefill-128": [150, 130, 140]},
}
OURS = {"prefill-128": [420, 430, 500], "decode-64": [100], "load": [250], "peak-rss": [100]}
CANDLE = {"prefill-128": [43], "load": [500]}
WORDS = {"type", "description", "enum", "minimum", "maximum", "pattern", "maxLength", "minItems", "maxItems", "items",
         "properties", "required", "additionalProperties"}


def by_case(found):
    return {row["case"]: row for row in found}


class Rows(unittest.TestCase):
    def test_the_better_build_of_the_peer_counts_and_both_have_rows_of_their_own(self):
        found = by_case(rows.peer_rows(OURS, LLAMA, CANDLE))
        best = found["prefill-128"]
        self.assertEqual((best["ours"], best["peer"], best["peer_name"]), (430, 140, "llama.cpp 1 BLAS"))
        self.assertEqual(found["prefill-128-fa"]["ratio"], round(430 / 110, 3))
        self.assertEqual(found["prefill-128-blas"]["ratio"], round(430 / 140, 3))
        self.assertEqual(found["prefill-128-candle"]["ratio"], 10)
        self.assertEqual(found["decode-64"]["peer_name"], "llama.cpp 1 -fa 1")
        self.assertNotIn("decode-64-candle", found)

    def test_less_time_and_less_memory_are_better(self):
        found = by_case(rows.peer_rows(OURS, LLAMA, CANDLE))
        self.assertEqual((found["load"]["unit"], found["load"]["ratio"]), ("ms", 0.8))
        self.assertEqual((found["peak-rss"]["unit"], found["peak-rss"]["ratio"]), ("MiB", 1.5))
        self.assertEqual(rows.better("load", {"slow": {"load": [3]}, "fast": {"load": [2]}, "none": {}}), "fast")
        self.assertIsNone(rows.better("load", {"none": {}}))

    def test_rows_say_what_was_measured_and_carry_their_bar(self):
        found = by_case(rows.finish(rows.peer_rows(OURS, LLAMA, CANDLE), "m", 2, "avx512"))
        self.assertEqual((found["prefill-128-fa"]["bar"], found["prefill-128-blas"]["bar"]), (5.0, 2.5))
        self.assertEqual((found["decode-64"]["model"], found["decode-64"]["threads"]), ("m", 2))
        self.assertNotIn("bar", found["prefill-128-candle"])
        below = {row["case"] for row in rows.missed(found.values())}
        self.assertEqual(below, {"prefill-128-fa", "decode-64", "load"})
        narrow = by_case(rows.finish(rows.peer_rows(OURS, LLAMA, {}), "m", 2, "avx2"))
        self.assertEqual({row["case"] for row in rows.missed(narrow.values())}, {"load"})

    def test_depth_and_length_do_not_change_the_bar(self):
        self.assertEqual(rows.bar("decode-256-at-1024", "avx512", "smollm2-135m-q8_0"), 2.2)
        self.assertEqual(rows.bar("tool-call-warm", "avx2", "smollm2-135m-q4_1"), 3.0)
        self.assertIsNone(rows.bar("first-token-512-cold", "avx512", "smollm2-135m-q4_1"))
        self.assertEqual(rows.bar("decode-64", "avx512", "gemma3-270m-q4_k_m"), 1.3)
        self.assertEqual(rows.bar("load", "avx512", "gemma3-270m-q4_k_m"), 1.0)

    def test_the_file_is_what_the_table_shows(self):
        found = rows.finish(rows.peer_rows(OURS, LLAMA, CANDLE), "m", 1, "avx512")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bench", "inference.json")
            rows.write(found, path)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file), found)
        lines = rows.table(found)
        self.assertEqual(len(lines), len(found) + 1)
        self.assertTrue(all(row["peer_name"] in line for row, line in zip(found, lines[1:])))

    def test_only_groups_that_there_are_can_be_asked_for(self):
        self.assertEqual(inference.groups("blas,tool-call"), ["blas", "tool-call"])
        with self.assertRaises(argparse.ArgumentTypeError):
            inference.groups("blas,speed")


class Calls(unittest.TestCase):
    def setUp(self):
        self.requests, self.tools = tool_call.load()

    def test_there_are_forty_tools_and_several_requests(self):
        names = {tool["function"]["name"] for tool in self.tools}
        self.assertEqual((len(self.tools), len(names)), (40, 40))
        self.assertGreaterEqual(len(set(self.requests)), 5)

    def test_the_tools_use_no_word_that_is_not_checked(self):
        def words(schema):
            yield from schema
            for inner in schema.get("properties", {}).values():
                yield from words(inner)
            if "items" in schema:
                yield from words(schema["items"])

        used = {word for tool in self.tools for word in words(tool["function"]["parameters"])}
        self.assertLessEqual(used, WORDS)

    def test_valid_calls_are_told_from_others(self):
        valid = '{"interface": "eth0", "address": "10.0.0.2", "prefix": 24}'
        self.assertIsNone(tool_call.call_fault("network_set_address", valid, self.tools))
        for name, arguments in [
            ("network_set_adress", valid),
            ("network_set_address", valid[:-1]),
            ("network_set_address", valid.replace("eth0", "eth9")),
            ("network_set_address", valid.replace("10.0.0.2", "here")),
            ("network_set_address", valid.replace("24", "64")),
            ("network_set_address", valid.replace("24", "true")),
            ("network_set_address", valid.replace("}", ', "x": 1}')),
            ("network_set_address", '{"interface": "eth0"}'),
            ("dns_set", '{"servers": []}'),
            ("dns_set", '{"servers": ["name"]}'),
            ("memory_search", json.dumps({"query": "x" * 81, "limit": 1})),
            ("system_info", "[]"),
        ]:
            self.assertIsNotNone(tool_call.call_fault(name, arguments, self.tools), (name, arguments))

    def test_answers_of_both_sides_are_read(self):
        call = {"function": {"name": "system_info", "arguments": "{}"}}
        ours = {"choices": [{"message": {"tool_calls": [call]}}]}
        peer = {"choices": [{"message": {"content": '{"name": "system_info", "arguments": {}}'}}]}
        self.assertIsNone(tool_call.our_fault(ours, self.tools))
        self.assertIsNone(tool_call.peer_fault(peer, self.tools))
        cut = {"choices": [{"message": {"content": '{"name": "system_in'}}]}
        self.assertIsNotNone(tool_call.peer_fault(cut, self.tools))
        self.assertIsNotNone(tool_call.our_fault({"choices": [{"message": {"content": "Hello"}}]}, self.tools))

    def test_only_pairs_of_valid_calls_are_timed(self):
        class Side:
            name = "side"

            def __init__(self, answers):
                self.answers = iter(answers)

            def post(self, _path, _body):
                return next(self.answers), 10.0

        def answered(content):
            return {"choices": [{"message": {"content": content}}]}

        call = {"function": {"name": "system_info", "arguments": "{}"}}
        count = tool_call.CALLS
        ours = Side([{"choices": [{"message": {"tool_calls": [call]}}]}] * count)
        theirs = Side([answered('{"name": "system_info", "arguments": {}}')] * (count - 1) + [answered("{")])
        race = tool_call.race(ours, theirs, 0)
        self.assertEqual((len(race.cold), len(race.warm), race.calls), (1, count - 2, count))
        self.assertEqual(race.failures, {"ours": 0, "peer": 1})


if __name__ == "__main__":
    unittest.main()
