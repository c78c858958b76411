//! Intervals of shares.

/// 97.5th percentile of the normal distribution: intervals are of 95 %.
pub(super) const Z: f64 = 1.959_963_984_540_054;

/// The 95 % score interval of a share of `hits` in `of` (Wilson 1927): it says something where nothing was missed, as
/// resampling does not. All of 0…1 of none.
pub fn wilson(hits: usize, of: usize) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    wilson_share(hits as f64 / of as f64, of as f64)
}

/// As [`wilson()`], of a `share` of `n`.
pub fn wilson_share(share: f64, n: f64) -> [f64; 2] {
    let middle = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - reach) / scale).max(0.0), ((middle + reach) / scale).min(1.0)]
}

/// The share of `n` whose interval begins at `at_least`; 1 where none does.
pub fn share_for_bound(at_least: f64, n: f64) -> f64 {
    let mut low = at_least;
    let mut high = 1.0;
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if wilson_share(middle, n)[0] < at_least {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_textbook() {
        // Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
        for (hits, of, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let [a, b] = wilson(hits, of);
            assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{hits}/{of}: {a} {b}");
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }
}
