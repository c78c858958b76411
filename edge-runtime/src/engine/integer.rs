//! Integer networks: `u8` in, `u8` out, one pass a layer.

use super::arena::Arena;
use super::tract::{Chain, Driver, State};
use super::{Activation, Compute, EngineError, Layer, View};
use crate::network::{Network, Node, Value};
use crate::operators::PreparedLogits;
use kernels::team::Team;
use std::sync::Mutex;

/// An integer network ready to run.
pub struct IntegerPlan {
    driver: Driver,
    input: View,
    map: Option<View>,
    /// The layer that ends the network. It gives real numbers, so it stands outside the graph of codes.
    logits: Box<dyn PreparedLogits>,
    team: Team,
    /// States that no inference uses now.
    idle: Mutex<Vec<State>>,
}

impl IntegerPlan {
    /// Prepares `network` (checked by [`Network::check`]) and lets tract plan it. The codes of the weights move into
    /// the plan, packed for the kernel; `network` keeps the rest.
    pub fn new(network: &mut Network, compute: &Compute) -> Result<IntegerPlan, EngineError> {
        let arena = Arena::plan(network);
        let mut chain = Chain::new(network.nodes.len(), arena.len)?;
        let mut logits = None;
        for node in &mut network.nodes {
            let inputs = activations(&network.values, &arena, &node.inputs);
            match node.output {
                None => logits = Some(node.op.prepare_logits(&inputs, compute)?),
                Some(output) => {
                    let output = activation(&network.values, &arena, output);
                    let layer = layer(node, inputs, output, compute);
                    let step = node.op.prepare(&layer)?;
                    chain.push(&node.name, layer, step)?;
                }
            }
        }
        Ok(IntegerPlan {
            driver: chain.plan()?,
            input: arena.views[0],
            map: network.map.map(|m| arena.views[m as usize]),
            logits: logits.ok_or_else(|| EngineError("the network gives no logits".into()))?,
            team: compute.team.clone(),
            idle: Mutex::default(),
        })
    }

    /// Number of logits.
    pub fn logits(&self) -> usize {
        self.logits.count()
    }

    /// Runs one inference: `fill` writes the input's codes `[h, w, c]`; `read` gets logits and the codes of the map, if
    /// the network has one.
    pub fn run<R>(
        &self,
        fill: impl FnOnce(&mut [u8]),
        read: impl FnOnce(Vec<f32>, Option<&[u8]>) -> R,
    ) -> Result<R, EngineError> {
        let idle = self.idle.lock().ok().and_then(|mut states| states.pop());
        let mut state = match idle {
            Some(state) => state,
            None => self.driver.spawn()?,
        };
        self.team.lead(|| state.run(|arena| fill(&mut arena[self.input.range()])))?;
        let arena = state.arena()?;
        let result = read(self.logits.run(arena)?, self.map.map(|m| &arena[m.range()]));
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(state);
        }
        Ok(result)
    }
}

fn activation(values: &[Value], arena: &Arena, value: u32) -> Activation {
    Activation { view: arena.views[value as usize], value: values[value as usize].clone() }
}

fn activations(values: &[Value], arena: &Arena, of: &[u32]) -> Vec<Activation> {
    of.iter().map(|value| activation(values, arena, *value)).collect()
}

fn layer(node: &Node, inputs: Vec<Activation>, output: Activation, compute: &Compute) -> Layer {
    Layer { inputs, output, low: node.low, high: node.high, compute: compute.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Weights, Window};
    use crate::operators::{Conv, Logits, Op};

    fn node(op: Op, input: u32, output: Option<u32>) -> Node {
        Node { name: "n".into(), op, inputs: vec![input], output, low: 0, high: 255 }
    }

    #[test]
    fn a_window_that_fits_once_reads_its_own_rows() {
        // 3×3 over 5×5 with stride 3: one output pixel, whose rows do not lie side by side.
        let weights = |n: usize| Weights { codes: vec![1; n], scales: vec![1.0], bias: vec![0] };
        let value = |side: u32, scale: f32| Value { shape: [side, side, 2], scale, zero_point: 0 };
        let window = Window { kernel: [3; 2], stride: [3; 2], ..Window::one() };
        let mut network = Network {
            values: vec![value(5, 1.0), Value { shape: [1, 1, 1], scale: 1.0, zero_point: 0 }],
            nodes: vec![
                node(Conv { window, groups: 1, weights: weights(18) }.into(), 0, Some(1)),
                node(Logits { weights: weights(1) }.into(), 1, None),
            ],
            map: None,
        };
        network.check().unwrap();
        let plan = IntegerPlan::new(&mut network, &Compute::default()).unwrap();
        // Ones inside the window, nines outside.
        let fill = |codes: &mut [u8]| {
            for (i, code) in codes.iter_mut().enumerate() {
                *code = if i / 10 < 3 && i % 10 < 6 { 1 } else { 9 };
            }
        };
        assert_eq!(plan.run(fill, |logits, _| logits).unwrap(), [18.0]);
    }

    /// A convolution by its definition; codes of the output.
    fn defined(window: &Window, groups: usize, weights: &Weights, [x, y]: [&Value; 2], codes: &[u8]) -> Vec<u8> {
        let [height, width, channels] = x.shape.map(i64::from);
        let [out_height, out_width, outputs] = y.shape.map(|d| d as usize);
        let (in_group, out_group) = (channels as usize / groups, outputs / groups);
        let (taps, zero) = (window.kernel[0] as usize * window.kernel[1] as usize, i32::from(x.zero_point));
        let at = |axis: usize, window_at: usize, tap: usize| {
            let tap = tap as i64 * i64::from(window.dilation[axis]);
            window_at as i64 * i64::from(window.stride[axis]) - i64::from(window.padding[axis]) + tap
        };
        let mut out = Vec::new();
        for place in 0..out_height * out_width * outputs {
            let (pixel, o) = (place / outputs, place % outputs);
            let mut sum = weights.bias[o];
            for k in 0..taps * in_group {
                let (tap, c) = (k / in_group, o / out_group * in_group + k % in_group);
                let across = window.kernel[1] as usize;
                let (iy, ix) = (at(0, pixel / out_width, tap / across), at(1, pixel % out_width, tap % across));
                if (0..height).contains(&iy) && (0..width).contains(&ix) {
                    let code = codes[((iy * width + ix) * channels) as usize + c];
                    sum += (i32::from(code) - zero) * i32::from(weights.codes[o * taps * in_group + k]);
                }
            }
            let steps = sum as f32 * (x.scale * weights.scales[o] / y.scale);
            out.push((steps.round_ties_even() + f32::from(y.zero_point)).clamp(0.0, 255.0) as u8);
        }
        out
    }

    #[test]
    fn convolutions_of_any_groups_equal_the_definition() {
        let mut seed = 1u32;
        let mut next = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let mut seen = [0; 3];
        for _ in 0..600 {
            let (in_group, out_group) = (1 + next(9), 1 + next(20));
            let groups = 1 + next(5);
            let window = Window {
                kernel: [1 + next(3), 1 + next(3)],
                stride: [1 + next(2), 1 + next(2)],
                padding: [next(3), next(3), next(3), next(3)].map(|p| if next(2) == 0 { 0 } else { p }),
                dilation: [1 + next(2), 1 + next(2)],
            };
            let size = [1 + next(8), 1 + next(8)];
            let Some([height, width]) = window.output(size) else { continue };
            let (channels, outputs) = (groups * in_group, groups * out_group);
            let x = Value { shape: [size[0], size[1], channels], scale: 0.02, zero_point: next(256) as u8 };
            let y = Value { shape: [height, width, outputs], scale: 0.05, zero_point: next(256) as u8 };
            let depth = window.kernel[0] * window.kernel[1] * in_group;
            let weights = Weights {
                codes: (0..depth * outputs).map(|_| next(256) as u8 as i8).collect(),
                scales: (0..outputs).map(|i| 0.001 * (1 + i) as f32).collect(),
                bias: (0..outputs).map(|_| next(2000) as i32 - 1000).collect(),
            };
            let codes: Vec<u8> = (0..x.len()).map(|_| next(256) as u8).collect();
            let want = defined(&window, groups as usize, &weights, [&x, &y], &codes);
            let sum = Weights { codes: vec![1; y.len()], scales: vec![1.0], bias: vec![0] };
            let mut network = Network {
                values: vec![x, y],
                nodes: vec![
                    node(Conv { window, groups, weights }.into(), 0, Some(1)),
                    node(Logits { weights: sum }.into(), 1, None),
                ],
                map: Some(1),
            };
            let case = format!("{window:?} {groups} groups of {in_group} → {out_group}, {size:?}");
            network.check().unwrap();
            let plan = IntegerPlan::new(&mut network, &Compute::default()).unwrap();
            let got = plan.run(|to| to.copy_from_slice(&codes), |_, map| map.map(<[u8]>::to_vec)).unwrap();
            assert_eq!(got.as_deref(), Some(&want[..]), "{case}");
            seen[(groups.min(2) + u32::from(in_group * out_group == 1 && groups > 1)) as usize - 1] += 1;
        }
        assert!(seen.iter().all(|n| *n > 0), "dense, grouped and depthwise: {seen:?}");
    }
}
