//! Several products as one list of tasks.
use super::plan::Plan;
use crate::alloc;
use crate::element::Real;
use crate::parallel::{Cost, for_each, num_threads};

/// Tasks beside those of plans: how many, the work of each, and how to run one.
pub(crate) struct Extra<'a> {
    pub tasks: usize,
    pub flops: &'a dyn Fn(usize) -> f64,
    pub run: &'a (dyn Fn(usize) + Sync),
}

impl Extra<'_> {
    pub const NONE: Extra<'static> = Extra {
        tasks: 0,
        flops: &|_| 0.0,
        run: &|_| (),
    };
}

/// More tasks or plans than these run as they come.
const ORDERED: usize = 256;
const FEW: usize = 8;

/// Runs all tasks of all plans, and the extra ones.
///
/// Threads begin at both ends of the list, so large tasks stand there and small ones in the middle, where threads meet: one that was
/// slower, or came late, does fewer. `pack` are such tasks of the packing that comes before all products.
pub(crate) fn execute<T: Real>(
    plans: &[Plan<'_, T>],
    cost: Cost,
    pack: Extra<'_>,
    extra: Extra<'_>,
) {
    let run_list = |counts: &dyn Fn(&Plan<'_, T>) -> usize,
                    run: &(dyn Fn(&Plan<'_, T>, usize) + Sync),
                    ordered: bool,
                    extra: Extra<'_>| {
        let mut ends = alloc::vec(plans.len());
        ends.extend(plans.iter().scan(extra.tasks, |end, p| {
            *end += counts(p);
            Some(*end)
        }));
        let count = ends.last().copied().unwrap_or(extra.tasks);
        // Whose a task is, and its number there.
        let of = |task: usize| {
            let i = ends.partition_point(|&end| end <= task);
            let first = if i == 0 { extra.tasks } else { ends[i - 1] };
            (&plans[i], task - first)
        };
        let ordered = ordered && (3..=ORDERED).contains(&count) && plans.len() <= FEW;
        let order = ordered.then(|| {
            large_at_the_ends(alloc::collect((0..count).map(|task| {
                let size = if task < extra.tasks {
                    (extra.flops)(task)
                } else {
                    let (plan, i) = of(task);
                    plan.flops(i)
                };
                (size, task)
            })))
        });
        for_each(count, cost, &|i| {
            let task = order.as_ref().map_or(i, |order| order[i].1);
            if task < extra.tasks {
                return (extra.run)(task);
            }
            let (plan, i) = of(task);
            run(plan, i);
        });
    };
    run_list(&|p| p.pack_tasks(), &|p, i| p.run_pack(i), false, pack);
    let several = num_threads() > 1;
    run_list(&|p| p.tasks(), &|p, i| p.run(i), several, extra);
}

/// Tasks `(size, number)` by size: the largest first, the next one last, and so on.
fn large_at_the_ends(mut tasks: Vec<(f64, usize)>) -> Vec<(f64, usize)> {
    tasks.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut order = alloc::vec(tasks.len());
    order.extend(tasks.iter().step_by(2));
    order.extend(tasks.iter().skip(1).step_by(2).rev());
    order
}

#[cfg(test)]
mod tests {
    use super::large_at_the_ends;

    #[test]
    fn the_smallest_tasks_stand_in_the_middle() {
        let sizes = [1.0, 9.0, 4.0, 4.0, 2.0];
        let order = large_at_the_ends(sizes.into_iter().zip(0..).collect());
        let numbers: Vec<usize> = order.iter().map(|task| task.1).collect();
        assert_eq!(numbers, [1, 3, 0, 4, 2]);
    }
}
