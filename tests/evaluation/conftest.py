"""What the tests of evaluations share."""

from tests.test_evaluation import folder

__all__ = ["folder"]
