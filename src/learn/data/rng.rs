//! Random numbers that depend only on what they are for.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator for one purpose: the same `seed` and `parts` (purpose, split, epoch, index, …) always give the same
/// numbers, whatever thread asks and in whatever order.
pub(crate) fn rng(seed: u64, parts: &[u64]) -> ChaCha8Rng {
    let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
    for &p in parts {
        state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(p.wrapping_add(0x517c_c1b7_2722_0a95)));
    }
    ChaCha8Rng::seed_from_u64(state)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::rng;
    use rand::RngExt;

    #[test]
    fn parts_and_seeds_are_told_apart() {
        let first = |seed, parts: &[u64]| rng(seed, parts).random::<u64>();
        assert_eq!(first(1, &[2, 3]), first(1, &[2, 3]));
        let all = [first(1, &[2, 3]), first(1, &[3, 2]), first(2, &[2, 3]), first(1, &[2]), first(1, &[2, 3, 0])];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }
}
