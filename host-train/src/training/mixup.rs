//! Which two images are laid over each other, and how much of each (mixup, Zhang et al. 2018).

use crate::augment::rng;
use rand::Rng;

/// Keeps the draws of partners apart from those that change images.
const STREAM: usize = 1 << 31;

/// The image that is laid over another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partner {
    /// Its index.
    pub index: usize,
    /// Its share, 0 to 0.5.
    pub share: f32,
}

/// Draws partners.
#[derive(Debug, Clone, Copy)]
pub struct Mixup {
    /// Both parameters of the beta distribution of shares, 0 (no partners) to 1.
    pub alpha: f32,
    /// Seed of the run.
    pub seed: u64,
    /// How many images there are.
    pub images: usize,
}

impl Mixup {
    /// The partner of image `index` in `epoch`.
    pub fn partner(&self, index: usize, epoch: usize) -> Option<Partner> {
        if self.alpha == 0.0 {
            return None;
        }
        let mut rng = rng(self.seed, epoch, STREAM | index);
        let partner = rng.random_range(0..self.images);
        let share = beta(self.alpha, &mut rng);
        Some(Partner { index: partner, share: share.min(1.0 - share) })
    }
}

/// A draw of the beta distribution with both parameters `alpha`, 0 to 1 (Jöhnk 1964).
fn beta(alpha: f32, rng: &mut impl Rng) -> f32 {
    loop {
        let x = rng.random::<f32>().powf(1.0 / alpha);
        let y = rng.random::<f32>().powf(1.0 / alpha);
        let sum = x + y;
        if sum > 0.0 && sum <= 1.0 {
            return x / sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_distributed_as_stated() {
        for alpha in [0.2f32, 1.0] {
            let mixup = Mixup { alpha, seed: 1, images: 50 };
            let partners: Vec<Partner> = (0..4000).map(|i| mixup.partner(i, 1).unwrap()).collect();
            assert!(partners.iter().all(|p| p.index < 50 && (0.0..=0.5).contains(&p.share)));
            // Of x from beta(α, α): the variance is 1 / (4 (2 α + 1)), and min(x, 1 − x) has the same distance to ½.
            let variance = partners.iter().map(|p| (f64::from(p.share) - 0.5).powi(2)).sum::<f64>() / 4000.0;
            let expected = 1.0 / (4.0 * (2.0 * f64::from(alpha) + 1.0));
            assert!((variance / expected - 1.0).abs() < 0.06, "{alpha}: {variance} for {expected}");
        }
        assert_eq!(Mixup { alpha: 0.0, seed: 1, images: 5 }.partner(0, 1), None);
    }
}
