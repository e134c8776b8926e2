use std::sync::Arc;

/// Cuts a stream of text at the first stop string, and holds back text that may become one.
///
/// The pieces from [`push`](Self::push) and [`finish`](Self::finish) together are the text before the stop string that is completed
/// first. If several are completed at the same byte, the longest counts. Text that may begin a stop string is held back until
/// that is decided.
///
/// Created by [`StopStrings::filter`](crate::StopStrings::filter).
#[derive(Debug, Clone)]
pub struct StopFilter {
    stops: Arc<[String]>,
    /// The `shown` bytes of the last piece, followed by those held back.
    text: String,
    shown: usize,
    /// The index of the stop string that ended the text.
    stopped: Option<usize>,
}

impl StopFilter {
    pub(crate) const fn new(stops: Arc<[String]>) -> Self {
        Self { stops, text: String::new(), shown: 0, stopped: None }
    }

    /// Takes more text and returns what may be shown now: nothing after a stop string.
    ///
    /// O((held bytes + new bytes) x bytes of all stop strings).
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

    /// Ends the text, returns what was held back, and resets the filter.
    pub fn finish(&mut self) -> String {
        let held = if self.stopped.is_some() { String::new() } else { self.text.split_off(self.shown) };
        self.text.clear();
        self.shown = 0;
        self.stopped = None;
        held
    }

    /// The stop string that ended the text, if any.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped.map(|index| self.stops[index].as_str())
    }

    /// The start and index of the stop string that is completed first. It ends after the first `held` bytes: earlier calls have
    /// checked those.
    fn first_completed(&self, held: usize) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        (held + 1..=bytes.len()).find_map(|end| {
            let completed =
                (0..).zip(self.stops.iter()).filter(|(_, stop)| bytes[..end].ends_with(stop.as_bytes()));
            completed.max_by_key(|(_, stop)| stop.len()).map(|(index, stop)| (end - stop.len(), index))
        })
    }

    /// The start of the longest suffix that is a prefix of a stop string. It is a character boundary, since stop strings start with
    /// a whole character.
    fn held_from(&self) -> usize {
        let bytes = self.text.as_bytes();
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = (bytes.len() + 1).saturating_sub(longest);
        (from..bytes.len())
            .find(|&start| self.stops.iter().any(|stop| stop.as_bytes().starts_with(&bytes[start..])))
            .unwrap_or(bytes.len())
    }
}
