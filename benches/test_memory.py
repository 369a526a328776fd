"""The arithmetic of the benchmark of search among embeddings."""

import unittest

import memory_figures as figures
import rows

OURS = {"times": [[1000, 3000, 2000], [9000, 9000, 9000], [2000, 2000, 2000]], "recall": 0.99, "breadth": 16,
        "ingest": 5000, "complete": 1000, "resident": 2**20, "memory": 2**20, "each": None}
PEER = OURS | {"times": [[4000] * 3], "ingest": 2500, "complete": 2500, "resident": 2**19, "memory": 2**21, "each": 1000.0}


class Figures(unittest.TestCase):
    def test_recall_counts_the_neighbours_that_were_found_of_all_queries(self):
        self.assertEqual(figures.recall([[1, 2], [3]], [[2, 1], [4, 3]]), 0.75)
        self.assertEqual(figures.recall([[5, 5], []], [[5, 6], [7, 8]]), 0.25)
        with self.assertRaises(ValueError):
            figures.recall([[1]], [[1], [2]])

    def test_a_quantile_is_a_value_of_the_sample(self):
        values = list(range(100, 0, -1))
        self.assertEqual([figures.quantile(values, part) for part in (0, 0.5, 0.99, 1)], [1, 51, 100, 100])

    def test_the_first_breadth_with_enough_recall_is_taken_else_the_last(self):
        reached = {16: 0.9, 24: 0.985, 32: 0.999}
        self.assertEqual(figures.enough(reached.get, (16, 24, 32)), (24, 0.985))
        self.assertEqual(figures.enough(reached.get, (16,)), (16, 0.9))

    def test_rows_compare_medians_of_rounds_and_less_time_is_better(self):
        found = {row["case"]: row for row in figures.rows(10, OURS, {"peer": PEER}) if row["case"] != "recall"}
        self.assertEqual((found["search-p50"]["ours"], found["search-p50"]["ratio"]), (2.0, 2.0))
        self.assertEqual((found["search-p99"]["ours"], found["search-p99"]["peer"]), (3.0, 4.0))
        self.assertEqual((found["search-mean"]["peer"], found["search-mean"]["ratio"]), (1.0, 0.5))
        self.assertEqual((found["ingest"]["ratio"], found["ingest-complete"]["ratio"]), (2.0, 0.4))
        self.assertEqual((found["resident"]["unit"], found["resident"]["ratio"]), ("MiB", 0.5))
        self.assertEqual((found["memory"]["unit"], found["memory"]["ratio"]), ("MiB", 2.0))

    def test_every_subject_says_its_recall_and_the_table_shows_it(self):
        found = figures.rows(10, OURS, {"peer": PEER})
        self.assertEqual([row["peer_name"] for row in found if row["case"] == "recall"], ["aiOS", "peer"])
        lines = rows.table(found, figures.COLUMNS)
        self.assertEqual(len({line.index("us") for line in lines if "search-p" in line}), 1)
        self.assertIn("0.99", lines[-1])


if __name__ == "__main__":
    unittest.main()
