//! The rank test of Wilcoxon, Mann and Whitney, exact: whether some samples are higher than others by more than chance.
//!
//! It asks nothing of how the samples are distributed, and one outlier weighs no more than its rank. Equal samples share their ranks, and the
//! test stays exact with them, which tables and most libraries do not offer: milliseconds and mebibytes are often equal.

/// Samples of a side that are looked at; of more, the last ones.
pub const MOST: usize = 24;

/// How probable it is that so many samples, drawn from all of these without looking, rank together at least as high as `later` do. 1 where
/// a side is empty.
pub fn chance_of_higher(earlier: &[u64], later: &[u64]) -> f64 {
    let (earlier, later) = (last(earlier), last(later));
    if earlier.is_empty() || later.is_empty() {
        return 1.0;
    }
    let mut all: Vec<(u64, bool)> =
        earlier.iter().map(|sample| (*sample, false)).chain(later.iter().map(|sample| (*sample, true))).collect();
    all.sort_unstable();
    let mut ranks = Vec::with_capacity(all.len());
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        // Twice the mean of the ranks that equal samples share, to stay among whole numbers.
        let rank = 2 * ranks.len() + 1 + equal.len();
        ranks.extend(equal.iter().map(|_| rank));
    }
    let seen: usize = ranks.iter().zip(&all).filter(|(_, (_, is_later))| *is_later).map(|(rank, _)| rank).sum();
    let sums = draws(&ranks, later.len());
    let total: f64 = sums.iter().sum();
    let as_high: f64 = sums.iter().skip(seen).sum();
    as_high / total
}

fn last(samples: &[u64]) -> &[u64] {
    samples.get(samples.len().saturating_sub(MOST)..).unwrap_or_default()
}

/// In how many ways so many of these ranks give each sum.
fn draws(ranks: &[usize], count: usize) -> Vec<f64> {
    let highest: usize = ranks.iter().rev().take(count).sum();
    let mut ways = vec![vec![0.0; highest + 1]; count + 1];
    if let Some(none) = ways.first_mut().and_then(|sums| sums.first_mut()) {
        *none = 1.0;
    }
    for rank in ranks {
        // Downwards, so that each rank is drawn once at the most.
        for drawn in (0..count).rev() {
            let (fewer, more) = ways.split_at_mut(drawn + 1);
            if let (Some(fewer), Some(more)) = (fewer.last(), more.first_mut()) {
                more.iter_mut().skip(*rank).zip(fewer).for_each(|(more, fewer)| *more += *fewer);
            }
        }
    }
    ways.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By trying every way to choose the later ones.
    fn enumerated(earlier: &[u64], later: &[u64]) -> f64 {
        let all: Vec<u64> = earlier.iter().chain(later).copied().collect();
        // How often a later one beats an earlier one; a draw counts half. It grows with the ranks.
        let wins = |is_later: &dyn Fn(usize) -> bool| -> u64 {
            let pairs = (0..all.len()).flat_map(|one| (0..all.len()).map(move |other| (one, other)));
            let fair = pairs.filter(|(one, other)| is_later(*one) && !is_later(*other));
            fair.map(|(one, other)| 1 + u64::from(all[one] > all[other]) - u64::from(all[one] < all[other])).sum()
        };
        let seen = wins(&|at| at >= earlier.len());
        let choices = (0_u32..1 << all.len()).filter(|mask| mask.count_ones() as usize == later.len());
        let (mut as_high, mut total) = (0.0, 0.0);
        for mask in choices {
            total += 1.0;
            as_high += f64::from(u8::from(wins(&|at| mask >> at & 1 == 1) >= seen));
        }
        as_high / total
    }

    #[test]
    fn small_samples_have_the_chances_of_the_tables() {
        // 1 of 20, 1 of 126, and all of them.
        for (earlier, later, chance) in [
            (&[1, 2, 3][..], &[4, 5, 6][..], 1.0 / 20.0),
            (&[1, 2, 3, 4], &[5, 6, 7, 8, 9], 1.0 / 126.0),
            (&[4, 5, 6], &[1, 2, 3], 1.0),
            (&[7, 7], &[7, 7, 7], 1.0),
            (&[], &[1, 2], 1.0),
            (&[1, 2], &[], 1.0),
        ] {
            assert!((chance_of_higher(earlier, later) - chance).abs() < 1e-12, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn only_the_last_of_many_count() {
        let many: Vec<u64> = (0..1000).collect();
        assert_eq!(chance_of_higher(&many, &[999; 3]), chance_of_higher(&many[1000 - MOST..], &[999; 3]));
    }

    proptest! {
        #[test]
        fn it_is_what_enumeration_gives(
            earlier in prop::collection::vec(0..8_u64, 1..6), later in prop::collection::vec(0..8_u64, 1..6),
        ) {
            let (chance, expected) = (chance_of_higher(&earlier, &later), enumerated(&earlier, &later));
            prop_assert!((chance - expected).abs() < 1e-9, "{chance} {expected}");
        }

        #[test]
        fn a_chance_is_a_chance_and_order_is_nothing(
            mut earlier in prop::collection::vec(any::<u64>(), 0..MOST), mut later in prop::collection::vec(any::<u64>(), 0..MOST),
        ) {
            let chance = chance_of_higher(&earlier, &later);
            prop_assert!((0.0..=1.0).contains(&chance));
            earlier.reverse();
            later.reverse();
            prop_assert_eq!(chance_of_higher(&earlier, &later), chance);
        }
    }
}
