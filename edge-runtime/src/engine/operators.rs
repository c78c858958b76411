//! The integer network as a graph of operators of our own in tract: `u8` in, `u8` out, one pass each.
//!
//! tract plans and runs the graph. One tensor goes through it: the arena ([`super::arena`]), in which every operator reads
//! its inputs and writes its output, so that nothing is allocated and no activation is copied on the way. What happens
//! inside an operator is [`super::kernels`].

use super::EngineError;
use super::arena::{Arena, View};
use super::island::Island;
use crate::network::{Network, Node, Op as LayerOp, Value, Weights, Window};
use kernels::winograd::{Transformed, Winograd};
use kernels::{
    Area, Depthwise, Gemm, Kernel, MaxPool, Packed, Product, Requantise, Scaling, Sum, Windows, copy_pixels, scratch,
    team,
};
use std::sync::Mutex;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// Products below which an operator is not worth a second thread. Anything from 20 000 to 200 000 is equally good with
/// AVX-512 VNNI; ten times more costs MobileNetV2 a tenth of what two threads bring.
const WORTH_A_THREAD: usize = 100_000;

/// An integer network ready to run.
pub struct IntegerPlan {
    plan: Arc<TypedRunnableModel>,
    arena: Arena,
    map: Option<View>,
    logits: Logits,
    /// States that no inference uses now; each keeps its arena.
    idle: Mutex<Vec<State>>,
}

/// The layer that ends the network. It gives real numbers, so it stands outside the graph of codes.
enum Logits {
    Linear { input: View, weights: Vec<i8>, bias: Vec<i32>, scale: Vec<f32>, kernel: &'static Kernel },
    Float { inputs: Vec<(View, Value)>, island: Island },
}

/// What one inference at a time needs.
struct State {
    state: TypedSimpleState,
    arena: Arc<Tensor>,
}

impl IntegerPlan {
    /// Wires `network` (checked by [`Network::check`]) and lets tract plan it. The codes of the weights move into the plan,
    /// packed for the kernel; `network` keeps the rest.
    pub fn new(network: &mut Network) -> Result<IntegerPlan, EngineError> {
        let kernel = kernels::selected();
        let arena = Arena::plan(network);
        let mut model = TypedModel::default();
        let fact = u8::fact([arena.len]);
        let mut outlet = model.add_source("arena", fact)?;
        let mut logits = None;
        // Nodes are large: growing into place copies them time and again.
        model.nodes.reserve(network.nodes.len() + 1);
        let values = &network.values;
        for node in &mut network.nodes {
            match Layer::new(values, node, &arena, kernel)? {
                Some(layer) => outlet = model.wire_node(&node.name, layer, &[outlet])?[0],
                None => logits = Some(Logits::new(values, node, &arena, kernel)?),
            }
            if let LayerOp::Conv { weights, .. } | LayerOp::Dense { weights } | LayerOp::Logits { weights } =
                &mut node.op
            {
                weights.codes = Vec::new();
            }
        }
        model.select_output_outlets(&[outlet])?;
        let logits = logits.ok_or_else(|| EngineError("the network gives no logits".into()))?;
        let map = network.map.map(|m| arena.views[m as usize]);
        Ok(IntegerPlan { plan: model.into_runnable()?, arena, map, logits, idle: Mutex::default() })
    }

    /// Number of logits.
    pub fn logits(&self) -> usize {
        self.logits.len()
    }

    /// Runs one inference: `fill` writes the input's codes `[h, w, c]`; `read` gets logits and the codes of the map, if
    /// the network has one.
    pub fn run<R>(
        &self,
        fill: impl FnOnce(&mut [u8]),
        read: impl FnOnce(Vec<f32>, Option<&[u8]>) -> R,
    ) -> Result<R, EngineError> {
        let idle = self.idle.lock().ok().and_then(|mut s| s.pop());
        let mut state = match idle {
            Some(state) => state,
            None => State { state: self.plan.spawn()?, arena: Arc::new(Tensor::zero::<u8>(&[self.arena.len])?) },
        };
        let State { state: tract, arena } = &mut state;
        let mut taken = std::mem::replace(arena, Arc::new(Tensor::zero::<u8>(&[0])?));
        let outputs = team::awake(|| {
            fill(&mut bytes_mut(&mut taken)?[self.arena.views[0].range()]);
            tract.run(tvec!(TValue::from_const(taken)))
        })?;
        state.state.reset_turn()?;
        state.arena = outputs.into_iter().next().map(IntoArcTensor::into_arc_tensor).ok_or_else(no_arena)?;
        let codes = bytes(&state.arena)?;
        let result = read(self.logits.run(codes)?, self.map.map(|m| &codes[m.range()]));
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(state);
        }
        Ok(result)
    }
}

fn no_arena() -> EngineError {
    EngineError("the arena was lost on the way".into())
}

fn bytes(tensor: &Tensor) -> TractResult<&[u8]> {
    tensor.try_as_plain_ram()?.as_slice::<u8>()
}

fn bytes_mut(tensor: &mut Arc<Tensor>) -> TractResult<&mut [u8]> {
    let tensor = Arc::get_mut(tensor).ok_or_else(|| format_err!("the arena is shared"))?;
    Ok(tensor.as_bytes_mut())
}

impl Logits {
    fn new(values: &[Value], node: &Node, arena: &Arena, kernel: &'static Kernel) -> Result<Logits, EngineError> {
        let x = &values[node.inputs[0] as usize];
        match &node.op {
            LayerOp::Logits { weights } => Ok(Logits::Linear {
                input: arena.views[node.inputs[0] as usize],
                weights: weights.codes.clone(),
                bias: folded_bias(weights, x.zero_point),
                scale: weights.scales.iter().map(|s| x.scale * s).collect(),
                kernel,
            }),
            LayerOp::Float { model } => {
                let inputs = inputs(values, node, arena);
                Ok(Logits::Float { island: Island::new(model, &inputs, None)?, inputs })
            }
            _ => Err(EngineError(format!("layer `{}` gives nothing", node.name))),
        }
    }

    /// Numbers that it gives.
    fn len(&self) -> usize {
        match self {
            Logits::Linear { bias, .. } => bias.len(),
            Logits::Float { island, .. } => island.outputs(),
        }
    }

    fn run(&self, arena: &[u8]) -> Result<Vec<f32>, EngineError> {
        let (input, weights, bias, scale, kernel) = match self {
            Logits::Linear { input, weights, bias, scale, kernel } => (input, weights, bias, scale, kernel),
            Logits::Float { inputs, island } => return island.run(inputs, |v| &arena[v.range()], <[f32]>::to_vec),
        };
        let sum = |x: &[u8]| -> Vec<f32> {
            let rows = weights.chunks_exact(x.len()).zip(bias.iter().zip(scale));
            rows.map(|(w, (bias, scale))| (kernel.dot)(x, w).wrapping_add(*bias) as f32 * scale).collect()
        };
        if input.is_contiguous() {
            return Ok(sum(&arena[input.range()]));
        }
        Ok(scratch::with::<u8, _>(input.shape.iter().product(), |x| {
            copy_pixels(&arena[input.offset..], input.pixel, x, input.shape[2]);
            sum(x)
        }))
    }
}

/// Where the inputs of `node` lie, and what their codes mean.
fn inputs(values: &[Value], node: &Node, arena: &Arena) -> Vec<(View, Value)> {
    node.inputs.iter().map(|i| (arena.views[*i as usize], values[*i as usize].clone())).collect()
}

/// One node of the network as a tract operator.
#[derive(Clone)]
struct Layer(Arc<Prepared>);

/// A node with its weights packed and its constants folded.
struct Prepared {
    name: &'static str,
    inputs: Vec<(View, Value)>,
    output: (View, Value),
    low: u8,
    high: u8,
    work: Work,
    kernel: &'static Kernel,
}

enum Work {
    Gemm { window: Window, groups: Vec<Packed>, lie: Lie },
    Winograd { window: Window, weights: Transformed, winograd: fn(&Winograd, usize, &mut [u8]) },
    Depthwise { window: Window, weights: Vec<i8>, scaling: Scaling },
    MaxPool { window: Window },
    AveragePool { window: Window, count_padding: bool },
    GlobalAveragePool,
    Add(Sum),
    Multiply(Product),
    Concat,
    Table(Box<[u8; 256]>),
    Float(Island),
}

impl Layer {
    /// `None` for the logits. Weights move out of the node.
    fn new(
        values: &[Value],
        node: &mut Node,
        arena: &Arena,
        kernel: &'static Kernel,
    ) -> Result<Option<Layer>, EngineError> {
        let Some(output) = node.output.map(|o| o as usize) else { return Ok(None) };
        let (inputs, output) = (inputs(values, node, arena), (arena.views[output], values[output].clone()));
        let (x, y) = (&inputs[0].1, &output.1);
        let scaling = |w: &Weights| {
            // Finite, whatever a file says: an infinite one times 0 would be no number.
            let multiplier = w.scales.iter().map(|s| (x.scale * s / y.scale).min(1e30)).collect();
            Scaling::new(w.codes.len() / w.bias.len(), folded_bias(w, x.zero_point), multiplier)
        };
        let gemm = |window: Window, groups: usize, weights: &mut Weights| {
            let lie = Lie::new(&window, groups, &inputs[0].0, kernel);
            let columns = weights.bias.len() / groups;
            let (mut scaling, mut codes) = (scaling(weights), std::mem::take(&mut weights.codes));
            let len = codes.len() / groups;
            // From the last on, so that the first, which mostly is the only one, keeps its memory.
            let mut packed: Vec<_> = (1..groups)
                .rev()
                .map(|g| (scaling.split_off(g * columns), codes.split_off(g * len)))
                .map(|(scaling, codes)| Packed::new(codes, columns, lie.run, scaling, kernel))
                .collect();
            packed.push(Packed::new(codes, columns, lie.run, scaling, kernel));
            packed.reverse();
            Work::Gemm { window, groups: packed, lie }
        };
        let zero = [0, 1].map(|i: usize| f32::from(inputs.get(i).map_or(0, |v| v.1.zero_point)));
        let scale = [0, 1].map(|i: usize| inputs.get(i).map_or(1.0, |v| v.1.scale));
        let (low, high) = (node.low, node.high);
        let (name, work) = match &mut node.op {
            LayerOp::Conv { window, groups, weights } => {
                let (groups, channels, outputs) = (*groups as usize, x.shape[2] as usize, weights.bias.len());
                let pays = groups == 1 && winograd_pays(window, x.shape[2], &output.0);
                if let Some(winograd) = kernel.winograd.filter(|_| pays) {
                    let weights = Transformed::new(&weights.codes, outputs, channels, scaling(weights));
                    ("HilumWinograd", Work::Winograd { window: *window, weights, winograd })
                } else if groups == channels && outputs == channels && groups > 1 {
                    ("HilumDepthwise", depthwise(*window, weights, scaling(weights)))
                } else {
                    ("HilumConv", gemm(*window, groups, weights))
                }
            }
            LayerOp::Dense { weights } => {
                // A dense layer is a convolution whose window is the whole input.
                let window = Window { kernel: [x.shape[0], x.shape[1]], ..Window::one() };
                ("HilumDense", gemm(window, 1, weights))
            }
            LayerOp::MaxPool { window } => ("HilumMaxPool", Work::MaxPool { window: *window }),
            LayerOp::AveragePool { window, count_padding } => {
                ("HilumAveragePool", Work::AveragePool { window: *window, count_padding: *count_padding })
            }
            LayerOp::GlobalAveragePool => ("HilumGlobalAveragePool", Work::GlobalAveragePool),
            LayerOp::Add => {
                let scale = scale.map(|s| (s / y.scale).min(1e30));
                let offset = f32::from(y.zero_point) - (scale[0] * zero[0] + scale[1] * zero[1]);
                ("HilumAdd", Work::Add(Sum { scale, offset, low, high }))
            }
            LayerOp::Multiply => {
                let scale = (scale[0] * scale[1] / y.scale).min(1e30);
                ("HilumMultiply", Work::Multiply(Product { zero, scale, zero_point: y.zero_point, low, high }))
            }
            LayerOp::Concat => ("HilumConcat", Work::Concat),
            LayerOp::Table { codes } => {
                let clamped = std::array::from_fn(|i| codes.get(i).map_or(0, |c| (*c).max(node.low).min(node.high)));
                ("HilumTable", Work::Table(Box::new(clamped)))
            }
            LayerOp::Float { model } => ("HilumFloat", Work::Float(Island::new(model, &inputs, Some(y))?)),
            LayerOp::Logits { .. } => return Ok(None),
        };
        Ok(Some(Layer(Arc::new(Prepared { name, inputs, output, low: node.low, high: node.high, work, kernel }))))
    }
}

fn depthwise(window: Window, weights: &Weights, mut scaling: Scaling) -> Work {
    let channels = weights.bias.len();
    let count = weights.codes.len() / channels;
    let by_tap = (0..count).flat_map(|t| (0..channels).map(move |c| weights.codes[c * count + t])).collect();
    scaling.fill_up();
    Work::Depthwise { window, weights: by_tap, scaling }
}

/// Tiles below which [`Winograd`] does not pay: its weights take 3.6 times the memory, which few tiles share.
const WORTH_TRANSFORMING: usize = 32;

/// True for a dense convolution of `channels` that [`Winograd`] computes faster than [`Gemm`], where a kernel has it.
fn winograd_pays(window: &Window, channels: u32, output: &View) -> bool {
    let [height, width, columns] = output.shape;
    (window.kernel, window.stride, window.dilation) == ([3; 2], [1; 2], [1; 2])
        && Transformed::fits(channels as usize)
        && columns >= kernels::PANEL
        && height.div_ceil(2) * width.div_ceil(2) >= WORTH_TRANSFORMING
}

/// How the windows of a convolution lie in its input, or in the copy of it that has a border.
struct Lie {
    /// Codes of a group that lie side by side in a window: all of it, a row or a tap.
    run: usize,
    /// Codes from the first of a window to the first of each run.
    runs: Vec<usize>,
    right: usize,
    down: usize,
    /// True if the windows lie over a copy.
    copied: bool,
    /// Codes that the last run is read beyond its end, because kernels take several at a time.
    beyond: usize,
}

impl Lie {
    fn new(window: &Window, groups: usize, input: &View, kernel: &Kernel) -> Lie {
        let [_, width, channels] = input.shape;
        let in_group = channels / groups;
        let [kernel_h, kernel_w] = window.kernel.map(|k| k as usize);
        let [stride_h, stride_w] = window.stride.map(|s| s as usize);
        let [down, right] = window.dilation.map(|d| d as usize);
        let lie = |copied: bool| {
            let pixel = if copied { channels } else { input.pixel };
            let width = width + (window.padding[1] + window.padding[3]) as usize;
            let row = kernel_w == 1 || pixel == in_group && right == 1;
            let whole = row && (kernel_h == 1 || pixel == in_group && kernel_w == width && down == 1);
            let (lines, taps, run) = match (whole, row) {
                (true, _) => (1, 1, kernel_h * kernel_w * in_group),
                (_, true) => (kernel_h, 1, kernel_w * in_group),
                _ => (kernel_h, kernel_w, in_group),
            };
            let runs = (0..lines).flat_map(|y| (0..taps).map(move |x| (y * down * width + x * right) * pixel));
            let beyond = run.next_multiple_of(kernel.group) - run;
            let (right, down) = (stride_w * pixel, stride_h * width * pixel);
            Lie { run, runs: runs.collect(), right, down, copied, beyond }
        };
        // Without a border the input serves as it is, unless the last run would be read beyond its end.
        let direct = lie(false);
        if window.padding == [0; 4] && direct.beyond == 0 { direct } else { lie(true) }
    }
}

/// The arena without the part that is written.
struct Rest<'a> {
    before: &'a [u8],
    after: &'a [u8],
    after_from: usize,
}

impl<'a> Rest<'a> {
    /// Splits `arena` into what a step writes and what it may read.
    fn split(arena: &'a mut [u8], out: std::ops::Range<usize>) -> (Rest<'a>, &'a mut [u8]) {
        let (before, rest) = arena.split_at_mut(out.start);
        let (out_codes, after) = rest.split_at_mut(out.end - out.start);
        (Rest { before, after, after_from: out.end }, out_codes)
    }

    /// The codes of `view`, which the plan keeps apart from what is written.
    fn get(&self, view: &View) -> &'a [u8] {
        let range = view.range();
        match range.start.checked_sub(self.after_from) {
            Some(start) => &self.after[start..start + range.len()],
            None => &self.before[range],
        }
    }
}

impl Prepared {
    fn requantise<'a>(&self, scaling: &'a Scaling) -> Requantise<'a> {
        let (bias, multiplier) = (&scaling.bias[..], &scaling.multiplier[..]);
        let far = scaling.far;
        Requantise { bias, multiplier, zero_point: self.output.1.zero_point, low: self.low, high: self.high, far }
    }

    /// Real value in steps of the output to a code.
    fn code(&self, steps: f32) -> u8 {
        let code = kernels::portable::round(steps) + i32::from(self.output.1.zero_point);
        code.clamp(i32::from(self.low), i32::from(self.high)) as u8
    }

    fn run(&self, arena: &mut [u8]) -> Result<(), EngineError> {
        let out_view = &self.output.0;
        if let Work::Concat = &self.work {
            self.run_concat(arena);
            return Ok(());
        }
        let (rest, out) = Rest::split(arena, out_view.range());
        let (x_view, x_value) = &self.inputs[0];
        let x = rest.get(x_view);
        match &self.work {
            Work::Gemm { window, groups, lie } => self.run_gemm(window, groups, lie, x, out),
            Work::Winograd { window, weights, winograd } => self.run_winograd(window, weights, *winograd, x, out),
            Work::Depthwise { window, weights, scaling } => self.run_depthwise(window, weights, scaling, x, out),
            Work::MaxPool { window } => self.run_max_pool(window, x, out),
            Work::AveragePool { window, count_padding } => self.run_average_pool(window, *count_padding, x, out),
            Work::GlobalAveragePool => {
                let count = x_view.pixels();
                let channels = x_view.shape[2];
                let scale = x_value.scale / (self.output.1.scale * count as f32);
                let zero = count as i32 * i32::from(x_value.zero_point);
                for (c, codes) in out[..channels].chunks_mut(LANES).enumerate() {
                    let mut sums = [-zero; LANES];
                    for pixel in 0..count {
                        let from = &x[pixel * x_view.pixel + c * LANES..][..codes.len()];
                        sums.iter_mut().zip(from).for_each(|(s, f)| *s += i32::from(*f));
                    }
                    codes.iter_mut().zip(sums).for_each(|(o, s)| *o = self.code(s as f32 * scale));
                }
            }
            Work::Add(p) => self.each_run(&[x_view, &self.inputs[1].0], out, |out, [from, other]| {
                (self.kernel.add)(p, &x[from..], &rest.get(&self.inputs[1].0)[other..], out);
            }),
            Work::Multiply(p) if self.inputs[1].0.pixels() == x_view.pixels() => {
                self.each_run(&[x_view, &self.inputs[1].0], out, |out, [from, other]| {
                    (self.kernel.multiply)(p, &x[from..], &rest.get(&self.inputs[1].0)[other..], out);
                });
            }
            Work::Multiply(p) => {
                let gate = rest.get(&self.inputs[1].0);
                for (pixel, out) in out.chunks_mut(out_view.pixel).enumerate() {
                    let out = &mut out[..x_view.shape[2]];
                    (self.kernel.multiply)(p, &x[pixel * x_view.pixel..], gate, out);
                }
            }
            Work::Table(table) => self.each_run(&[x_view, x_view], out, |out, [from, _]| {
                out.iter_mut().zip(&x[from..]).for_each(|(o, x)| *o = table[usize::from(*x)]);
            }),
            Work::Float(island) => {
                return island.run(&self.inputs, |v| rest.get(v), |reals| self.quantise(reals, out));
            }
            Work::Concat => {}
        }
        Ok(())
    }

    /// Real values `[channels][height][width]` to codes (ONNX `QuantizeLinear`).
    fn quantise(&self, reals: &[f32], out: &mut [u8]) {
        let (view, value) = &self.output;
        let zero = f32::from(value.zero_point);
        for (c, plane) in reals.chunks_exact(view.pixels()).enumerate() {
            for (real, out) in plane.iter().zip(out[c..].iter_mut().step_by(view.pixel)) {
                let code = (real / value.scale).round_ties_even() + zero;
                *out = (code.clamp(0.0, 255.0) as u8).clamp(self.low, self.high);
            }
        }
    }

    /// Calls `work` with stretches of the output and where the inputs' begin: one where all lie side by side, else a pixel.
    fn each_run(&self, inputs: &[&View; 2], out: &mut [u8], work: impl Fn(&mut [u8], [usize; 2]) + Sync) {
        let view = &self.output.0;
        if view.is_contiguous() && inputs.iter().all(|v| v.is_contiguous()) {
            return each_part(out.len(), out, 1, LINE, |first, _, out| work(out, [first; 2]));
        }
        for (pixel, out) in out.chunks_mut(view.pixel).enumerate() {
            work(&mut out[..view.shape[2]], inputs.map(|v| pixel * v.pixel));
        }
    }

    /// Copies the inputs that do not lie in the output already.
    fn run_concat(&self, arena: &mut [u8]) {
        let (view, value) = &self.output;
        let mut channel = 0;
        for (from, v) in &self.inputs {
            let channels = from.shape[2];
            let to = View { offset: view.offset + channel, pixel: view.pixel, shape: from.shape };
            channel += channels;
            if to == *from {
                continue;
            }
            let step = v.scale / value.scale;
            let table: [u8; 256] = std::array::from_fn(|c| self.code((c as f32 - f32::from(v.zero_point)) * step));
            for pixel in 0..from.pixels() {
                let start = from.offset + pixel * from.pixel;
                let at = to.offset + pixel * to.pixel;
                for c in 0..channels {
                    arena[at + c] = table[usize::from(arena[start + c])];
                }
            }
        }
    }

    /// Convolution: for each group a product of the windows' codes, where they lie, and packed weights.
    fn run_gemm(&self, window: &Window, groups: &[Packed], lie: &Lie, x: &[u8], out: &mut [u8]) {
        let out_view = &self.output.0;
        let rows = out_view.pixels();
        let work = groups.iter().map(|weights| rows * weights.depth * weights.columns).sum();
        let in_group = self.inputs[0].0.shape[2] / groups.len();
        // Lines that follow each other like windows are one line, without ends to look out for.
        let one_line = lie.down == lie.right * out_view.shape[1];
        let width = if one_line { rows } else { out_view.shape[1] };
        let windows = Windows { width, right: lie.right, down: lie.down, runs: &lie.runs };
        let over = |a: &[u8], out: &mut [u8]| {
            each_part(work, out, out_view.pixel, TILE, |first, rows, out| {
                for (group, weights) in groups.iter().enumerate() {
                    let (a, out) = (&a[group * in_group..], &mut out[group * weights.columns..]);
                    let requantise = self.requantise(&weights.scaling);
                    (self.kernel.gemm)(
                        &Gemm { a, windows, first, rows, weights, requantise, out_row: out_view.pixel },
                        out,
                    );
                }
            });
        };
        if !lie.copied {
            return over(x, out);
        }
        self.with_border(window.padding, lie.beyond, x, |a| over(a, out));
    }

    /// Convolution 3×3 by fewer products, over a copy of the input with its border, up to whole tiles.
    fn run_winograd(
        &self,
        window: &Window,
        weights: &Transformed,
        winograd: fn(&Winograd, usize, &mut [u8]),
        x: &[u8],
        out: &mut [u8],
    ) {
        let out_view = &self.output.0;
        let [height, out_width, columns] = out_view.shape;
        let mut border = window.padding;
        border[2] += (height % 2) as u32;
        border[3] += (out_width % 2) as u32;
        self.with_border(border, 0, x, |input| {
            let w = Winograd {
                input,
                tile_columns: out_width.div_ceil(2),
                weights,
                requantise: self.requantise(&weights.scaling),
                out_width,
                out_pixel: out_view.pixel,
            };
            let work = out_view.pixels() * 9 * weights.channels * columns;
            each_part(work, out, 2 * out_width * out_view.pixel, 1, |first, _, out| winograd(&w, first, out));
        });
    }

    /// Calls `work` with a copy of the input that has a border, in the order of [`Window::padding`], and `beyond` codes after it.
    fn with_border(&self, border: [u32; 4], beyond: usize, x: &[u8], work: impl FnOnce(&[u8])) {
        let view = &self.inputs[0].0;
        let [height, width, channels] = view.shape;
        let [top, left, bottom, right] = border.map(|p| p as usize);
        let line = (width + left + right) * channels;
        scratch::with::<u8, _>((top + height + bottom) * line + beyond, |to| {
            let zero = self.inputs[0].1.zero_point;
            to[..top * line].fill(zero);
            to[(top + height) * line..].fill(zero);
            for (y, to) in to.chunks_exact_mut(line).skip(top).take(height).enumerate() {
                to[..left * channels].fill(zero);
                to[(left + width) * channels..].fill(zero);
                let image = left * channels..(left + width) * channels;
                copy_pixels(&x[y * width * view.pixel..], view.pixel, &mut to[image], channels);
            }
            work(to);
        });
    }

    /// `window` over the input.
    fn area<'a>(&self, window: &Window, x: &'a [u8]) -> Area<'a> {
        let (view, out_view) = (&self.inputs[0].0, &self.output.0);
        let [height, width, channels] = view.shape;
        Area {
            input: x,
            height,
            width,
            pixel: view.pixel,
            channels,
            kernel: window.kernel.map(|k| k as usize),
            stride: window.stride.map(|s| s as usize),
            dilation: window.dilation.map(|d| d as usize),
            padding: [window.padding[0] as usize, window.padding[1] as usize],
            out_width: out_view.shape[1],
            out_pixel: out_view.pixel,
        }
    }

    fn run_depthwise(&self, window: &Window, weights: &[i8], scaling: &Scaling, x: &[u8], out: &mut [u8]) {
        let area = self.area(window, x);
        let zero_point = self.inputs[0].1.zero_point;
        let depthwise = Depthwise { area, zero_point, weights, requantise: self.requantise(scaling) };
        let taps = area.kernel[0] * area.kernel[1];
        self.in_lines(taps, out, |first, out| (self.kernel.depthwise)(&depthwise, first, out));
    }

    /// Splits output lines, on which some kernels work whole, among threads: `work(first line, codes)`.
    fn in_lines(&self, taps: usize, out: &mut [u8], body: impl Fn(usize, &mut [u8]) + Sync) {
        let view = &self.output.0;
        let [height, width, channels] = view.shape;
        let work = height * width * channels * taps;
        each_part(work, out, width * view.pixel, 1, |first, _, out| body(first, out));
    }

    fn run_max_pool(&self, window: &Window, x: &[u8], out: &mut [u8]) {
        let pool = MaxPool { area: self.area(window, x), low: self.low, high: self.high };
        let taps = pool.area.kernel[0] * pool.area.kernel[1];
        self.in_lines(taps, out, |first, out| (self.kernel.max_pool)(&pool, first, out));
    }

    fn run_average_pool(&self, window: &Window, count_padding: bool, x: &[u8], out: &mut [u8]) {
        let (view, value) = &self.inputs[0];
        let out_view = &self.output.0;
        let [height, width, channels] = view.shape;
        let all = (window.kernel[0] * window.kernel[1]) as usize;
        for (at, pixel) in out.chunks_mut(out_view.pixel).enumerate() {
            let inside = taps(window, at / out_view.shape[1], at % out_view.shape[1], height, width);
            let seen = inside.clone().count();
            let count = if count_padding { all } else { seen };
            let scale = value.scale / (self.output.1.scale * count as f32);
            let zero = seen as i32 * i32::from(value.zero_point);
            for (c, codes) in pixel[..channels].chunks_mut(LANES).enumerate() {
                let mut sums = [-zero; LANES];
                for (iy, ix) in inside.clone() {
                    let from = &x[(iy * width + ix) * view.pixel + c * LANES..][..codes.len()];
                    sums.iter_mut().zip(from).for_each(|(s, f)| *s += i32::from(*f));
                }
                codes.iter_mut().zip(sums).for_each(|(o, s)| *o = self.code(s as f32 * scale));
            }
        }
    }
}

/// Channels that are summed together outside the kernels.
const LANES: usize = 16;

/// Rows of the product that are parted at least: whole tiles of the kernels, or nearly so.
const TILE: usize = 6;

/// Codes that are parted at least where they lie side by side: a cache line.
const LINE: usize = 64;

/// As [`team::each_part`], for a loop of `work` products.
fn each_part(work: usize, out: &mut [u8], line: usize, step: usize, body: impl Fn(usize, usize, &mut [u8]) + Sync) {
    match work < WORTH_A_THREAD {
        true => body(0, out.len().div_ceil(line), out),
        false => team::each_part(out, line, step, body),
    }
}

/// Bias less `zero_point · Σ weights`, so that kernels sum plain codes.
fn folded_bias(weights: &Weights, zero_point: u8) -> Vec<i32> {
    let depth = weights.codes.len() / weights.bias.len();
    let zero = i32::from(zero_point);
    if zero == 0 {
        return weights.bias.clone();
    }
    let sums = weights.codes.chunks_exact(depth).map(|c| c.iter().map(|w| i32::from(*w)).sum::<i32>());
    weights.bias.iter().zip(sums).map(|(b, s)| b.wrapping_sub(zero.wrapping_mul(s))).collect()
}

/// Input positions under the window of output `(y, x)` that lie inside the image; the window has no holes.
fn taps(
    window: &Window,
    y: usize,
    x: usize,
    height: usize,
    width: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone + use<> {
    let range = |at: usize, axis: usize, side: usize| {
        let start = at * window.stride[axis] as usize;
        let (pad, kernel) = (window.padding[axis] as usize, window.kernel[axis] as usize);
        start.saturating_sub(pad)..(start + kernel).saturating_sub(pad).min(side)
    };
    let columns = range(x, 1, width);
    range(y, 0, height).flat_map(move |iy| columns.clone().map(move |ix| (iy, ix)))
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<_> = self.0.inputs.iter().map(|i| i.1.shape).collect();
        write!(f, "{} {shapes:?} → {:?}", self.0.name, self.0.output.1.shape)
    }
}

impl PartialEq for Layer {
    fn eq(&self, other: &Layer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Layer {}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.0.name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut arena = inputs.remove(0).into_arc_tensor();
        self.0.run(bytes_mut(&mut arena)?)?;
        Ok(tvec!(TValue::from_const(arena)))
    }
}

impl TypedOp for Layer {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: LayerOp, input: u32, output: Option<u32>) -> Node {
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
                node(LayerOp::Conv { window, groups: 1, weights: weights(18) }, 0, Some(1)),
                node(LayerOp::Logits { weights: weights(1) }, 1, None),
            ],
            map: None,
        };
        network.check().unwrap();
        let plan = IntegerPlan::new(&mut network).unwrap();
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
                    node(LayerOp::Conv { window, groups, weights }, 0, Some(1)),
                    node(LayerOp::Logits { weights: sum }, 1, None),
                ],
                map: Some(1),
            };
            let case = format!("{window:?} {groups} groups of {in_group} → {out_group}, {size:?}");
            network.check().unwrap();
            let plan = IntegerPlan::new(&mut network).unwrap();
            let got = plan.run(|to| to.copy_from_slice(&codes), |_, map| map.map(<[u8]>::to_vec)).unwrap();
            assert_eq!(got.as_deref(), Some(&want[..]), "{case}");
            seen[(groups.min(2) + u32::from(in_group * out_group == 1 && groups > 1)) as usize - 1] += 1;
        }
        assert!(seen.iter().all(|n| *n > 0), "dense, grouped and depthwise: {seen:?}");
    }
}
