"""Everything that ffoadapt asks of a framework: values, gradients, batches, dtypes."""

from typing import Any

import ffoadapt.testing
from ffoadapt_template._tape import Array, gradient


class TestTemplate(ffoadapt.testing.FrameworkSuite):
    framework = "template"

    def array(self, value: Any, dtype: str) -> Any:
        return Array(value.astype(dtype))

    def to_numpy(self, array: Any) -> Any:
        return array.value

    def gradient(self, function: Any, arrays: Any) -> Any:
        return gradient(function, arrays)
