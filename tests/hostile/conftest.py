"""Helpers that assert; here, since all tests of this folder import them."""

import pytest

pytest.register_assert_rewrite("kit.clusters.hostile")
