"""Kernel times: kinds by name, and no instant counted twice where kernels overlap."""

import pytest

from inference_benchmark.system.kernel_profile import attribute, kind_of, least_waiting


@pytest.mark.parametrize(
    ("name", "kernel_kind"),
    [
        ("nvjet_sm90_tst_128x8_64x12_2x1_v_bz_TNT", "matmul"),
        ("void cublasLt::splitKreduce_kernel<32, 16, i", "matmul"),
        ("_gemv_kernel", "matmul"),
        ("_integer_gemv_kernel", "matmul"),
        ("_few_rows_bytes_kernel", "matmul"),
        ("_unpack_kernel", "matmul"),
        ("_expert_gate_up_gemv_kernel", "matmul"),
        ("_flash_decode_kernel", "attention"),
        ("_latent_decode_kernel", "attention"),
        ("_rope_decode_kernel", "attention"),
        ("_add_norm_kernel", "norm, elementwise"),
        ("_latent_combine_kernel", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd", "attention"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "communication"),
        ("_push_all_reduce_kernel", "communication"),
        ("triton_red_fused__fused_rms_norm_add_0", "norm, elementwise"),
        ("triton_red_fused__fused_rms_norm_add_gemv_1", "norm, elementwise"),
        ("triton_poi_fused_gemv_mul_silu_split_2", "norm, elementwise"),
        ("triton_poi_fused_all_reduce_flash_decode_view_0", "norm, elementwise"),
        ("triton_red_fused_mm_0", "matmul"),
        ("triton_tem_fused_mm_7", "matmul"),
        ("_rope_and_cache_kernel", "norm, elementwise"),
    ],
)
def test_kinds(name, kernel_kind):
    assert kind_of(name) == kernel_kind


def test_overlapping_kernels_share_no_instant():
    # b starts while a runs, c lies inside b, d follows after a gap of 5
    spans = [(0, 10, "a"), (6, 20, "b"), (8, 12, "c"), (25, 30, "d"), (30, 34, "a")]
    seconds, calls = attribute(spans, repeats=2)
    expected = {"a": 14, "b": 10, "c": 0, "d": 5}
    assert seconds == pytest.approx({name: us * 1e-6 / 2 for name, us in expected.items()})
    assert calls == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert sum(seconds.values()) == pytest.approx((34 - 5) * 1e-6 / 2)


def test_of_several_ranks_the_last_to_arrive_shows_what_communication_takes():
    def phase(communication: float, matmul: float) -> dict:
        return {"by_kind": {"communication": communication, "matmul": matmul}}

    first = {"prefill": phase(0.3, 1.0), "decode": phase(0.9, 1.1)}
    second = {"prefill": phase(0.5, 1.2), "decode": phase(0.1, 1.3)}
    profile = least_waiting([first, second])
    assert profile == {"prefill": first["prefill"], "decode": second["decode"]}
    assert least_waiting([first]) == first
