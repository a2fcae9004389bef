//! Readers of a file, told apart by what they read: streams, which are read ahead, and reads that stand alone.

use std::ops::Range;

/// The first window of a stream.
const FIRST_WINDOW_BYTES: u64 = 1 << 20;
/// The widest window of a stream.
const LAST_WINDOW_BYTES: u64 = 8 << 20;
/// How far from the furthest read a request may begin to be the next of a stream, until it is clear that it is one.
const NEXT_BYTES: u64 = 512 << 10;
/// How far behind the furthest read a request still counts as part of a stream.
const BEHIND_BYTES: u64 = 1 << 20;
/// How far beyond the furthest read it does.
const BEYOND_BYTES: u64 = 16 << 20;
/// Reads close to each other that make a stream.
const STREAK_OF_STREAM: u32 = 2;
/// Streams that are told apart in one file: programs restore a dump by several processes.
const STREAMS_MAX: usize = 8;

/// What to do about a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Advice {
    /// It is part of a stream: decode what comes next.
    ReadAhead(Range<u64>),
    /// It stands alone: whoever reads at random does so again and again, and the frame around it was decoded anyway.
    HandOver,
}

/// What is known of the order in which a file is read, by all who read it.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The one that was read last at the end.
    recent: Vec<Stream>,
}

impl Streams {
    /// Takes note of a read in a file of `length` bytes; returns what should be done about it.
    pub(super) fn note(&mut self, read: Range<u64>, length: u64) -> Option<Advice> {
        let Some(at) = self.recent.iter().position(|stream| stream.goes_on_with(&read)) else {
            if self.recent.len() == STREAMS_MAX {
                self.recent.remove(0);
            }
            self.recent.push(Stream::begin(&read));
            // Whoever begins at the start reads on, as it seems.
            return (read.start > 0).then_some(Advice::HandOver);
        };
        let mut stream = self.recent.remove(at);
        let ahead = stream.go_on(&read, length);
        self.recent.push(stream);
        ahead.map(Advice::ReadAhead)
    }

    /// Takes note that the kernel was given a range: who reads on will ask for what comes behind it.
    pub(super) fn note_handed_over(&mut self, range: &Range<u64>) {
        if let Some(stream) = self.recent.iter_mut().rfind(|stream| range.contains(&stream.reached)) {
            stream.reached = range.end;
            stream.ahead = stream.ahead.max(range.end);
        }
    }
}

/// One reader's way through a file.
///
/// Several of the kernel's requests are under way at a time and overtake each other, so that a stream is
/// recognised by closeness, not by each request beginning where the last one ended.
#[derive(Debug)]
struct Stream {
    /// End of the furthest read.
    reached: u64,
    /// End of what was asked for ahead.
    ahead: u64,
    window: u64,
    /// Reads close to each other.
    streak: u32,
}

impl Stream {
    fn begin(read: &Range<u64>) -> Self {
        Self { reached: read.end, ahead: read.end, window: FIRST_WINDOW_BYTES, streak: 1 }
    }

    fn goes_on_with(&self, read: &Range<u64>) -> bool {
        let (behind, beyond) = match self.streak {
            ..STREAK_OF_STREAM => (NEXT_BYTES, NEXT_BYTES),
            STREAK_OF_STREAM.. => (BEHIND_BYTES, BEYOND_BYTES),
        };
        read.start.saturating_add(behind) >= self.reached && read.start <= self.reached.saturating_add(beyond)
    }

    fn go_on(&mut self, read: &Range<u64>, length: u64) -> Option<Range<u64>> {
        self.reached = self.reached.max(read.end);
        self.streak = self.streak.saturating_add(1);
        if self.ahead >= self.reached + self.window / 2 {
            return None;
        }
        let start = self.ahead.max(self.reached);
        let end = (self.reached + self.window).min(length);
        self.window = (self.window * 2).min(LAST_WINDOW_BYTES);
        self.ahead = self.ahead.max(end);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 1 << 30;
    const READ: u64 = 128 << 10;

    /// Reads at `offsets` and returns everything that was asked for ahead.
    fn ahead_of(offsets: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
        let mut streams = Streams::default();
        let advices = offsets.into_iter().filter_map(|offset| streams.note(offset..offset + READ, LENGTH));
        advices
            .filter_map(|advice| if let Advice::ReadAhead(range) = advice { Some(range) } else { None })
            .collect()
    }

    #[test]
    fn a_stream_is_read_ahead_without_gaps_in_growing_windows() {
        let ranges = ahead_of((0..400).map(|n| n * READ));
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
        assert_eq!(ranges[0], 2 * READ..2 * READ + FIRST_WINDOW_BYTES);
        assert!(ranges.iter().all(|range| range.end - range.start <= LAST_WINDOW_BYTES));
        assert!(ranges.last().unwrap().end >= 400 * READ + LAST_WINDOW_BYTES / 2);
    }

    #[test]
    fn requests_that_overtake_each_other_are_still_a_stream() {
        let ranges = ahead_of((0..200).map(|n| (n ^ 1) * READ));
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
        assert!(ranges.last().unwrap().end >= 200 * READ + LAST_WINDOW_BYTES / 2);
    }

    #[test]
    fn random_reads_are_never_read_ahead() {
        assert_eq!(ahead_of((0..100).map(|n| (n * 7919 % 50) * (18 << 20) + (1 << 20))), []);
        assert_eq!(ahead_of([0]), []);
    }

    #[test]
    fn what_stands_around_a_read_is_handed_over_only_if_it_stands_alone() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(0..READ, LENGTH), None, "it is the start of a file");
        assert_eq!(
            streams.note(READ..2 * READ, LENGTH).map(|advice| advice == Advice::HandOver),
            Some(false)
        );
        let far = LENGTH / 2;
        assert_eq!(streams.note(far..far + 4096, LENGTH), Some(Advice::HandOver));
        assert_eq!(
            streams.note(far..far + 4096, LENGTH).map(|advice| advice == Advice::HandOver),
            Some(false)
        );
    }

    #[test]
    fn a_jump_starts_again_with_a_small_window() {
        let start = LENGTH / 2;
        let ranges = ahead_of((0..100).map(|n| n * READ).chain([start, start + READ]));
        let last = ranges.last().unwrap();
        assert_eq!(*last, start + 2 * READ..start + 2 * READ + FIRST_WINDOW_BYTES);
    }

    #[test]
    fn readers_of_one_file_are_told_apart() {
        let starts: Vec<u64> = (0..STREAMS_MAX as u64).map(|reader| reader * (LENGTH >> 3)).collect();
        let ranges = ahead_of((0..100).flat_map(|n| starts.iter().map(move |start| start + n * READ)));
        for start in starts {
            let own: Vec<_> =
                ranges.iter().filter(|r| (start..start + (LENGTH >> 3)).contains(&r.start)).collect();
            assert_eq!(*own[0], start + 2 * READ..start + 2 * READ + FIRST_WINDOW_BYTES);
            assert!(own.windows(2).all(|pair| pair[0].end == pair[1].start), "{own:?}");
        }
    }

    #[test]
    fn who_reads_on_behind_what_was_handed_over_is_a_stream() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(READ..2 * READ, LENGTH), Some(Advice::HandOver));
        let end = 4 << 20;
        streams.note_handed_over(&(0..end));
        let ahead = end + READ..end + READ + FIRST_WINDOW_BYTES;
        assert_eq!(streams.note(end..end + READ, LENGTH), Some(Advice::ReadAhead(ahead)));
    }

    #[test]
    fn nothing_lies_ahead_of_the_end() {
        let mut streams = Streams::default();
        let reads = (0..3 << 20).step_by(128 << 10).map(|offset| offset..offset + READ);
        let last = reads.filter_map(|read| streams.note(read, 3 << 20)).last();
        assert!(matches!(last, Some(Advice::ReadAhead(range)) if range.end == 3 << 20));
    }
}
