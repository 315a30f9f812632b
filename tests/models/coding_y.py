"""The groups of y coded by themselves, given what the hyperprior would say of them."""

from types import SimpleNamespace

from glc_jax.entropy import groups


def code_y(context, y, prior, quantise=groups.rounded) -> groups.CodedLatent:
    """y [B, H, W, C] through a context model bound to its variables."""
    model = SimpleNamespace(context=context, hyperprior=SimpleNamespace(prior=lambda: prior))
    derived = {"prior": groups.Derived("hyperprior", "prior", ())}
    of_y = groups.EntropyModel(context.latents(), context.groups(), derived)
    return of_y.code(model, {"y": y}, quantise)["y"]
