//! Excerpts: the beginning and the end of a text that may be far too long, with a mark in between.
//!
//! The beginning says what was attempted, the end how it went wrong; the middle is what one can do without.

use std::collections::VecDeque;

/// Room for the mark, with the largest number in it.
const MARK_BYTES_MAX: usize = 48;

/// Collects a stream of bytes in bounded memory: what it may hold is fixed, what it is fed isn't.
///
/// ```
/// let mut excerpt = ecron_executor_sdk::Excerpt::new(100);
/// excerpt.push(&[b'a'; 1_000]);
/// excerpt.push(b"the end");
/// let text = excerpt.into_text();
/// assert!(text.len() <= 100 && text.starts_with("aaa") && text.ends_with("the end"));
/// ```
#[derive(Debug)]
pub struct Excerpt {
    bytes_max: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Excerpt {
    /// An empty one whose text will take at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head_max, tail_max) = (self.head_max(), self.bytes_max - self.head_max());
        let (to_head, rest) = bytes.split_at(bytes.len().min(head_max - self.head.len()));
        self.head.extend_from_slice(to_head);
        let rest = &rest[rest.len().saturating_sub(tail_max)..];
        let overflow = (self.tail.len() + rest.len()).saturating_sub(tail_max);
        self.tail.drain(..overflow);
        self.tail.extend(rest);
    }

    /// How many bytes it was fed.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The text; bytes that aren't UTF-8 become `�`.
    #[must_use]
    pub fn into_text(mut self) -> String {
        let tail = self.tail.make_contiguous();
        if self.total <= (self.head.len() + tail.len()) as u64 {
            self.head.extend_from_slice(tail);
            return clip(&String::from_utf8_lossy(&self.head), self.bytes_max);
        }
        // Head and tail fill the limit: the mark takes half of its room from each.
        let head = &self.head[..self.head.len().saturating_sub(MARK_BYTES_MAX / 2)];
        let tail = &tail[(MARK_BYTES_MAX / 2).min(tail.len())..];
        let left_out = self.total - (head.len() + tail.len()) as u64;
        let (head, tail) =
            (String::from_utf8_lossy(whole_end(head)), String::from_utf8_lossy(whole_start(tail)));
        clip(&format!("{head}{}{tail}", mark(left_out)), self.bytes_max)
    }

    fn head_max(&self) -> usize {
        self.bytes_max / 2
    }
}

/// A text of at most `bytes_max` bytes: itself, or its beginning and end with a mark in between.
#[must_use]
pub fn clip(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let keep = bytes_max.saturating_sub(MARK_BYTES_MAX);
    let head = &text[..text.floor_char_boundary(keep / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - (keep - keep / 2))..];
    let clipped = format!("{head}{}{tail}", mark((text.len() - head.len() - tail.len()) as u64));
    // Limits too small for the mark get what fits of it.
    clipped[..clipped.floor_char_boundary(bytes_max)].to_owned()
}

fn mark(bytes: u64) -> String {
    format!("\n[… {bytes} bytes left out …]\n")
}

/// Without a character that the cut took the end off.
fn whole_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Without a character that the cut took the beginning off.
fn whole_start(bytes: &[u8]) -> &[u8] {
    let torn = bytes.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
    &bytes[torn..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(chunks: &[&[u8]], bytes_max: usize) -> String {
        let mut excerpt = Excerpt::new(bytes_max);
        chunks.iter().for_each(|chunk| excerpt.push(chunk));
        excerpt.into_text()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(excerpt(&[b"one ", b"two"], 100), "one two");
        assert_eq!(excerpt(&[&[b'x'; 100]], 100), "x".repeat(100));
        assert_eq!(excerpt(&[], 100), "");
        assert_eq!(clip("as it is", 8), "as it is");
    }

    #[test]
    fn what_does_not_fit_keeps_both_ends_and_says_how_much_is_missing() {
        let numbers: String = (0..1_000).map(|n| format!("{n} ")).collect();
        for text in [excerpt(&[numbers.as_bytes()], 200), clip(&numbers, 200)] {
            assert!(text.len() <= 200, "{}", text.len());
            assert!(text.starts_with("0 1 2 ") && text.ends_with(" 998 999 "), "{text}");
            assert!(text.contains("bytes left out"), "{text}");
        }
    }

    #[test]
    fn chunks_make_no_difference() {
        let bytes: Vec<u8> = (0..5_000u32).map(|n| b'a' + (n % 26) as u8).collect();
        let whole = excerpt(&[&bytes], 300);
        for size in [1, 7, 150, 299, 301, 4_999] {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(excerpt(&chunks, 300), whole, "{size}");
        }
    }

    #[test]
    fn every_limit_is_kept_for_every_text() {
        let texts = ["äöü€😀".repeat(100).into_bytes(), vec![0xff; 1_000], b"plain".repeat(50)];
        for text in &texts {
            for bytes_max in 0..400 {
                assert!(excerpt(&[text], bytes_max).len() <= bytes_max);
                assert!(clip(&String::from_utf8_lossy(text), bytes_max).len() <= bytes_max);
            }
        }
    }

    #[test]
    fn a_cut_tears_no_character() {
        let text = excerpt(&["ä€😀".repeat(100).as_bytes()], 200);
        assert!(!text.contains('\u{fffd}'), "{text}");
    }
}
