//! A stream and a consumer of it, as plain data.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use model::time::Timestamp;

use crate::backlog::Backlog;
use crate::runs::Published;
use crate::wire::headers::{Headers, MESSAGE_ID};

/// A stored message.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
    pub(super) stored_at: Timestamp,
}

/// A stream: messages by sequence, and the message ids of its dedup window.
pub(super) struct Log {
    pub(super) last_sequence: u64,
    pub(super) messages: BTreeMap<u64, Stored>,
    ids: HashMap<String, (u64, Timestamp)>,
    window: Duration,
}

impl Log {
    pub(super) fn new(window: Duration) -> Self {
        Self { last_sequence: 0, messages: BTreeMap::new(), ids: HashMap::new(), window }
    }

    pub(super) fn append(&mut self, message: Stored) -> Published {
        if let Some(id) = message.headers.get(MESSAGE_ID) {
            let known = self.ids.get(id).filter(|(_, at)| message.stored_at < at.plus(self.window));
            if let Some((sequence, _)) = known {
                return Published { sequence: *sequence, duplicate: true };
            }
            self.ids.insert(id.clone(), (self.last_sequence + 1, message.stored_at));
        }
        self.last_sequence += 1;
        self.messages.insert(self.last_sequence, message);
        Published { sequence: self.last_sequence, duplicate: false }
    }

    /// What a restart of the server does to the dedup window: only the ids of stored messages are remembered.
    pub(super) fn forget_ids(&mut self) {
        let messages = &self.messages;
        self.ids.retain(|_, (sequence, _)| messages.contains_key(sequence));
    }
}

/// One message as a consumer sees it.
#[derive(Clone, Copy)]
struct Hand {
    delivered: u32,
    /// When it may be delivered (again).
    visible_at: Timestamp,
}

/// A consumer: messages that are offered or in somebody's hands. Acknowledged ones are gone.
#[derive(Default)]
pub(super) struct Hands {
    open: BTreeMap<u64, Hand>,
    /// How many may be delivered and not acknowledged.
    pub(super) most_out: Option<usize>,
}

impl Hands {
    pub(super) fn offer(&mut self, sequence: u64) {
        self.open.insert(sequence, Hand { delivered: 0, visible_at: Timestamp::from_ms(i64::MIN) });
    }

    /// Up to `limit` visible messages, hidden until `hidden_until`, with how often each was delivered.
    pub(super) fn take(&mut self, now: Timestamp, limit: usize, hidden_until: Timestamp) -> Vec<(u64, u32)> {
        let out = self.open.values().filter(|hand| hand.delivered > 0).count();
        let mut room = self.most_out.map_or(usize::MAX, |most| most.saturating_sub(out));
        let visible = self.open.iter_mut().filter(|(_, hand)| hand.visible_at <= now);
        let visible = visible.filter(move |(_, hand)| {
            let fits = hand.delivered > 0 || room > 0;
            room -= usize::from(fits && hand.delivered == 0);
            fits
        });
        let visible = visible.take(limit);
        visible
            .map(|(sequence, hand)| {
                hand.delivered += 1;
                hand.visible_at = hidden_until;
                (*sequence, hand.delivered)
            })
            .collect()
    }

    /// When the next hidden message becomes visible.
    pub(super) fn next_visible(&self) -> Option<Timestamp> {
        self.open.values().map(|hand| hand.visible_at).min()
    }

    /// Hides a message until an instant; nothing if it was acknowledged.
    pub(super) fn hide(&mut self, sequence: u64, until: Timestamp) {
        if let Some(hand) = self.open.get_mut(&sequence) {
            hand.visible_at = until;
        }
    }

    /// Hides nothing any more.
    pub(super) fn show(&mut self) {
        self.open.values_mut().for_each(|hand| hand.visible_at = Timestamp::from_ms(i64::MIN));
    }

    /// `true` if it was open.
    pub(super) fn close(&mut self, sequence: u64) -> bool {
        self.open.remove(&sequence).is_some()
    }

    /// How it stands. Nobody waits here: a reader in memory asks again and again.
    pub(super) fn backlog(&self) -> Backlog {
        let (fresh, known): (Vec<_>, Vec<_>) = self.open.iter().partition(|(_, hand)| hand.delivered == 0);
        let count = |hands: &[(&u64, &Hand)]| u64::try_from(hands.len()).unwrap_or(u64::MAX);
        let delivered_until = known.last().map_or(0, |(sequence, _)| **sequence);
        Backlog { waiting_pulls: 0, in_hand: count(&known), undelivered: count(&fresh), delivered_until }
    }

    /// The sequence below which everything is acknowledged, if anything is open.
    pub(super) fn first_open(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }
}
