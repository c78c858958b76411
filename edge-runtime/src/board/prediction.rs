//! How long an inference should take on a board nobody has measured yet: a stated model, to be held against `bench`
//! there.
//!
//! `ms = instructions / (instructions a cycle · clock) + bytes of weights / memory rate`. Instructions are counted
//! under emulation; instructions a cycle and memory rate are the board file's assumptions.

use crate::board::Board;
use crate::network::Network;
use crate::operators::Op;

/// Instructions of an inference on one kernel: so many a multiply-accumulate, so many a code that a layer gives.
struct Cost {
    kernel: &'static str,
    each_mac: f64,
    each_code: f64,
}

/// Fitted by least squares to counts of four networks (MobileNetV2, ResNet50, DenseNet121, EfficientNet-Lite0), profile
/// `device`, under QEMU, which they meet within 9 % (docs/performance-engine.md).
const COSTS: [Cost; 3] = [
    Cost { kernel: "i8mm", each_mac: 0.0451, each_code: 4.13 },
    Cost { kernel: "dotprod", each_mac: 0.0798, each_code: 3.69 },
    Cost { kernel: "neon", each_mac: 0.2369, each_code: 4.40 },
];

/// A predicted latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Milliseconds of one inference on one thread.
    pub ms: f64,
    /// The kernel that the board's processor would run.
    pub kernel: &'static str,
    /// Millions of instructions.
    pub instructions_m: f64,
}

/// Predicts an inference of `network` on `board`; `None` where the board file assumes nothing, or layers are float:
/// tract runs those, and its instructions were not counted.
pub fn predict(network: &Network, board: &Board) -> Option<Prediction> {
    if network.nodes.iter().any(|node| matches!(node.op, Op::Float(_))) {
        return None;
    }
    let assumed = board.assumed.as_ref()?;
    let cost = COSTS.iter().find(|c| board.features.iter().any(|f| f == c.kernel))?;
    // A concatenation's parts lie in place.
    let given = network.nodes.iter().filter(|n| !matches!(n.op, Op::Concat(_))).filter_map(|n| n.output);
    let codes: usize = given.map(|v| network.values[v as usize].len()).sum();
    let weights: u64 = network.nodes.iter().map(|n| network.node_weights(n)).sum();
    let instructions = network.macs() as f64 * cost.each_mac + codes as f64 * cost.each_code;
    let cycles = instructions / assumed.instructions_per_cycle;
    let ms = cycles / (f64::from(board.clock_mhz) * 1e3) + weights as f64 / (assumed.memory_mb_per_s * 1e3);
    Some(Prediction { ms, kernel: cost.kernel, instructions_m: instructions / 1e6 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Compute;
    use crate::model::Model;

    #[test]
    fn counted_instructions_of_the_default_model_are_met() {
        let model = Model::embedded(&Compute::default()).unwrap();
        let network = model.network.unwrap();
        // Counted by benches/arm-instructions.sh.
        for (board, counted) in [("raspberry-pi-3b", 49.4), ("raspberry-pi-5", 23.2)] {
            let p = predict(&network, &Board::find(board).unwrap()).unwrap();
            assert!((p.instructions_m / counted - 1.0).abs() < 0.11, "{board} {p:?}");
        }
    }

    #[test]
    fn faster_boards_are_predicted_faster_and_the_host_not_at_all() {
        let network = Model::embedded(&Compute::default()).unwrap().network.unwrap();
        let ms = |board: &str| predict(&network, &Board::find(board).unwrap()).map(|p| p.ms);
        assert!(ms("raspberry-pi-zero-2w") > ms("raspberry-pi-4") && ms("raspberry-pi-4") > ms("raspberry-pi-5"));
        assert_eq!(ms("host"), None);
    }
}
