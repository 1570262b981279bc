//! Which of the targets that are fit.

use std::sync::{Arc, Mutex, PoisonError};

use super::target::Target;
use crate::{config::Choice, secret::random_array};

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<Vec<Credit>>);

#[derive(Debug)]
struct Credit {
    target: String,
    credit: i64,
}

/// A target that is fit, and its share at this moment.
pub(super) type Fit<'a> = (&'a Arc<Target>, u64);

impl Turn {
    pub(super) fn pick<'a>(&self, choice: Choice, fit: &[Fit<'a>]) -> Option<&'a Arc<Target>> {
        let picked = match choice {
            _ if fit.len() <= 1 => fit.first().copied(),
            Choice::RoundRobin => self.next(fit),
            Choice::LeastRequests => fit.iter().copied().min_by(busier),
            Choice::TwoChoices => Some(two(fit)),
        };
        picked.map(|(target, _)| target)
    }

    /// Smooth weighted round robin: each gains its share, the richest is picked and pays all.
    fn next<'a>(&self, fit: &[Fit<'a>]) -> Option<Fit<'a>> {
        let mut credits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if credits.len() > 4 * fit.len() {
            // Targets come and go.
            credits.retain(|credit| fit.iter().any(|(target, _)| target.name() == credit.target));
        }
        let mut total: i64 = 0;
        let mut best: Option<(usize, i64, Fit<'a>)> = None;
        for (target, share) in fit.iter().copied() {
            let at = credits.iter().position(|credit| credit.target == target.name()).unwrap_or_else(|| {
                credits.push(Credit { target: target.name().to_owned(), credit: 0 });
                credits.len() - 1
            });
            let share = i64::try_from(share).unwrap_or(i64::MAX);
            total += share;
            let credit = &mut credits[at].credit;
            *credit += share;
            if best.is_none_or(|(_, most, _)| *credit > most) {
                best = Some((at, *credit, (target, share.unsigned_abs())));
            }
        }
        let (at, _, fit) = best?;
        credits[at].credit -= total;
        Some(fit)
    }
}

/// Requests under way for each unit of a share, compared without a division.
fn busier((a, a_share): &Fit<'_>, (b, b_share): &Fit<'_>) -> std::cmp::Ordering {
    let of = |target: &Arc<Target>, other: u64| u128::from(target.load() as u64 + 1) * u128::from(other);
    of(a, *b_share).cmp(&of(b, *a_share))
}

/// The less busy of two at random.
fn two<'a>(fit: &[Fit<'a>]) -> Fit<'a> {
    let random: [u8; 8] = random_array().unwrap_or_default();
    let [a, b] =
        [0, 4].map(|at| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]) as usize);
    let first = a % fit.len();
    let second = (first + 1 + b % (fit.len() - 1)) % fit.len();
    let (a, b) = (fit[first], fit[second]);
    if busier(&a, &b).is_le() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::target::{From, Place};

    fn fit(targets: &[Arc<Target>]) -> Vec<Fit<'_>> {
        targets.iter().map(|target| (target, u64::from(target.weight()) * 1000)).collect()
    }

    fn targets(weights: &[u32]) -> Vec<Arc<Target>> {
        let one = |(at, weight): (usize, &u32)| {
            let authority = format!("127.0.0.1:{}", 1000 + at);
            Arc::new(Target::new(Place { https: false, of: authority.clone(), authority }, *weight, From::Start))
        };
        weights.iter().enumerate().map(one).collect()
    }

    fn tally(choice: Choice, weights: &[u32], picks: usize) -> Vec<usize> {
        let (targets, turn) = (targets(weights), Turn::default());
        let fit = fit(&targets);
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
        let (targets, turn) = (targets(&[2, 1]), Turn::default());
        let fit = fit(&targets);
        let names: Vec<_> =
            (0..6).map(|_| turn.pick(Choice::RoundRobin, &fit).expect("one").name().to_owned()).collect();
        assert_ne!(names[0], names[1], "{names:?}");
    }

    #[test]
    fn two_choices_reach_all_and_least_goes_to_the_idle_one() {
        assert!(tally(Choice::TwoChoices, &[1, 1, 1, 1], 400).iter().all(|picked| *picked > 40));
        assert_eq!(tally(Choice::LeastRequests, &[1, 3], 4), [0, 4], "of idle ones the heavier");
        assert!(Turn::default().pick(Choice::RoundRobin, &[]).is_none());
    }
}
