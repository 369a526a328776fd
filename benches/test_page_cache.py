"""What the kernel keeps of files."""

import os
import subprocess
import tempfile
import unittest

import page_cache


class PageCache(unittest.TestCase):
    def test_what_was_read_is_cached_until_it_is_let_go(self):
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(__file__))) as folder:
            kind = subprocess.check_output(["stat", "--file-system", "--format=%T", folder], text=True).strip()
            path = os.path.join(folder, "in", "file")
            os.mkdir(os.path.dirname(path))
            with open(path, "wb") as file:
                file.write(bytes(40 * page_cache.PAGE + 1))
            open(os.path.join(folder, "empty"), "wb").close()
            self.assertEqual(page_cache.cached(folder), 41 * page_cache.PAGE)
            page_cache.evict(folder)
            if kind in ("tmpfs", "ramfs"):
                # It has no other place to keep them in.
                self.assertEqual(page_cache.cached(folder), 41 * page_cache.PAGE)
                return
            self.assertEqual(page_cache.cached(folder), 0)
            with open(path, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                file.read(1)
            self.assertGreaterEqual(page_cache.cached(folder), page_cache.PAGE)
            self.assertLess(page_cache.cached(folder), 41 * page_cache.PAGE)


if __name__ == "__main__":
    unittest.main()
