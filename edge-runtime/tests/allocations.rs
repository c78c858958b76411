//! Steady state allocates nothing but what it gives: logits and map.

use edge_runtime::model::Model;
use edge_runtime::preprocess::Frame;

#[test]
fn an_inference_allocates_no_activation() {
    edge_runtime::engine::kernels::team::lead(1).unwrap();
    let model = Model::embedded().unwrap();
    let size = model.contract.input.size;
    let frame = Frame { size, pixels: (0..size * size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect() };
    // The first makes the arena and the scratch buffers.
    model.infer(&frame).unwrap();
    let runs: Vec<_> = (0..3).map(|_| allocation_counter::measure(|| drop(model.infer(&frame).unwrap()))).collect();
    for run in &runs {
        assert!(run.count_total <= 8 && run.bytes_total < 1024, "{run:?}");
        assert_eq!(run.bytes_current, 0, "{run:?}");
    }
}
