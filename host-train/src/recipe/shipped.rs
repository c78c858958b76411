//! The recipes that ship with the program.

/// Name and text of each.
pub const RECIPES: [(&str, &str); 21] = [
    ("a-custom-cnn", include_str!("../../recipes/a-custom-cnn.toml")),
    ("a-densenet121-last20", include_str!("../../recipes/a-densenet121-last20.toml")),
    ("a-densenet121-last50", include_str!("../../recipes/a-densenet121-last50.toml")),
    ("a-resnet50-last20", include_str!("../../recipes/a-resnet50-last20.toml")),
    ("a-resnet50-last50", include_str!("../../recipes/a-resnet50-last50.toml")),
    ("b-baseline-cnn", include_str!("../../recipes/b-baseline-cnn.toml")),
    ("b-densenet121-frozen", include_str!("../../recipes/b-densenet121-frozen.toml")),
    ("b-mobilenetv2-finetuned", include_str!("../../recipes/b-mobilenetv2-finetuned.toml")),
    ("b-mobilenetv2-frozen", include_str!("../../recipes/b-mobilenetv2-frozen.toml")),
    ("b-regularised-cnn", include_str!("../../recipes/b-regularised-cnn.toml")),
    ("c-resnet50-last40", include_str!("../../recipes/c-resnet50-last40.toml")),
    ("d-custom-cnn", include_str!("../../recipes/d-custom-cnn.toml")),
    ("d-resnet50-two-stage", include_str!("../../recipes/d-resnet50-two-stage.toml")),
    ("e-mobilenetv2", include_str!("../../recipes/e-mobilenetv2.toml")),
    ("e-scratch-cnn", include_str!("../../recipes/e-scratch-cnn.toml")),
    ("efficientnet-lite0-160", include_str!("../../recipes/efficientnet-lite0-160.toml")),
    ("kermany-bacterial-viral", include_str!("../../recipes/kermany-bacterial-viral.toml")),
    ("mobilenet-v2", include_str!("../../recipes/mobilenet-v2.toml")),
    ("mobilenet-v2-160", include_str!("../../recipes/mobilenet-v2-160.toml")),
    ("mobilenet-v2-probe", include_str!("../../recipes/mobilenet-v2-probe.toml")),
    ("phantom-cnn", include_str!("../../recipes/phantom-cnn.toml")),
];
