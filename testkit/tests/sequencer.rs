//! The sequencer over a log and a store in memory, with time paused: owners that crash, stall, race and come back.

mod memory;

use domain::limits::{CLIENT_CLOCK_AHEAD_MS, ONCE_WINDOW_MS};
use domain::{Answer, CommandPosition, Epoch, OwnerSeq, RejectCause, TimelineRecord, Verdict};
use memory::log::Mode;
use memory::{PARTITION, START_MS, Told, World, told, user};
use schemas::records::encode_timeline;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

#[tokio::test(start_paused = true)]
async fn a_message_gets_its_place_once_however_often_it_is_sent() {
    let world = World::new(1).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1), user(2)]));
    let hello = world.post(world.channel(1), user(1), "hello");
    let changed = domain::Command { body: domain::CommandBody::Post { text: "other".into() }, ..hello.clone() };
    for command in [&hello, &hello, &domain::Command { retry: true, ..hello.clone() }, &changed] {
        world.send(command);
    }
    world.send(&world.post(world.channel(1), user(3), "I am no member"));
    world.send(&world.post(world.channel(2), user(1), "there is no such channel"));
    let told: Vec<_> = world.decided(7).await.iter().map(told).collect();
    let no_member = Told::Rejected(RejectCause::NotMember);
    assert_eq!(
        told[..6],
        [Told::Seq(1), Told::Seq(4), Told::Duplicate(4), Told::Duplicate(4), Told::Conflict(4), no_member]
    );
    assert_eq!(told[6], no_member);
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_claims_at_once_one_counts_and_its_messages_are_not_doubled() {
    for seed in 0..20 {
        let world = World::new(seed).await;
        world.log.set_mode(&world.messages, Mode::Hold);
        world.send(&world.create(1, &[user(1)]));
        let (one, two) = (world.sequencer("one"), world.sequencer("two"));
        world.log.until(|| (world.log.held(&world.messages) == 2).then_some(())).await;
        world.log.land_held(&world.messages, 2);
        // The loser says nothing in the epoch it did not get: only the winner's outcome, then the loser's next claim.
        world.log.until(|| (world.log.held(&world.messages) == 2).then_some(())).await;
        let held = world.log.held_records(&world.messages);
        let outcome = |record: &eventlog::Record| {
            let value = record.value.as_deref().unwrap_or_default();
            matches!(schemas::records::decode_timeline(value), Ok(TimelineRecord::Outcome(_)))
        };
        assert_eq!(held.iter().filter(|record| outcome(record)).count(), 1);
        world.log.set_mode(&world.messages, Mode::Land);
        world.log.land_held(&world.messages, 2);
        for text in ["a", "b", "c"] {
            world.send(&world.post(world.channel(1), user(1), text));
            tokio::time::sleep(std::time::Duration::from_millis(seed * 7)).await;
        }
        world.decided(4).await;
        world.check().await;
        one.crash();
        two.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_zombie_appends_is_void_and_doubles_nothing() {
    let world = World::new(3).await;
    let zombie = world.sequencer("zombie");
    world.send(&world.create(1, &[user(1)]));
    world.decided(1).await;
    // It decides, and stalls before its append lands.
    world.log.set_mode(&world.messages, Mode::Hold);
    world.send(&world.post(world.channel(1), user(1), "once"));
    world.log.until(|| (world.log.held(&world.messages) == 1).then_some(())).await;
    world.log.set_mode(&world.messages, Mode::Land);
    let next = world.sequencer("next");
    world.decided(2).await;
    let before = world.log.records(&world.messages).len();
    world.log.land_held(&world.messages, 1);
    world.log.until(|| (world.log.records(&world.messages).len() > before).then_some(())).await;
    // It sees the higher claim, steps down, and claims again as long as the group assigns it the partition.
    world.claims(3).await;
    world.send(&world.post(world.channel(1), user(1), "more"));
    world.decided(3).await;
    world.check().await;
    zombie.crash();
    next.crash();
}

#[tokio::test(start_paused = true)]
async fn a_lost_append_voids_what_was_pipelined_behind_it_and_all_is_decided_again() {
    for told_of_it in [true, false] {
        let world = World::new(4).await;
        let owner = world.sequencer("one");
        world.send(&world.create(1, &[user(1)]));
        world.decided(1).await;
        let before = tokio::time::Instant::now();
        world.log.set_mode(&world.messages, Mode::Hold);
        let mut posts = Vec::new();
        for text in ["lost", "behind it", "and this"] {
            posts.push(world.post(world.channel(1), user(1), text));
            world.send(posts.last().unwrap());
            let held = posts.len();
            world.log.until(|| (world.log.held(&world.messages) == held).then_some(())).await;
        }
        world.log.set_mode(&world.messages, Mode::Land);
        world.log.lose_held(&world.messages, 1, told_of_it);
        world.log.land_held(&world.messages, 2);
        let outcomes = world.decided(4).await;
        assert!(before.elapsed() < sequencer::limits::LANDED_WITHIN / 2, "what reads void ends an ownership at once");
        for post in &posts {
            world.send(&domain::Command { retry: true, ..post.clone() });
        }
        let told_again: Vec<_> = world.decided(7).await[4..].iter().map(told).collect();
        assert_eq!(told_again, [Told::Duplicate(3), Told::Duplicate(4), Told::Duplicate(5)]);
        assert_eq!(outcomes[1].epoch, Epoch(2), "void behind the lost one, so decided by a new owner");
        world.check().await;
        owner.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_that_never_comes_back_ends_the_ownership() {
    let world = World::new(5).await;
    let owner = world.sequencer("one");
    world.claims(1).await;
    world.log.set_mode(&world.messages, Mode::Hold);
    world.send(&world.create(1, &[user(1)]));
    world.log.until(|| (world.log.held(&world.messages) == 1).then_some(())).await;
    world.log.set_mode(&world.messages, Mode::Land);
    // Nothing is told, nothing lands: only the bound on the way back ends this.
    world.log.lose_held(&world.messages, 1, false);
    world.decided(1).await;
    world.claims(2).await;
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_leaves_the_next_owner_with_the_same_state() {
    for seed in 0..60 {
        let world = World::new(seed).await;
        let mut owner = world.sequencer("0");
        let mut writer = Some(world.writer());
        world.send(&world.create(1, &[user(1), user(2)]));
        world.send(&world.create(2, &[user(2), user(1)]));
        let mut sent: Vec<domain::Command> = Vec::new();
        let mut commands = 2;
        for step in 0..40u64 {
            let pick = |below| world.entropy.below(below);
            let chance = pick(10);
            match chance {
                0 => {
                    owner.crash();
                    let lost = world.log.held(&world.messages) as u64;
                    world.log.lose_held(&world.messages, pick(lost + 1) as usize, true);
                    owner = world.sequencer(&step.to_string());
                }
                1 => {
                    if let Some(writer) = writer.take() {
                        writer.crash();
                    } else {
                        writer = Some(world.writer());
                    }
                }
                2 => world.log.set_mode(&world.messages, Mode::Hold),
                3 => {
                    world.log.set_mode(&world.messages, Mode::Land);
                    world.log.land_held(&world.messages, usize::MAX);
                }
                4 => world.log.land_held(&world.messages, 1),
                // Time, mostly a little, at times more than the window; and at times back.
                5 => world.log.set_now(world.log.now() + [10, 500, 3_000, 2 * ONCE_WINDOW_MS][pick(4) as usize]),
                6 => world.log.set_now(world.log.now() - pick(5)),
                7 if !sent.is_empty() => {
                    let again = sent[pick(sent.len() as u64) as usize].clone();
                    world.send(&domain::Command { retry: pick(2) == 0, ..again });
                    commands += 1;
                }
                _ => {
                    let to = world.channel(1 + pick(2) as u8);
                    sent.push(world.post(to, user(1 + pick(2) as u8), &step.to_string()));
                    world.send(sent.last().unwrap());
                    commands += 1;
                }
            }
            tokio::time::sleep(std::time::Duration::from_micros(pick(2_000_000))).await;
        }
        world.log.set_mode(&world.messages, Mode::Land);
        world.log.land_held(&world.messages, usize::MAX);
        let writer = writer.unwrap_or_else(|| world.writer());
        world.decided(commands).await;
        world.check().await;
        world.written().await;
        owner.crash();
        writer.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_waits_for_the_store_does_not_hold_others_and_keeps_its_own_order() {
    let world = World::new(7).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.decided(1).await;
    world.store.stop_reads(true);
    // Channel 2 is not in memory: its create and what follows wait.
    world.send(&world.create(2, &[user(1)]));
    let first = world.post(world.channel(2), user(1), "first");
    let second = world.post(world.channel(2), user(1), "second");
    world.send(&first);
    world.send(&second);
    let passes = world.post(world.channel(1), user(1), "passes");
    world.send(&passes);
    let outcomes = world.decided(2).await;
    assert_eq!(outcomes[1].id, passes.id);
    assert_eq!(outcomes.len(), 2, "the others wait");
    // A new owner goes on at the parked ones: low has not passed them.
    owner.crash();
    world.store.stop_reads(false);
    let owner = world.sequencer("two");
    let outcomes = world.decided(5).await;
    let order: Vec<_> = outcomes.iter().filter(|outcome| outcome.channel == world.channel(2)).map(|o| o.id).collect();
    assert_eq!(order[1..], [first.id, second.id]);
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_behind_a_retry_that_is_looked_up_waits_for_it() {
    let world = World::new(17).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.decided(1).await;
    world.store.stop_reads(true);
    let looked_up = domain::Command { retry: true, ..world.post(world.channel(1), user(1), "sent before, perhaps") };
    let behind = world.post(world.channel(1), user(1), "behind it");
    world.send(&looked_up);
    world.send(&behind);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.outcomes().len(), 1, "both wait");
    world.store.stop_reads(false);
    let order: Vec<_> = world.decided(3).await.iter().map(|outcome| outcome.id).collect();
    assert_eq!(order[1..], [looked_up.id, behind.id]);
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_of_parked_commands_none_is_taken_and_it_heals() {
    let world = World::new(18).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.decided(1).await;
    world.store.stop_reads(true);
    let cold = sequencer::limits::PARKED_COMMANDS_MAX + 10;
    for _ in 0..cold {
        world.send(&world.post(world.channel(2), user(1), "to a channel that is not in memory"));
    }
    world.send(&world.post(world.channel(1), user(1), "behind the bound"));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.outcomes().len(), 1, "not even a channel in memory passes a full park");
    world.store.stop_reads(false);
    world.decided(cold + 2).await;
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_window_gives_retry_later_and_heals_when_the_writer_has_passed_it() {
    let mut world = World::new(8).await;
    world.limits.window_bytes_max = domain::window::ID_BYTES * 4;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    for text in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        world.send(&world.post(world.channel(1), user(1), text));
    }
    let outcomes = world.decided(9).await;
    assert_eq!(told(&outcomes[1]), Told::Seq(3));
    assert_eq!(told(&outcomes[8]), Told::RetryLater);
    // Older than the window alone is not enough.
    world.log.set_now(START_MS + 2 * ONCE_WINDOW_MS);
    world.send(&world.post(world.channel(1), user(1), "later"));
    assert_eq!(told(&world.decided(10).await[9]), Told::RetryLater);
    let writer = world.writer();
    world.written().await;
    tokio::time::sleep(sequencer::limits::TICK * 3).await;
    world.send(&world.post(world.channel(1), user(1), "and now"));
    assert!(matches!(told(&world.decided(11).await[10]), Told::Seq(_)));
    world.check().await;
    owner.stop().await;
    writer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_days_and_a_restart_is_found_in_the_store() {
    let world = World::new(9).await;
    let (owner, writer) = (world.sequencer("one"), world.writer());
    world.send(&world.create(1, &[user(1)]));
    let old = world.post(world.channel(1), user(1), "old");
    world.send(&old);
    world.decided(2).await;
    world.written().await;
    owner.stop().await;
    for days in [2, 4] {
        world.log.set_now(START_MS + days * DAY_MS);
        let owner = world.sequencer("two");
        let before = world.outcomes().len();
        // Something new moves T first, so the old one is outside the window.
        world.send(&world.post(world.channel(1), user(1), "new"));
        world.send(&old);
        world.send(&domain::Command { body: domain::CommandBody::Post { text: "else".into() }, ..old.clone() });
        let told: Vec<_> = world.decided(before + 3).await[before..].iter().map(told).collect();
        assert_eq!(told[1..], [Told::Duplicate(3), Told::Conflict(3)]);
        world.written().await;
        owner.stop().await;
    }
    world.check().await;
    writer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_from_the_future_is_refused_and_the_same_id_is_taken_later() {
    let world = World::new(10).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.log.set_now(START_MS + CLIENT_CLOCK_AHEAD_MS + 1_000);
    let early = world.post(world.channel(1), user(1), "early");
    world.log.set_now(START_MS);
    world.send(&early);
    world.decided(2).await;
    world.log.set_now(START_MS + 2_000);
    world.send(&early);
    let told: Vec<_> = world.decided(3).await.iter().map(told).collect();
    assert_eq!(told, [Told::Seq(1), Told::Rejected(RejectCause::Clock), Told::Seq(3)]);
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_read_goes_to_the_dead_letters_once_and_the_partition_moves_on() {
    let world = World::new(11).await;
    let owner = world.sequencer("one");
    world.log.put(&world.commands, "not a channel", "nonsense");
    let create = world.create(1, &[user(1)]);
    world.log.put(&world.commands, &world.channel(1).to_string(), Vec::new());
    world.send(&create);
    let outcomes = world.decided(3).await;
    assert_eq!(outcomes.iter().map(told).collect::<Vec<_>>(), [Told::Poison, Told::Poison, Told::Seq(1)]);
    assert_eq!(outcomes[1].channel, world.channel(1), "the key tells the channel");
    owner.crash();
    let owner = world.sequencer("two");
    world.claims(2).await;
    world.send(&world.post(world.channel(1), user(1), "on"));
    world.decided(4).await;
    let dead = world.log.records(&world.dead_letters);
    let offsets: Vec<_> = dead
        .iter()
        .flat_map(|dead| dead.record.headers.iter().filter(|header| header.name == "dlq.offset"))
        .map(|header| header.value.clone())
        .collect();
    assert_eq!(offsets, ["0", "1"]);
    assert_eq!(dead[0].record.value.as_deref(), Some(&b"nonsense"[..]));
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_commands_log_that_ends_below_what_is_decided_is_refused() {
    let world = World::new(12).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.send(&world.post(world.channel(1), user(1), "one"));
    world.decided(2).await;
    owner.stop().await;
    world.log.truncate(&world.commands, 1);
    let error = world.sequencer("two").end().await.unwrap_err();
    let position = |offset| CommandPosition { incarnation: 1, offset };
    let sequencer::Error::CommandsBelowLow { partition, low, end } = &error else { panic!("{error}") };
    assert_eq!((*partition, *low, *end), (PARTITION, position(2), position(1)));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_commands_log_starts_again_at_its_first_command() {
    let world = World::new(13).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    let first = world.post(world.channel(1), user(1), "first");
    world.send(&first);
    world.decided(2).await;
    owner.crash();
    world.log.restart_topic(&world.commands.topic);
    let owner = world.sequencer("two");
    world.send(&first);
    world.send(&world.post(world.channel(1), user(1), "second"));
    let outcomes = world.decided(4).await;
    assert_eq!(outcomes[2..].iter().map(told).collect::<Vec<_>>(), [Told::Duplicate(3), Told::Seq(4)]);
    assert_eq!(outcomes[2].command, CommandPosition { incarnation: 2, offset: 0 });
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn commands_below_the_start_of_their_log_do_not_hold_low_back() {
    let world = World::new(14).await;
    world.send(&world.create(1, &[user(1)]));
    for text in ["lost", "lost too", "kept"] {
        world.send(&world.post(world.channel(1), user(1), text));
    }
    world.log.expire(&world.commands, 3);
    let owner = world.sequencer("one");
    let outcomes = world.decided(1).await;
    assert_eq!(told(&outcomes[0]), Told::Rejected(RejectCause::NotMember), "its channel was never created");
    let mut cursor = domain::LogCursor::default();
    for (offset, record) in world.valid().iter().enumerate() {
        cursor.accept(offset as u64, record);
    }
    assert_eq!(cursor.low, CommandPosition { incarnation: 1, offset: 4 });
    assert!(cursor.decided_above.is_empty());
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_the_log_loses_nothing_and_keeps_the_order() {
    let world = World::new(15).await;
    let owner = world.sequencer("one");
    world.claims(1).await;
    world.log.set_mode(&world.messages, Mode::Refuse);
    world.send(&world.create(1, &[user(1)]));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.send(&world.post(world.channel(1), user(1), "behind it"));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.log.set_mode(&world.messages, Mode::Land);
    let outcomes = world.decided(2).await;
    assert_eq!(outcomes.iter().map(told).collect::<Vec<_>>(), [Told::Seq(1), Told::Seq(3)]);
    assert_eq!(outcomes[1].epoch, Epoch(1), "a full queue is no reason to step down");
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_no_record_can_hold_is_refused_and_the_partition_moves_on() {
    let mut world = World::new(19).await;
    world.limits.members_max = 50_000;
    let owner = world.sequencer("one");
    let number = |i: u32| domain::UserId(uuid::Uuid::from_u128(u128::from(i)));
    let people = |count| (1..=count).map(number).collect::<Vec<_>>();
    world.send(&world.create(1, &people(40_000)));
    world.send(&world.create(2, &people(domain::limits::CHANNEL_MEMBERS_CEILING as u32)));
    let outcomes = world.decided(2).await;
    assert_eq!(outcomes.iter().map(told).collect::<Vec<_>>(), [Told::Rejected(RejectCause::BadBody), Told::Seq(1)]);
    world.check().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn records_without_a_claim_and_foreign_ones_change_nothing() {
    let world = World::new(16).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    let mut forged = world.decided(1).await.remove(0);
    forged.epoch = Epoch(9);
    forged.n = OwnerSeq(1);
    forged.verdict = Verdict::Answered(Answer::Poison);
    world.log.put(&world.messages, "forged", encode_timeline(&TimelineRecord::Outcome(forged)));
    world.log.put(&world.messages, "foreign", "not ours");
    world.send(&world.post(world.channel(1), user(1), "goes on"));
    let outcomes = world.decided(2).await;
    assert_eq!((told(&outcomes[1]), outcomes[1].epoch), (Told::Seq(3), Epoch(1)));
    owner.stop().await;
}
