//! How a row of equal pieces of work is cut into tasks.
use crate::alloc;
use core::ops::Range;

/// Runs that cover `0 .. len`, in order.
pub(crate) struct Runs {
    len: usize,
    /// Each piece of work is so many of them.
    shares: usize,
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
            shares: 1,
            size: len.div_ceil(count).max(1),
            ends: Vec::new(),
        }
    }

    /// For threads that take one after the other: rounds of as many equal runs as there are threads, each of which takes about
    /// three quarters of what is left (factoring: Hummel, Schonberg and Flynn, 1992). Runs have at least `least` pieces, but for the
    /// last one, and at most `most`. The first are long, and with the last, short ones threads end together, though one was slower
    /// than the others or came late.
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
                shares,
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
                    alloc::push(&mut ends, at);
                }
            }
        }
        Runs {
            len,
            shares,
            size: 1,
            ends,
        }
    }

    pub fn count(&self) -> usize {
        if self.ends.is_empty() {
            self.len.div_ceil(self.size)
        } else {
            self.ends.len()
        }
    }

    /// Which run stands at this place of a list for [`super::for_each`], whose threads begin at both ends: the first, longest ones
    /// stand there, and the last ones in the middle, where threads meet.
    pub fn at_place(&self, place: usize) -> usize {
        let count = self.count();
        match count.div_ceil(2) {
            half if place < half => 2 * place,
            _ => 2 * (count - 1 - place) + 1,
        }
    }

    /// A run as pieces, and which part of each is meant.
    pub fn part(&self, run: usize) -> Part {
        let (run, of) = (self.get(run), self.shares);
        let from = run.start % of;
        Part {
            pieces: run.start / of..run.end.div_ceil(of),
            // Of whole pieces, unless it is less than one.
            share: from..if run.len() < of { from + run.len() } else { of },
            of,
        }
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

/// Some pieces of work, or a share of one.
pub(crate) struct Part {
    pub pieces: Range<usize>,
    share: Range<usize>,
    of: usize,
}

impl Part {
    /// What the share is of something that `len` counts.
    pub fn of(&self, len: usize) -> Range<usize> {
        self.share.start * len / self.of..self.share.end * len / self.of
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
            let mut places: Vec<usize> = (0..runs.count()).map(|i| runs.at_place(i)).collect();
            assert_eq!(places[0], 0);
            assert_eq!(*places.last().unwrap_or(&9), usize::from(places.len() > 1));
            places.sort_unstable();
            assert_eq!(places, (0..runs.count()).collect::<Vec<_>>());
        }
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
                    let part = runs.part(i);
                    assert_eq!(part.pieces.len() * part.of(shares).len(), size);
                    assert_eq!(
                        part.pieces.start * shares + part.of(shares).start,
                        run.start
                    );
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
