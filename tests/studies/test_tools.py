"""The table of tools on the page of the layer: a wrong result shows, and a refusal is told."""

import pytest
import torch

from bnkit.layers import modules
from bnkit.studies import tools


def test_no_tool_is_wrong_about_ours_and_all_take_it():
    found = tools.grid(seed=1)
    assert found.keys() == tools.TOOLS.keys()
    for tool, outcomes in found.items():
        theirs, ours, relu, _ = (outcome.word for outcome in outcomes)
        assert "WRONG" not in (ours, relu), tool
        assert ours == theirs or theirs == "refused", tool
    refused = {tool for tool, outcomes in found.items() if outcomes[2].word == "refused"}
    assert refused == {
        "`fuse_conv_bn_eval`",
        "`SyncBatchNorm.convert_sync_batchnorm`",
        "`restore`",
    }
    assert "has a ReLU inside" in found["`fuse_conv_bn_eval`"][2].error


def test_a_lost_relu_shows(monkeypatch):
    """As it was lost before tools were refused."""
    monkeypatch.setattr(modules, "_eps_for", lambda frame, layer: vars(layer)["eps"])
    assert tools.outcome("`fuse_conv_bn_eval`", "ours with a ReLU inside").word == "WRONG"


@pytest.mark.parametrize("kind", tools.KINDS)
def test_networks_are_the_same_but_for_the_norm(kind):
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    y, change = tools.network("torch.nn")(x), {"ours with a ReLU inside": torch.relu}
    wanted = 2 * y if "subclass" in kind else change.get(kind, torch.clone)(y)
    torch.testing.assert_close(tools.network(kind)(x), wanted)
