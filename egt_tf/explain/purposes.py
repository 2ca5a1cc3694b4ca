"""What each method that explains is good for; without TensorFlow, since a shell that completes names asks for it."""

from __future__ import annotations

import types

# What each method is good for, in the order in which to try them. What is said of quality was measured on photographs
# (docs/explaining.md).
PURPOSES = types.MappingProxyType(
    {
        "epsilon_plus": "the first to trust: relevance lies on what is recognised; with --start margin above all",
        "epsilon_gamma_box": "a second opinion at twice the cost: finds best which pixels the score breaks down without",
        "fsc": "what guided training of RelationNet and graph networks uses: what the model was taught with",
        "fsc_can": "the same for cross attention (CAN)",
        "fsc_gamma": "fsc with another rule for convolutions, to see what hangs on the rule",
        "epsilon_alpha2_beta1_flat": "for comparison: evidence against a class counts half as much as evidence for it",
        "epsilon": "for shallow networks; in deep ones relevance grows from layer to layer and says little",
        "vit_gamma": "for vision transformers: try some conv_gamma and dense_gamma, and compare by deletion",
        "cp_lrp": "for vision transformers: what attention carried, not what it attended by",
        "attn_lrp": "for vision transformers: what attention attended by too, which is not conserved",
        "lrp.sequential_preset_a": "for comparison: innvestigate's own choice for image classifiers, by our engine",
        "grad_cam": "where the query was looked at, coarsely: regions, not pixels",
        "integrated_gradients": "for comparison with gradient methods: the mean change from zero to the image",
        "smoothgrad": "for comparison with gradient methods: the gradient with less noise",
        "smooth_taylor": "for comparison with gradient methods: what the score gains from noisy images to this one",
        "smooth_taylor_adaptive": "smooth_taylor with the noise that suits the image; takes minutes",
        "smoothgrad_adaptive": "smoothgrad with the noise that suits the image; takes minutes",
        "gradient": "which pixels would change the score most, not what it came from; finds them no better than chance",
        "input_times_gradient": "as gradient, and no better than chance either",
        "guided_backprop": "for comparison only: sharp edges that have little to do with the prediction",
    }
)
