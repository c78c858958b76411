//! Where every activation lives in the one buffer of an inference: planned once, so that steady state allocates
//! nothing.
//!
//! Two things share bytes: activations that are never needed at the same time, and the inputs of a concatenation with
//! its output, where the scales agree; such a concatenation costs nothing.

use crate::network::Network;
use crate::operators::Op;

/// Start of every buffer: a cache line.
const ALIGN: usize = 64;

/// Where one activation lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// First code.
    pub offset: usize,
    /// Codes from one pixel to the next: more than the channels where the activation is part of a concatenation.
    pub pixel_stride: usize,
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
}

impl View {
    /// Codes from the first to the last, others' codes between the pixels included.
    pub fn range(&self) -> std::ops::Range<usize> {
        let [h, w, c] = self.shape;
        self.offset..self.offset + (h * w - 1) * self.pixel_stride + c
    }

    /// Pixels.
    pub fn pixels(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// True if the codes lie side by side.
    pub fn is_contiguous(&self) -> bool {
        self.pixel_stride == self.shape[2] || self.pixels() == 1
    }
}

/// The plan.
#[derive(Debug)]
pub struct Arena {
    /// One view for each of [`Network::values`].
    pub views: Vec<View>,
    /// Bytes of the buffer.
    pub len: usize,
}

/// A value inside the buffer of another, from a channel on.
#[derive(Clone, Copy, PartialEq)]
struct Slot {
    root: usize,
    channel: usize,
}

impl Arena {
    /// Plans the buffer of `network`, which must be sound ([`Network::check`]).
    pub fn plan(network: &Network) -> Arena {
        let mut alone = vec![false; network.values.len()];
        // Two ports (the input and the map) are read and written from outside as they are.
        alone[0] = true;
        if let Some(map) = network.map {
            alone[map as usize] = true;
        }
        let slots = loop {
            let slots = concatenations(network, &alone);
            // A step may not write into a buffer that it reads.
            let clash = network.nodes.iter().filter(|n| !matches!(n.op, Op::Concat(_))).find_map(|n| {
                let out = n.output? as usize;
                let reads = n.inputs.iter().any(|i| slots[*i as usize].root == slots[out].root);
                (reads && !alone[out]).then_some(out)
            });
            match clash {
                Some(value) => alone[value] = true,
                None => break slots,
            }
        };
        let offsets = offsets(network, &slots);
        let size = |v: usize| network.values[v].shape.map(|d| d as usize);
        let views: Vec<View> = slots
            .iter()
            .enumerate()
            .map(|(v, p)| View { offset: offsets[p.root] + p.channel, pixel_stride: size(p.root)[2], shape: size(v) })
            .collect();
        let len = views.iter().map(|v| v.range().end).max().unwrap_or(0);
        Arena { views, len }
    }
}

/// Puts values into the buffers of the concatenations that they are part of, the last concatenation first: in a dense
/// block (Huang et al. 2017) it holds all others.
fn concatenations(network: &Network, alone: &[bool]) -> Vec<Slot> {
    let values = &network.values;
    let mut slots: Vec<Slot> = (0..values.len()).map(|v| Slot { root: v, channel: 0 }).collect();
    let mut settled = alone.to_vec();
    for node in network.nodes.iter().rev().filter(|n| matches!(n.op, Op::Concat(_))) {
        let Some(out) = node.output.map(|o| o as usize) else { continue };
        let same = |v: usize| {
            (values[v].scale, values[v].zero_point) == (values[out].scale, values[out].zero_point)
                && (node.low, node.high) == (0, 255)
        };
        let mut channel = 0;
        let parts: Vec<(usize, usize)> = node
            .inputs
            .iter()
            .map(|i| {
                let at = channel;
                channel += values[*i as usize].shape[2] as usize;
                (*i as usize, at)
            })
            .collect();
        let first = slots[parts[0].0];
        let in_place = |(v, at): &(usize, usize)| {
            same(*v) && slots[*v] == Slot { root: first.root, channel: first.channel + at } && first.root != *v
        };
        if !settled[out] && slots[out].root == out && parts.iter().all(in_place) {
            slots[out] = first;
            settled[out] = true;
            continue;
        }
        let base = slots[out];
        for (v, at) in parts {
            if same(v) && !settled[v] && slots[v].root == v && v != out {
                // What lies in `v` already moves along.
                let moved = Slot { root: base.root, channel: base.channel + at };
                for p in slots.iter_mut().filter(|p| p.root == v) {
                    *p = Slot { root: moved.root, channel: moved.channel + p.channel };
                }
                settled[v] = true;
            }
        }
    }
    slots
}

/// First fit, the largest buffer first, over the steps during which each is needed.
fn offsets(network: &Network, slots: &[Slot]) -> Vec<usize> {
    let steps = network.nodes.len();
    let mut needed = vec![(usize::MAX, 0); network.values.len()];
    let mut mark = |value: u32, step: usize| {
        let (from, to) = &mut needed[slots[value as usize].root];
        *from = (*from).min(step);
        *to = (*to).max(step);
    };
    mark(0, 0);
    for (step, node) in network.nodes.iter().enumerate() {
        node.inputs.iter().chain(&node.output).for_each(|v| mark(*v, step));
    }
    // What is read when all steps are done: the map, and what the logits are computed from.
    let last = network.nodes.iter().filter(|n| n.output.is_none()).flat_map(|n| &n.inputs);
    last.chain(&network.map).for_each(|v| mark(*v, steps));
    let mut roots: Vec<usize> = (0..slots.len()).filter(|v| slots[*v].root == *v).collect();
    roots.sort_by_key(|v| std::cmp::Reverse(network.values[*v].len()));
    let mut offsets = vec![0; slots.len()];
    let mut taken: Vec<usize> = Vec::new();
    for v in roots {
        let size = network.values[v].len().next_multiple_of(ALIGN);
        let mut busy: Vec<(usize, usize)> = taken
            .iter()
            .filter(|o| needed[**o].0 <= needed[v].1 && needed[v].0 <= needed[**o].1)
            .map(|o| (offsets[*o], offsets[*o] + network.values[*o].len().next_multiple_of(ALIGN)))
            .collect();
        busy.sort_unstable();
        let mut at = 0;
        for (from, to) in busy {
            if at + size <= from {
                break;
            }
            at = at.max(to);
        }
        offsets[v] = at;
        taken.push(v);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Node, Value, Weights, Window};
    use crate::operators::{Concat, Logits, MaxPool, Table};

    fn value(channels: u32, scale: f32) -> Value {
        Value { shape: [4, 4, channels], scale, zero_point: 0 }
    }

    fn node(op: Op, inputs: &[u32], output: u32) -> Node {
        Node { name: String::new(), op, inputs: inputs.to_vec(), output: Some(output), low: 0, high: 255 }
    }

    fn table() -> Op {
        Table { codes: (0..=255).collect() }.into()
    }

    fn pool() -> Op {
        MaxPool { window: Window::one() }.into()
    }

    /// Two layers of a dense block: 2 and 4 are computed from all before them, through 6 and 7 unless `direct`.
    fn dense_block(scale_of_4: f32, direct: bool) -> Network {
        let mut nodes = vec![node(table(), &[0], 1)];
        let mut layer = |from: u32, through: u32, to: u32| match direct {
            true => nodes.push(node(pool(), &[from], to)),
            false => nodes.extend([node(pool(), &[from], through), node(pool(), &[through], to)]),
        };
        layer(1, 6, 2);
        layer(3, 7, 4);
        let at = nodes.len() / 2 + 1;
        nodes.insert(at, node(Concat.into(), &[1, 2], 3));
        nodes.push(node(Concat.into(), &[1, 2, 4], 5));
        let shapes = [(8, 1.0), (8, 1.0), (4, 1.0), (12, 1.0), (4, scale_of_4), (16, 1.0), (8, 1.0), (8, 1.0)];
        Network { values: shapes.map(|(c, s)| value(c, s)).to_vec(), nodes, map: None }
    }

    /// Where each part lies in the buffer of the last concatenation: first channel, and codes between pixels.
    fn parts(network: &Network) -> [(usize, usize); 4] {
        let a = Arena::plan(network);
        [1, 2, 3, 4].map(|v| (a.views[v].offset.wrapping_sub(a.views[5].offset), a.views[v].pixel_stride))
    }

    #[test]
    fn concatenations_of_one_scale_share_a_buffer() {
        assert_eq!(parts(&dense_block(1.0, false)), [(0, 16), (8, 16), (0, 16), (12, 16)]);
    }

    #[test]
    fn another_scale_stays_outside() {
        let got = parts(&dense_block(0.5, false));
        assert_eq!((got[..3].to_vec(), got[3].1), (vec![(0, 16), (8, 16), (0, 16)], 4));
    }

    #[test]
    fn no_step_writes_where_it_reads() {
        let n = dense_block(1.0, true);
        let a = Arena::plan(&n);
        for step in n.nodes.iter().filter(|n| !matches!(n.op, Op::Concat(_))) {
            let x = a.views[step.inputs[0] as usize].range();
            let y = a.views[step.output.unwrap() as usize].range();
            assert!(x.end <= y.start || y.end <= x.start, "{step:?}");
        }
    }

    #[test]
    fn what_the_logits_read_outlives_every_step() {
        let weights = Weights { codes: vec![], scales: vec![], bias: vec![] };
        let mut nodes: Vec<Node> = (0..4).map(|i| node(table(), &[i], i + 1)).collect();
        nodes.insert(1, Node { output: None, ..node(Logits { weights }.into(), &[1], 0) });
        let a = Arena::plan(&Network { values: vec![value(4, 1.0); 5], nodes, map: None });
        let kept = a.views[1].range();
        for later in [2, 3, 4] {
            let other = a.views[later].range();
            assert!(other.end <= kept.start || kept.end <= other.start);
        }
    }

    #[test]
    fn what_is_needed_at_once_never_overlaps() {
        let n = Network {
            values: (0..6).map(|i| value(i + 1, 1.0)).collect(),
            nodes: (0..5).map(|i| node(table(), &[i], i + 1)).collect(),
            map: Some(1),
        };
        let a = Arena::plan(&n);
        for step in 0..5usize {
            let live = [1, step, step + 1];
            for (i, x) in live.iter().enumerate() {
                for y in &live[i + 1..] {
                    let p = a.views[*x].range();
                    let q = a.views[*y].range();
                    assert!(x == y || *x.max(y) < 2 && step == 0 || p.end <= q.start || q.end <= p.start, "{x} {y}");
                }
            }
        }
        // Chains ping-pong: far less than all activations together.
        assert!(a.len <= 16 * (2 + 5 + 6) + 3 * ALIGN, "{}", a.len);
    }
}
