//! Which of the targets that are fit.

use std::sync::{Arc, Mutex, PoisonError};

use super::target::Target;
use crate::{config::Choice, secret::random_array};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turn(Mutex<Vec<(String, i64)>>);

impl Turn {
    pub(super) fn new(targets: usize) -> Self {
        Self(Mutex::new(Vec::with_capacity(targets)))
    }

    pub(super) fn pick<'a>(&self, choice: Choice, fit: &[&'a Arc<Target>]) -> Option<&'a Arc<Target>> {
        match choice {
            _ if fit.len() <= 1 => fit.first().copied(),
            Choice::RoundRobin => self.next(fit),
            Choice::LeastRequests => fit.iter().copied().min_by(|a, b| busier(a, b)),
            Choice::TwoChoices => Some(two(fit)),
        }
    }

    /// Smooth weighted round robin: each gains its weight, the richest is picked and pays all.
    fn next<'a>(&self, fit: &[&'a Arc<Target>]) -> Option<&'a Arc<Target>> {
        let mut credits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: i64 = fit.iter().map(|target| i64::from(target.weight())).sum();
        let mut best: Option<(usize, i64, &Arc<Target>)> = None;
        for target in fit {
            let at = credits.iter().position(|(name, _)| name == target.name()).unwrap_or_else(|| {
                credits.push((target.name().to_owned(), 0));
                credits.len() - 1
            });
            let credit = &mut credits[at].1;
            *credit += i64::from(target.weight());
            if best.is_none_or(|(_, most, _)| *credit > most) {
                best = Some((at, *credit, target));
            }
        }
        let (at, _, target) = best?;
        credits[at].1 -= total;
        // The reference in `fit`, not the one behind the loop's.
        fit.iter().copied().find(|fit| Arc::ptr_eq(fit, target))
    }
}

/// Requests under way for each unit of weight, compared without a division.
fn busier(a: &Arc<Target>, b: &Arc<Target>) -> std::cmp::Ordering {
    let of = |one: &Arc<Target>, other: &Arc<Target>| (one.load() as u64 + 1) * u64::from(other.weight());
    of(a, b).cmp(&of(b, a))
}

/// The less busy of two at random.
fn two<'a>(fit: &[&'a Arc<Target>]) -> &'a Arc<Target> {
    let random: [u8; 8] = random_array().unwrap_or_default();
    let [a, b] =
        [0, 4].map(|at| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]) as usize);
    let first = a % fit.len();
    let second = (first + 1 + b % (fit.len() - 1)) % fit.len();
    let (a, b) = (fit[first], fit[second]);
    if busier(a, b).is_le() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn targets(weights: &[u32]) -> Vec<Arc<Target>> {
        let one = |(at, weight): (usize, &u32)| {
            let authority = format!("127.0.0.1:{}", 1000 + at);
            Arc::new(Target::new(&config::Target { https: false, authority, weight: *weight }))
        };
        weights.iter().enumerate().map(one).collect()
    }

    fn tally(choice: Choice, weights: &[u32], picks: usize) -> Vec<usize> {
        let (targets, turn) = (targets(weights), Turn::new(weights.len()));
        let fit: Vec<_> = targets.iter().collect();
        let mut tally = vec![0; weights.len()];
        for _ in 0..picks {
            let picked = turn.pick(choice, &fit).expect("one of them");
            tally[targets.iter().position(|target| Arc::ptr_eq(target, picked)).expect("one of them")] += 1;
        }
        tally
    }

    #[test]
    fn turns_go_by_weight_and_smoothly() {
        assert_eq!(tally(Choice::RoundRobin, &[1, 1, 1], 9), [3, 3, 3]);
        assert_eq!(tally(Choice::RoundRobin, &[5, 1, 1], 7), [5, 1, 1]);
        let (targets, turn) = (targets(&[2, 1]), Turn::new(2));
        let fit: Vec<_> = targets.iter().collect();
        let names: Vec<_> =
            (0..6).map(|_| turn.pick(Choice::RoundRobin, &fit).expect("one").name().to_owned()).collect();
        assert_ne!(names[0], names[1], "{names:?}");
    }

    #[test]
    fn two_choices_reach_all_and_least_goes_to_the_idle_one() {
        assert!(tally(Choice::TwoChoices, &[1, 1, 1, 1], 400).iter().all(|picked| *picked > 40));
        assert_eq!(tally(Choice::LeastRequests, &[1, 3], 4), [0, 4], "of idle ones the heavier");
        assert!(Turn::new(0).pick(Choice::RoundRobin, &[]).is_none());
    }
}
