//! The checks, each a pass over the history.

use super::history::{ClientHistory, FinalChannel, History, Moment, Op, SeenEvent};
use super::report::{Check, Report, Violation};
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, Ordinal, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Characters of a text that a report shows.
const TEXT_SHOWN_CHARS_MAX: usize = 40;

/// Judges a history.
pub fn audit(history: &History) -> Report {
    let mut audit = Audit { history, index: Index::of(history), report: Report::default() };
    audit.count();
    audit.check_final_history();
    audit.check_acks();
    audit.check_sightings();
    audit.check_realtime();
    for client in &history.clients {
        audit.check_program_order(client);
        audit.check_pages(client);
        audit.check_copies(client);
        audit.check_outbox(client);
    }
    audit.report
}

/// The name of one command: the key of once-ness.
type Key = (ChannelId, UserId, ClientMsgId);

/// An operation with the client that recorded it.
#[derive(Clone, Copy)]
struct At<'a> {
    at: Moment,
    client: &'a ClientHistory,
}

impl At<'_> {
    fn line(self, what: impl std::fmt::Display) -> String {
        format!("{} {:<12} {what}", self.at, self.client.name)
    }
}

/// A message as it was sent first, and the texts it was sent with.
struct SentMessage<'a> {
    first: At<'a>,
    bodies: BTreeSet<&'a str>,
}

/// An event as somebody saw it.
#[derive(Clone, Copy)]
struct Sighting<'a> {
    at: At<'a>,
    event: &'a Arc<SeenEvent>,
    how: &'static str,
}

/// What several checks look up.
#[derive(Default)]
struct Index<'a> {
    sends: BTreeMap<Key, SentMessage<'a>>,
    /// Every ack, in the order of clients and time.
    acks: BTreeMap<Key, Vec<(At<'a>, ChannelSeq)>>,
    /// Every event that reached a client.
    sightings: Vec<Sighting<'a>>,
    /// The first place of each command in the final history.
    places: BTreeMap<Key, ChannelSeq>,
    acked_seqs: BTreeSet<(ChannelId, ChannelSeq)>,
    pages: usize,
}

impl<'a> Index<'a> {
    fn of(history: &'a History) -> Self {
        let mut index = Self::default();
        for client in &history.clients {
            for recorded in &client.ops {
                let at = At { at: recorded.at, client };
                match &recorded.op {
                    Op::Sent { channel, id, body } => {
                        let sent = index
                            .sends
                            .entry((*channel, client.user, *id))
                            .or_insert_with(|| SentMessage { first: at, bodies: BTreeSet::new() });
                        if at.at < sent.first.at {
                            sent.first = at;
                        }
                        sent.bodies.insert(body);
                    }
                    Op::Acked { channel, id, seq } => {
                        index.acks.entry((*channel, client.user, *id)).or_default().push((at, *seq));
                        index.acked_seqs.insert((*channel, *seq));
                    }
                    Op::Received { event, .. } => index.sightings.push(Sighting { at, event, how: "received" }),
                    Op::PageRead { events, .. } => {
                        index.pages += 1;
                        index.sightings.extend(events.iter().map(|event| Sighting {
                            at,
                            event,
                            how: "read in a page",
                        }));
                    }
                    _ => {}
                }
            }
        }
        for (channel, end) in &history.channels {
            for event in &end.events {
                index.places.entry((*channel, event.sender, event.client_msg_id)).or_insert(event.seq);
            }
        }
        index
    }
}

struct Audit<'a> {
    history: &'a History,
    index: Index<'a>,
    report: Report,
}

impl<'a> Audit<'a> {
    fn count(&mut self) {
        let looked_at = &mut self.report.looked_at;
        looked_at.clients = self.history.clients.len();
        looked_at.sends = self.index.sends.len();
        looked_at.acks = self.index.acks.len();
        looked_at.receipts = self.index.sightings.len();
        looked_at.pages = self.index.pages;
        looked_at.events = self.history.channels.values().map(|channel| channel.events.len()).sum();
    }

    fn violated(
        &mut self,
        check: Check,
        channel: ChannelId,
        seq: Option<ChannelSeq>,
        what: String,
        evidence: Vec<String>,
    ) {
        self.report.add(Violation { check, channel, seq, what, evidence });
    }

    fn end_of(&self, channel: ChannelId) -> Option<&'a FinalChannel> {
        self.history.channels.get(&channel)
    }

    /// The final history by itself: dense, in order, each command once, written by members only.
    fn check_final_history(&mut self) {
        for (&channel, end) in &self.history.channels {
            let mut before: Option<&Arc<SeenEvent>> = None;
            let mut commands: BTreeMap<(UserId, ClientMsgId), &Arc<SeenEvent>> = BTreeMap::new();
            for event in &end.events {
                let (expected, ordinal) =
                    before.map_or((ChannelSeq(1), Ordinal(0)), |last| (last.seq.next(), last.ordinal));
                let ordinal = if event.kind.is_message() { ordinal.next() } else { ordinal };
                let evidence = || before.into_iter().chain([event]).map(|event| final_line(event)).collect();
                if event.seq != expected {
                    self.violated(
                        Check::Order,
                        channel,
                        Some(event.seq),
                        format!("the final history goes on here instead of at {expected}"),
                        evidence(),
                    );
                }
                if before.is_some_and(|last| event.message_id <= last.message_id) {
                    self.violated(
                        Check::Order,
                        channel,
                        Some(event.seq),
                        "its id does not rise with seq".into(),
                        evidence(),
                    );
                }
                if event.ordinal != ordinal {
                    let what = format!("its ordinal is {} instead of {ordinal}", event.ordinal);
                    self.violated(Check::Order, channel, Some(event.seq), what, evidence());
                }
                if let Some(last) = commands.insert((event.sender, event.client_msg_id), event) {
                    let one_record =
                        last.seq.next() == event.seq && last.time == event.time && !event.kind.is_message();
                    if !one_record {
                        let what = format!("the same command stands at {} already", last.seq);
                        let mut lines = self.sends_of((channel, event.sender, event.client_msg_id));
                        lines.extend([final_line(last), final_line(event)]);
                        self.violated(Check::Duplicate, channel, Some(event.seq), what, lines);
                    }
                }
                if event.kind.is_message() && !end.must_see(channel, event.sender, event.seq) {
                    let mut lines = self.sends_of((channel, event.sender, event.client_msg_id));
                    lines.push(final_line(event));
                    lines.push(stays_line(end, event.sender));
                    self.violated(Check::Leak, channel, Some(event.seq), "its sender is no member there".into(), lines);
                }
                before = Some(event);
            }
        }
    }

    /// Every ack is in the final history, with the text that was sent, and all acks of one message say the same.
    fn check_acks(&mut self) {
        let acks = std::mem::take(&mut self.index.acks);
        for (&key, acks) in &acks {
            let (channel, sender, id) = key;
            let (at, seq) = acks[0];
            let ack_line = |(at, seq): (At, ChannelSeq)| at.line(format_args!("ack of {} as seq {seq}", short(id)));
            if let Some(&other) = acks.iter().find(|(_, other)| *other != seq) {
                let mut lines = self.sends_of(key);
                lines.extend([ack_line((at, seq)), ack_line(other)]);
                self.violated(Check::Duplicate, channel, Some(seq), format!("acked again as {}", other.1), lines);
            }
            for &(at, seq) in acks {
                let found = self.end_of(channel).and_then(|end| end.at(seq));
                let what = match found {
                    None => "acked, but the final history has nothing there".into(),
                    Some(event) if (event.sender, event.client_msg_id) != (sender, id) => {
                        format!(
                            "acked, but the final history has another message there ({})",
                            short(event.client_msg_id)
                        )
                    }
                    Some(event) => match (&event.kind, self.index.sends.get(&key)) {
                        (EventKind::MessagePosted { text }, Some(sent)) if !sent.bodies.contains(&**text) => {
                            "acked, but the final history has another text".into()
                        }
                        _ => continue,
                    },
                };
                let mut lines = self.sends_of(key);
                lines.push(ack_line((at, seq)));
                lines.push(found.map_or_else(|| self.head_line(channel), |event| final_line(event)));
                self.violated(Check::Lost, channel, Some(seq), what, lines);
                break;
            }
        }
        self.index.acks = acks;
    }

    /// Everything that reached a client is in the final history, alike, and was for this person.
    fn check_sightings(&mut self) {
        let sightings = std::mem::take(&mut self.index.sightings);
        let mut first_of_absent: BTreeMap<(ChannelId, ChannelSeq), &Sighting> = BTreeMap::new();
        for sighting in &sightings {
            let Sighting { at, event, how } = sighting;
            let (channel, seq) = (event.channel, event.seq);
            let seen_line = || at.line(format_args!("{how}: {}", describe(event)));
            let Some(truth) = self.end_of(channel).and_then(|end| end.at(seq)) else {
                if let Some(first) = first_of_absent.get(&(channel, seq)) {
                    if first.event != *event {
                        let lines =
                            vec![first.at.line(format_args!("{}: {}", first.how, describe(first.event))), seen_line()];
                        self.violated(
                            Check::Divergence,
                            channel,
                            Some(seq),
                            "two clients saw different events".into(),
                            lines,
                        );
                    }
                } else {
                    first_of_absent.insert((channel, seq), sighting);
                    let lines = vec![seen_line(), self.head_line(channel)];
                    self.violated(
                        Check::AbortedRead,
                        channel,
                        Some(seq),
                        "seen, but the final history has nothing there".into(),
                        lines,
                    );
                }
                continue;
            };
            if truth != *event {
                let same_message = (truth.sender, truth.client_msg_id) == (event.sender, event.client_msg_id);
                let elsewhere = self.index.places.contains_key(&(channel, event.sender, event.client_msg_id));
                let lines = vec![seen_line(), final_line(truth)];
                self.violated(
                    Check::Divergence,
                    channel,
                    Some(seq),
                    "seen otherwise than the final history has it".into(),
                    lines.clone(),
                );
                if !same_message && !elsewhere {
                    let what = format!(
                        "the final history does not have the message that was seen ({})",
                        short(event.client_msg_id)
                    );
                    self.violated(Check::AbortedRead, channel, Some(seq), what, lines);
                }
            }
            if let Some(end) = self.end_of(channel)
                && !end.may_see(channel, at.client.user, seq)
            {
                let lines = vec![seen_line(), stays_line(end, at.client.user)];
                self.violated(
                    Check::Leak,
                    channel,
                    Some(seq),
                    format!("it reached {}, who may not see it", at.client.name),
                    lines,
                );
            }
        }
        self.index.sightings = sightings;
    }

    /// What was invoked after something was seen stands after it.
    fn check_realtime(&mut self) {
        struct Known<'a> {
            at: At<'a>,
            seq: ChannelSeq,
            how: &'static str,
        }
        type Sent<'a> = (At<'a>, ChannelSeq, ClientMsgId);
        let mut by_channel: BTreeMap<ChannelId, (Vec<Known>, Vec<Sent>)> = BTreeMap::new();
        for sighting in &self.index.sightings {
            let known = Known { at: sighting.at, seq: sighting.event.seq, how: sighting.how };
            by_channel.entry(sighting.event.channel).or_default().0.push(known);
        }
        for ((channel, ..), acks) in &self.index.acks {
            let known = acks.iter().map(|&(at, seq)| Known { at, seq, how: "acked" });
            by_channel.entry(*channel).or_default().0.extend(known);
        }
        for (key, sent) in &self.index.sends {
            let acked = self.index.acks.get(key).map(|acks| acks[0].1);
            if let Some(seq) = self.index.places.get(key).copied().or(acked) {
                by_channel.entry(key.0).or_default().1.push((sent.first, seq, key.2));
            }
        }
        for (channel, (mut known, mut sends)) in by_channel {
            known.sort_by_key(|known| (known.at.at, known.seq));
            sends.sort_by_key(|(at, seq, _)| (at.at, *seq));
            let mut known = known.iter().peekable();
            let mut highest: Option<&Known> = None;
            for (sent, seq, id) in sends {
                while let Some(next) = known.next_if(|known| known.at.at < sent.at) {
                    if highest.is_none_or(|highest| highest.seq < next.seq) {
                        highest = Some(next);
                    }
                }
                if let Some(highest) = highest.filter(|highest| highest.seq > seq) {
                    let what = format!("sent after seq {} was {}, yet it stands before it", highest.seq, highest.how);
                    let lines = vec![
                        highest.at.line(format_args!("seq {} {}", highest.seq, highest.how)),
                        sent.line(format_args!("send {}, which became seq {seq}", short(id))),
                    ];
                    self.violated(Check::RealtimeOrder, channel, Some(seq), what, lines);
                }
            }
        }
    }

    /// What a client sends after an ack stands after what was acked.
    fn check_program_order(&mut self, client: &'a ClientHistory) {
        let mut acked: BTreeMap<ChannelId, (At, ChannelSeq, ClientMsgId)> = BTreeMap::new();
        let mut sent = BTreeSet::new();
        for recorded in &client.ops {
            let at = At { at: recorded.at, client };
            match &recorded.op {
                Op::Acked { channel, id, seq } => {
                    let last = acked.entry(*channel).or_insert((at, *seq, *id));
                    if last.1 < *seq {
                        *last = (at, *seq, *id);
                    }
                }
                Op::Sent { channel, id, .. } if sent.insert((*channel, *id)) => {
                    let Some(&(acked_at, acked_seq, acked_id)) = acked.get(channel) else { continue };
                    let key = (*channel, client.user, *id);
                    let Some(&seq) = self.index.places.get(&key) else { continue };
                    // Another device of the same person may have sent it before.
                    let is_first = self.index.sends.get(&key).is_some_and(|sent| sent.first.at >= at.at);
                    if is_first && seq < acked_seq {
                        let lines = vec![
                            acked_at.line(format_args!("ack of {} as seq {acked_seq}", short(acked_id))),
                            at.line(format_args!("send {}, which became seq {seq}", short(*id))),
                        ];
                        let what = format!("{} sent it after the ack of seq {acked_seq}", client.name);
                        self.violated(Check::Order, *channel, Some(seq), what, lines);
                    }
                }
                _ => {}
            }
        }
    }

    /// A page has all that it claims to be complete for, in order.
    fn check_pages(&mut self, client: &'a ClientHistory) {
        let mut asked: BTreeMap<(ChannelId, u64), At> = BTreeMap::new();
        for recorded in &client.ops {
            let at = At { at: recorded.at, client };
            let (channel, request, first, last, events) = match &recorded.op {
                Op::PageAsked { channel, request } => {
                    asked.insert((*channel, *request), at);
                    continue;
                }
                Op::PageRead { channel, request, first, last, events } => (*channel, *request, *first, *last, events),
                _ => continue,
            };
            let mut lines: Vec<String> = asked
                .get(&(channel, request))
                .map(|asked| asked.line(format_args!("page {request} asked for")))
                .into_iter()
                .collect();
            lines.push(
                at.line(format_args!("page {request} read, complete for {first}–{last}, {} events", events.len())),
            );
            if let Some(pair) = events.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
                let what = format!("a page has seq {} after {}", pair[1].seq, pair[0].seq);
                self.violated(Check::Order, channel, Some(pair[1].seq), what, lines.clone());
            }
            let Some(end) = self.end_of(channel) else { continue };
            let held: BTreeSet<ChannelSeq> = events.iter().map(|event| event.seq).collect();
            let missing = end.events.iter().find(|event| {
                (first..=last).contains(&event.seq)
                    && !held.contains(&event.seq)
                    && end.must_see(channel, client.user, event.seq)
            });
            if let Some(missing) = missing {
                let key = (channel, missing.sender, missing.client_msg_id);
                lines.extend(
                    self.index.acks.get(&key).map(|acks| acks[0].0.line(format_args!("ack of seq {}", missing.seq))),
                );
                lines.push(final_line(missing));
                let what = format!("a page claims to be complete for {first}–{last} without it");
                self.violated(Check::StalePage, channel, Some(missing.seq), what, lines);
            }
        }
    }

    /// A client's own copy of each channel: in order, without repeats, without holes, and at the end whole.
    fn check_copies(&mut self, client: &'a ClientHistory) {
        #[derive(Default)]
        struct Copy<'a> {
            base: ChannelSeq,
            applied: BTreeSet<ChannelSeq>,
            last: Option<(At<'a>, ChannelSeq)>,
        }
        let mut copies: BTreeMap<ChannelId, Copy> = BTreeMap::new();
        for recorded in &client.ops {
            let at = At { at: recorded.at, client };
            match &recorded.op {
                Op::Based { channel, seq } => {
                    copies.insert(*channel, Copy { base: *seq, ..Copy::default() });
                }
                Op::Applied { channel, seq } => {
                    let copy = copies.entry(*channel).or_default();
                    let before = copy.last.replace((at, *seq));
                    let lines = || {
                        let before = before.map(|(at, seq)| at.line(format_args!("applies seq {seq}")));
                        before.into_iter().chain([at.line(format_args!("applies seq {seq}"))]).collect()
                    };
                    if !copy.applied.insert(*seq) {
                        self.violated(
                            Check::Duplicate,
                            *channel,
                            Some(*seq),
                            format!("{} applied it twice", client.name),
                            lines(),
                        );
                    } else if before.is_some_and(|(_, last)| last > *seq) {
                        let what = format!("{} applied it after a later event", client.name);
                        self.violated(Check::Order, *channel, Some(*seq), what, lines());
                    }
                }
                _ => {}
            }
        }
        for (&channel, end) in &self.history.channels {
            if channel != ChannelId::personal(client.user) && !end.stays.contains_key(&client.user) {
                continue;
            }
            let copy = copies.remove(&channel).unwrap_or_default();
            let applied_up_to = copy.applied.last().copied().unwrap_or(copy.base).max(copy.base);
            let cursor = client.end.cursors.get(&channel).copied().unwrap_or_default().max(applied_up_to);
            let missing: Vec<&Arc<SeenEvent>> = end
                .events
                .iter()
                .filter(|event| event.seq > copy.base && !copy.applied.contains(&event.seq))
                .filter(|event| end.must_see(channel, client.user, event.seq))
                .filter(|event| client.end.quiescent || event.seq <= cursor)
                .collect();
            let (holes, tail): (Vec<&Arc<SeenEvent>>, Vec<&Arc<SeenEvent>>) =
                missing.iter().partition(|event| event.seq <= cursor);
            let copy_line = format!(
                "{} started at {}, applied {} events up to {applied_up_to}, its cursor is {cursor}",
                client.name,
                copy.base,
                copy.applied.len()
            );
            for (check, missing) in [(Check::UnfilledGap, holes), (Check::UnseenTail, tail)] {
                let (Some(first), Some(last)) = (missing.first(), missing.last()) else { continue };
                let what = match check {
                    Check::UnfilledGap => {
                        format!("{} has a cursor of {cursor} but lacks {} events below it", client.name, missing.len())
                    }
                    _ => format!("{} is online but lacks the end, {} to {}", client.name, first.seq, last.seq),
                };
                let mut lines = vec![copy_line.clone(), final_line(first), stays_line(end, client.user)];
                lines.extend(self.deliveries_of(client, channel, first.seq));
                self.violated(check, channel, Some(first.seq), what, lines);
            }
            let acked = missing
                .iter()
                .find(|event| client.end.quiescent && self.index.acked_seqs.contains(&(channel, event.seq)));
            if let Some(event) = acked {
                let key = (channel, event.sender, event.client_msg_id);
                let mut lines = self.sends_of(key);
                lines.extend(
                    self.index.acks.get(&key).map(|acks| acks[0].0.line(format_args!("ack of seq {}", event.seq))),
                );
                lines.push(copy_line);
                self.violated(
                    Check::Lost,
                    channel,
                    Some(event.seq),
                    format!("acked, but {} never got it", client.name),
                    lines,
                );
            }
        }
    }

    /// A quiescent online client has an answer to everything it sent.
    fn check_outbox(&mut self, client: &'a ClientHistory) {
        if !client.end.quiescent {
            return;
        }
        let mut waiting: BTreeMap<(ChannelId, ClientMsgId), At> = BTreeMap::new();
        for recorded in &client.ops {
            match &recorded.op {
                Op::Sent { channel, id, .. } => {
                    waiting.insert((*channel, *id), At { at: recorded.at, client });
                }
                Op::Acked { channel, id, .. } | Op::Refused { channel, id, for_good: true, .. } => {
                    waiting.remove(&(*channel, *id));
                }
                _ => {}
            }
        }
        for ((channel, id), at) in waiting {
            // A retry that was on its way when the ack came is no open question.
            if !self.index.acks.contains_key(&(channel, client.user, id)) {
                let lines = vec![at.line(format_args!("last send of {}", short(id))), self.head_line(channel)];
                self.violated(Check::StuckSend, channel, None, format!("{} never got an answer", client.name), lines);
            }
        }
    }

    fn sends_of(&self, key: Key) -> Vec<String> {
        let sent = self.index.sends.get(&key);
        let line = sent.map(|sent| {
            let body = sent.bodies.first().copied().unwrap_or_default();
            sent.first.line(format_args!("send {} {}", short(key.2), quoted(body)))
        });
        line.into_iter().collect()
    }

    /// What reached the client around an event it lacks: the last before and the first after.
    fn deliveries_of(&self, client: &ClientHistory, channel: ChannelId, missing: ChannelSeq) -> Vec<String> {
        let mine =
            || self.index.sightings.iter().filter(|s| std::ptr::eq(s.at.client, client) && s.event.channel == channel);
        let before = mine().filter(|s| s.event.seq < missing).max_by_key(|s| s.event.seq);
        let itself = mine().find(|s| s.event.seq == missing);
        let after = mine().filter(|s| s.event.seq > missing).min_by_key(|s| s.at.at);
        [before, itself, after]
            .into_iter()
            .flatten()
            .map(|s| s.at.line(format_args!("{} seq {}", s.how, s.event.seq)))
            .collect()
    }

    fn head_line(&self, channel: ChannelId) -> String {
        let head = self.end_of(channel).map_or(ChannelSeq(0), FinalChannel::head);
        format!("the final history ends at seq {head}")
    }
}

fn final_line(event: &SeenEvent) -> String {
    format!("final history: {}", describe(event))
}

fn stays_line(end: &FinalChannel, user: UserId) -> String {
    let Some(stays) = end.stays.get(&user) else { return format!("{user} was never a member") };
    let stays: Vec<String> = stays
        .iter()
        .map(|stay| {
            stay.left.map_or_else(|| format!("{} on", stay.joined), |left| format!("{} to {left}", stay.joined))
        })
        .collect();
    format!("{user} was a member from seq {}", stays.join(", from "))
}

fn describe(event: &SeenEvent) -> String {
    let kind = match &event.kind {
        EventKind::MessagePosted { text } => quoted(text),
        other => format!("{other:?}"),
    };
    format!(
        "seq {} id {} T {} {} by {} {kind}",
        event.seq,
        event.message_id,
        event.time,
        short(event.client_msg_id),
        event.sender
    )
}

/// The end of an id: UUIDv7 ids of one run begin alike.
fn short(id: ClientMsgId) -> String {
    let text = id.to_string();
    format!("…{}", &text[text.len() - 8..])
}

fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(TEXT_SHOWN_CHARS_MAX).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}
