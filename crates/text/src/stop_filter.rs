use std::sync::Arc;

/// Cuts a stream of text at the first stop string, and holds back what may become one.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) give out, put together, is the text up to the stop
/// string that is completed first; the stop string itself is not shown. Where several are completed at the same
/// place, the longest counts. Text that may be the beginning of a stop string is held until it is clear that it is
/// not.
///
/// Get one from [`StopStrings::filter`](crate::StopStrings::filter).
#[derive(Debug, Clone)]
pub struct StopFilter {
    stops: Arc<[String]>,
    /// `shown` bytes that have been given out, followed by those held back.
    text: String,
    shown: usize,
    stopped: Option<usize>,
}

impl StopFilter {
    pub(crate) const fn new(stops: Arc<[String]>) -> Self {
        Self { stops, text: String::new(), shown: 0, stopped: None }
    }

    /// Takes more text and gives what may be shown now. After a stop string that is nothing.
    ///
    /// O(bytes held and new x bytes of all stop strings) at worst.
    pub fn push(&mut self, text: &str) -> &str {
        self.text.drain(..self.shown);
        self.shown = 0;
        if self.stopped.is_some() {
            return "";
        }
        let held = self.text.len();
        self.text.push_str(text);
        if let Some((start, stop)) = self.first_completed(held) {
            self.text.truncate(start);
            self.stopped = Some(stop);
            self.shown = start;
        } else {
            self.shown = self.held_from();
        }
        &self.text[..self.shown]
    }

    /// Ends the text and gives what was held back. The filter is as new after that.
    pub fn finish(&mut self) -> String {
        let held = if self.stopped.is_some() { String::new() } else { self.text.split_off(self.shown) };
        self.text.clear();
        self.shown = 0;
        self.stopped = None;
        held
    }

    /// The stop string that has ended the text, if one has.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped.map(|index| self.stops[index].as_str())
    }

    /// Where the stop string begins that is completed first, past the first `held` bytes, and its index. None can be
    /// completed before that: it would have been found earlier.
    fn first_completed(&self, held: usize) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        (held + 1..=bytes.len()).find_map(|end| {
            let completed =
                (0..).zip(self.stops.iter()).filter(|(_, stop)| bytes[..end].ends_with(stop.as_bytes()));
            completed.max_by_key(|(_, stop)| stop.len()).map(|(index, stop)| (end - stop.len(), index))
        })
    }

    /// Where the longest end of the text begins that is the beginning of a stop string.
    ///
    /// Stop strings begin with a whole character, so this is never inside one.
    fn held_from(&self) -> usize {
        let bytes = self.text.as_bytes();
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = (bytes.len() + 1).saturating_sub(longest);
        (from..bytes.len())
            .find(|&start| self.stops.iter().any(|stop| stop.as_bytes().starts_with(&bytes[start..])))
            .unwrap_or(bytes.len())
    }
}
