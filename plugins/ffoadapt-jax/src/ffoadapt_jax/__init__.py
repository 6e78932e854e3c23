"""Registers JAX; imports it only at first use."""

from ffoadapt import FrameworkSpec, hookimpl


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """JAX arrays and transformations."""
    return [
        FrameworkSpec(
            "jax",
            load="ffoadapt_jax._framework:JaxFramework",
            requires=("jax",),
            modules=("jax", "jaxlib"),
            mixes_with=("numpy",),
        )
    ]
