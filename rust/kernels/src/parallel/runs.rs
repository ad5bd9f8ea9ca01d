//! How a row of equal pieces of work is cut into tasks.
use crate::alloc;
use core::ops::Range;

/// Runs that cover `0 .. len`, in order.
pub(crate) struct Runs {
    len: usize,
    /// Of all runs but the last, unless `ends` says.
    size: usize,
    ends: Vec<usize>,
}

impl Runs {
    /// As few as possible of at most `most`, of nearly equal length.
    pub fn even(len: usize, most: usize) -> Self {
        let count = len.div_ceil(most.max(1)).max(1);
        Runs {
            len,
            size: len.div_ceil(count).max(1),
            ends: Vec::new(),
        }
    }

    /// For threads that take one after the other: rounds of as many equal runs as there are threads, each of which takes three
    /// quarters of what is left (factoring: Hummel, Schonberg and Flynn, 1992). Runs are at least `least` and at most `most`. The
    /// first are long, and with the last, short ones threads end together, though one was slower than the others or came late.
    pub fn factored(len: usize, threads: usize, least: usize, most: usize) -> Self {
        Runs::factored_shares(len, 1, threads, least, most)
    }

    /// The same for pieces that can be cut into `shares`, a power of two: runs over all shares, each of which is some whole pieces
    /// or an equal part of one.
    pub fn factored_shares(
        len: usize,
        shares: usize,
        threads: usize,
        least: usize,
        most: usize,
    ) -> Self {
        if threads < 2 {
            let Runs { size, .. } = Runs::even(len, most);
            let (len, size) = (len * shares, size * shares);
            return Runs {
                len,
                size,
                ends: Vec::new(),
            };
        }
        let len = len * shares;
        let mut ends = alloc::vec(16);
        let mut at = 0;
        while at < len {
            let round = (len - at).div_ceil(4) * 3;
            let mut size = round.div_ceil(threads);
            if size >= shares {
                let whole = size / shares;
                size = whole.max(least).min(most).max(1) * shares;
            } else if least > 1 {
                size = least * shares;
            } else {
                size = 1 << size.ilog2();
            }
            for _ in 0..threads {
                if at < len {
                    at += size.min(len - at);
                    ends.push(at);
                }
            }
        }
        Runs { len, size: 1, ends }
    }

    /// What the runs cover.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn count(&self) -> usize {
        if self.ends.is_empty() {
            self.len.div_ceil(self.size)
        } else {
            self.ends.len()
        }
    }

    /// The run that stands at this place of a list for [`super::for_each`], whose threads begin at both ends: the first, longest
    /// ones stand there, and the last ones in the middle, where threads meet.
    pub fn placed(&self, place: usize) -> Range<usize> {
        let count = self.count();
        self.get(match count.div_ceil(2) {
            half if place < half => 2 * place,
            _ => 2 * (count - 1 - place) + 1,
        })
    }

    pub fn get(&self, run: usize) -> Range<usize> {
        if self.ends.is_empty() {
            let first = (run * self.size).min(self.len);
            return first..(first + self.size).min(self.len);
        }
        let first = if run == 0 { 0 } else { self.ends[run - 1] };
        first..self.ends[run]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_everything_once() {
        for len in 0..200 {
            for (threads, least, most) in
                [(1, 1, 7), (2, 1, 50), (2, 3, 8), (5, 1, 1), (16, 9, 400)]
            {
                for runs in [
                    Runs::even(len, most),
                    Runs::factored(len, threads, least, most),
                ] {
                    let mut at = 0;
                    for i in 0..runs.count() {
                        let run = runs.get(i);
                        assert_eq!(run.start, at);
                        assert!(!run.is_empty() && run.len() <= most);
                        at = run.end;
                    }
                    assert_eq!(at, len);
                }
            }
        }
    }

    #[test]
    fn every_run_has_a_place() {
        for len in [1, 2, 7, 40] {
            let runs = Runs::factored(len, 2, 1, 30);
            let mut starts: Vec<usize> = (0..runs.count()).map(|i| runs.placed(i).start).collect();
            assert_eq!(starts.first(), Some(&0));
            starts.sort_unstable();
            assert_eq!(
                starts,
                (0..runs.count())
                    .map(|i| runs.get(i).start)
                    .collect::<Vec<_>>()
            );
        }
        let runs = Runs::factored(100, 2, 2, 50);
        assert_eq!(runs.placed(runs.count() - 1), runs.get(1));
    }

    #[test]
    fn shares_do_not_cross_pieces() {
        for (len, threads) in [(1, 4), (2, 4), (7, 4), (22, 2), (43, 4), (64, 16)] {
            for shares in [1, 2, 4, 8] {
                let runs = Runs::factored_shares(len, shares, threads, 1, 9);
                for i in 0..runs.count() {
                    let run = runs.get(i);
                    let size = run.len();
                    let whole = size.is_multiple_of(shares) && run.start.is_multiple_of(shares);
                    assert!(whole || shares.is_multiple_of(size) && run.start.is_multiple_of(size));
                }
                assert_eq!(runs.get(runs.count() - 1).end, len * shares);
            }
        }
    }

    #[test]
    fn shrink_towards_the_end() {
        let runs = Runs::factored(100, 2, 2, 50);
        let sizes: Vec<usize> = (0..runs.count()).map(|i| runs.get(i).len()).collect();
        assert!(sizes.windows(2).all(|w| w[0] >= w[1]), "{sizes:?}");
        assert_eq!(sizes[..4], [38, 38, 9, 9]);
        assert!(*sizes.last().unwrap_or(&9) <= 3);
    }
}
