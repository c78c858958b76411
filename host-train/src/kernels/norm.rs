//! Batch normalisation (Ioffe and Szegedy 2015) with what follows it in one pass: y = activation(γ·(x − mean)/√(var +
//! ε) + β (+ residual)), over the last axis of `[pixels, channels]`.

use super::{Activation, filled, parts, vectorised};
use rayon::prelude::*;

/// Mean and variance (biased) of each channel.
pub struct Statistics {
    /// `[channels]`.
    pub mean: Vec<f32>,
    /// `[channels]`.
    pub variance: Vec<f32>,
}

/// Rows that a task takes at a time: a few hundred kilobytes.
fn rows(channels: usize) -> usize {
    (1 << 16) / channels.max(1) + 1
}

/// Walks through blocks of channels, widest first: `$body` sees the first channel as `$start` and the width as constant
/// `$N`.
macro_rules! blocks_of_channels {
    ($channels:expr, $start:ident, $N:ident, $body:block) => {{
        let mut $start = 0;
        while $start < $channels {
            let left = $channels - $start;
            if left >= 64 {
                const $N: usize = 64;
                $body
                $start += $N;
            } else if left >= 16 {
                const $N: usize = 16;
                $body
                $start += $N;
            } else {
                const $N: usize = 1;
                $body
                $start += $N;
            }
        }
    }};
}

/// Statistics of `x` `[pixels, channels]`. Sums are taken about the first pixel, so that a large mean costs no digits.
pub fn statistics(channels: usize, x: &[f32]) -> Statistics {
    let pixels = x.len() / channels;
    let about = &x[..channels];
    let sums = parts(pixels).into_par_iter().map(|part| {
        let mut total = vec![(0.0f64, 0.0f64); channels];
        for x in x[part.start * channels..part.end * channels].chunks(rows(channels) * channels) {
            vectorised(|| {
                blocks_of_channels!(channels, start, N, {
                    let about: [f32; N] = about[start..start + N].try_into().expect("N values");
                    let mut sum = [0.0f32; N];
                    let mut squares = [0.0f32; N];
                    for row in x.chunks_exact(channels) {
                        let row = &row[start..start + N];
                        for i in 0..N {
                            let d = row[i] - about[i];
                            sum[i] += d;
                            squares[i] += d * d;
                        }
                    }
                    for i in 0..N {
                        total[start + i].0 += f64::from(sum[i]);
                        total[start + i].1 += f64::from(squares[i]);
                    }
                });
            });
        }
        total
    });
    let total = add_up(channels, sums.collect());
    let n = pixels as f64;
    let variance = total.iter().map(|(s, q)| ((q - s * s / n) / n).max(0.0) as f32).collect();
    let mean = total.iter().zip(about).map(|((s, _), a)| (f64::from(*a) + s / n) as f32).collect();
    Statistics { mean, variance }
}

fn add_up(channels: usize, parts: Vec<Vec<(f64, f64)>>) -> Vec<(f64, f64)> {
    let mut total = vec![(0.0, 0.0); channels];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t = (t.0 + p.0, t.1 + p.1));
    }
    total
}

/// y = activation(x·scale + shift (+ residual)), with γ, β, `statistics` and ε as scale and shift.
pub fn apply(
    x: &[f32],
    statistics: &Statistics,
    (gamma, beta): (&[f32], &[f32]),
    epsilon: f32,
    residual: Option<&[f32]>,
    activation: Activation,
) -> Vec<f32> {
    let channels = gamma.len();
    let scale: Vec<f32> = gamma.iter().zip(&statistics.variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift: Vec<f32> = beta.iter().zip(&scale).zip(&statistics.mean).map(|((b, s), m)| b - m * s).collect();
    let (low, high) = activation.bounds();
    let chunk = rows(channels) * channels;
    filled(x.len(), chunk, |i, y| {
        let x = &x[i * chunk..][..y.len()];
        let residual = residual.map(|r| &r[i * chunk..][..y.len()]);
        vectorised(|| match residual {
            None => {
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for c in 0..channels {
                        y[c] = (x[c] * scale[c] + shift[c]).clamp(low, high);
                    }
                }
            }
            Some(residual) => {
                let rows = y.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                for ((y, x), r) in rows.zip(residual.chunks_exact(channels)) {
                    for c in 0..channels {
                        y[c] = (x[c] * scale[c] + shift[c] + r[c]).clamp(low, high);
                    }
                }
            }
        });
    })
}

/// Gradients of [`apply`] with batch statistics, besides the input's.
pub struct Gradients {
    /// Of γ.
    pub gamma: Vec<f32>,
    /// Of β.
    pub beta: Vec<f32>,
}

/// For each channel Σg and Σg·(x − mean) over all rows, where g is `dy` behind the gate of the activation.
fn gated_sums(x: &[f32], y: &[f32], dy: &[f32], mean: &[f32], activation: Activation) -> Vec<(f64, f64)> {
    let channels = mean.len();
    let bounds = activation.bounds();
    let sums = parts(x.len() / channels).into_par_iter().map(|part| {
        let part = part.start * channels..part.end * channels;
        let chunk = rows(channels) * channels;
        let mut total = vec![(0.0f64, 0.0f64); channels];
        let slices = x[part.clone()].chunks(chunk).zip(y[part.clone()].chunks(chunk)).zip(dy[part].chunks(chunk));
        for ((x, y), dy) in slices {
            vectorised(|| {
                blocks_of_channels!(channels, start, N, {
                    let mean: [f32; N] = mean[start..start + N].try_into().expect("N values");
                    let mut sum = [0.0f32; N];
                    let mut dot = [0.0f32; N];
                    let rows = x.chunks_exact(channels).zip(y.chunks_exact(channels)).zip(dy.chunks_exact(channels));
                    for ((x, y), dy) in rows {
                        let x = &x[start..start + N];
                        let y = &y[start..start + N];
                        let dy = &dy[start..start + N];
                        for i in 0..N {
                            let g = Activation::gate(bounds, y[i], dy[i]);
                            sum[i] += g;
                            dot[i] += g * (x[i] - mean[i]);
                        }
                    }
                    for i in 0..N {
                        total[start + i].0 += f64::from(sum[i]);
                        total[start + i].1 += f64::from(dot[i]);
                    }
                });
            });
        }
        total
    });
    add_up(channels, sums.collect())
}

/// Turns `dy`, the gradient of the output, into that of the input, in place. `y` is what [`apply`] gave, where it has
/// an activation; `residual`, if there was one, receives its gradient.
pub fn gradients(
    (x, y, dy): (&[f32], Option<&[f32]>, &mut [f32]),
    statistics: &Statistics,
    gamma: &[f32],
    epsilon: f32,
    activation: Activation,
    mut residual: Option<&mut [f32]>,
) -> Gradients {
    let channels = gamma.len();
    let bounds = activation.bounds();
    // Without an activation the gate lets any finite value through.
    let y = y.unwrap_or(x);
    let mean = &statistics.mean[..];
    let total = gated_sums(x, y, dy, mean, activation);
    let inverse: Vec<f32> = statistics.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
    let n = (x.len() / channels) as f64;
    // dx = γ/σ · (g − mean(g) − x̂·mean(g·x̂)) = a·g + b·x + d
    let mut factors = [vec![0.0f32; channels], vec![0.0f32; channels], vec![0.0f32; channels]];
    for c in 0..channels {
        let (sum, dot) = total[c];
        let i = f64::from(inverse[c]);
        let a = f64::from(gamma[c]) * i;
        let b = -a * dot * i * i / n;
        factors[0][c] = a as f32;
        factors[1][c] = b as f32;
        factors[2][c] = (-a * sum / n - b * f64::from(mean[c])) as f32;
    }
    let [a, b, d] = &factors;
    let chunk = rows(channels) * channels;
    let one = |i: usize, dy: &mut [f32], mut dr: Option<&mut [f32]>| {
        let x = &x[i * chunk..];
        let y = &y[i * chunk..];
        vectorised(|| {
            for (row, dy) in dy.chunks_exact_mut(channels).enumerate() {
                let at = row * channels;
                let x = &x[at..at + channels];
                let y = &y[at..at + channels];
                if let Some(dr) = &mut dr {
                    for (c, dr) in dr[at..at + channels].iter_mut().enumerate() {
                        *dr = Activation::gate(bounds, y[c], dy[c]);
                    }
                }
                for c in 0..channels {
                    dy[c] = a[c] * Activation::gate(bounds, y[c], dy[c]) + b[c] * x[c] + d[c];
                }
            }
        });
    };
    match &mut residual {
        Some(dr) => {
            let chunks = dy.par_chunks_mut(chunk).zip(dr.par_chunks_mut(chunk));
            chunks.enumerate().for_each(|(i, (dy, dr))| one(i, dy, Some(dr)));
        }
        None => dy.par_chunks_mut(chunk).enumerate().for_each(|(i, dy)| one(i, dy, None)),
    }
    Gradients {
        gamma: total.iter().zip(&inverse).map(|((_, dot), i)| (dot * f64::from(*i)) as f32).collect(),
        beta: total.iter().map(|(sum, _)| *sum as f32).collect(),
    }
}

/// Sets `gradient` to 0 wherever the activation was closed at `output`.
pub fn gate(activation: Activation, output: &[f32], gradient: &mut [f32]) {
    let bounds = activation.bounds();
    gradient.par_chunks_mut(1 << 16).zip(output.par_chunks(1 << 16)).for_each(|(dy, y)| {
        vectorised(|| dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = Activation::gate(bounds, *y, *dy)));
    });
}
