"""Loads libvrwkv_ops.so in Python: autograd, autocast and torch.library.opcheck. Usage: python_op_test.py LIBRARY"""

import sys

import torch


def inputs(dtype):
    torch.manual_seed(0)
    w, u = torch.randn(12, dtype=dtype) / 9, torch.randn(12, dtype=dtype)
    k, v = torch.randn(2, 9, 12, dtype=dtype), torch.randn(2, 9, 12, dtype=dtype)
    return [t.requires_grad_() for t in (w, u, k, v)]


def formula(w, u, k, v):
    t = torch.arange(k.shape[1])
    distance = (t[:, None] - t[None, :]).abs()[None, :, :, None]
    exponents = torch.where(distance == 0, k[:, None] + u, k[:, None] - (distance - 1) * w)
    return (exponents.softmax(2) * v[:, None]).sum(2)


def inputs6(dtype):
    torch.manual_seed(1)
    r, k, v, w = (torch.randn(1, 5, 64, dtype=dtype) for _ in range(4))
    return [t.requires_grad_() for t in (r, k, v, w - 1, torch.randn(1, 64, dtype=dtype))]


def formula6(r, k, v, w, u):
    decay, rows = torch.exp(-torch.exp(w)), []
    for t in range(k.shape[1]):
        y = (r[:, t] * u * k[:, t]).sum(-1, True) * v[:, t]
        for s in range(k.shape[1]):
            if s != t:
                faded = decay[:, min(s, t) + 1 : max(s, t)].prod(1)
                y = y + (r[:, t] * faded * k[:, s]).sum(-1, True) * v[:, s]
        rows.append(y)
    return torch.stack(rows, 1)


def main():
    torch.ops.load_library(sys.argv[1])
    op = torch.ops.vrwkv.bi_wkv.default
    arguments = inputs(torch.float64)
    torch.testing.assert_close(op(*arguments), formula(*arguments), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(op, arguments)
    torch.library.opcheck(op, inputs(torch.float32))
    torch.library.opcheck(torch.ops.vrwkv.q_shift.default, (torch.randn(2, 6, 8, requires_grad=True), 2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert op(*inputs(torch.float32)).dtype == torch.bfloat16

    op = torch.ops.vrwkv.bi_wkv6.default
    arguments = inputs6(torch.float64)
    torch.testing.assert_close(op(*arguments), formula6(*arguments), rtol=1e-12, atol=1e-12)
    gy = torch.randn_like(arguments[0])
    expected, actual = (torch.autograd.grad(f(*arguments), arguments, gy) for f in (formula6, op))
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    torch.library.opcheck(op, inputs6(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        assert op(*inputs6(torch.float32)).dtype == torch.bfloat16
    print("ok")


if __name__ == "__main__":
    main()
