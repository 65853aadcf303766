import pytest
import torch

pytest.importorskip('mmpretrain')

from mmspike.models.classification import AttentionPoolClsHead  # noqa: E402


def test_pools_all_tokens_of_all_steps():
    head = AttentionPoolClsHead(num_classes=3, in_channels=4)
    x = torch.randn(2, 5, 4, 3, 2)
    tokens = [head.norm(x[t, 1, :, i, j]) for t in range(2) for i in range(3) for j in range(2)]
    weights = torch.stack([head.score(token) for token in tokens]).softmax(0)
    pooled = sum(w * token for w, token in zip(weights, tokens, strict=True))
    torch.testing.assert_close(head((x,))[1], head.fc(pooled))
    assert head((x,)).shape == (5, 3)


def test_bad_input():
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        AttentionPoolClsHead(num_classes=3, in_channels=4)((torch.randn(2, 4, 3, 3),))
    with pytest.raises(ValueError, match='num_classes must be positive, got 0'):
        AttentionPoolClsHead(num_classes=0, in_channels=4)
