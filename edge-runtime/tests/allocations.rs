//! Steady state allocates nothing but what it gives: logits and map.

use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::Model;

#[test]
fn an_inference_allocates_no_activation() {
    let model = Model::embedded(&Compute::default()).unwrap();
    let size = model.contract.input.size;
    let pixels = (0..size * size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let plane = GreyPlane::square(size, pixels);
    // The first makes the arena and the scratch buffers.
    model.infer(&plane).unwrap();
    let runs: Vec<_> = (0..3).map(|_| allocation_counter::measure(|| drop(model.infer(&plane).unwrap()))).collect();
    for run in &runs {
        assert!(run.count_total <= 8 && run.bytes_total < 1024, "{run:?}");
        assert_eq!(run.bytes_current, 0, "{run:?}");
    }
}
