//! The scenarios: who is needed, what runs, what is reported.

use crate::link::Target;
use crate::people::{self, Account, Http, each};
use crate::server::Server;
use crate::talk::{self, Mode, Plan};
use crate::{Load, Scenario, bare, idle, replay, report};
use anyhow::{Context as _, Result, ensure};
use schemas::frames::EventKindFrame;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Runs a scenario; whether it passed.
pub(crate) fn run(scenario: Scenario) -> Result<bool> {
    match scenario {
        Scenario::Pairs { rate, load } => pairs("pairs", Mode::Open { per_second: rate }, &load),
        Scenario::Max { unacked, load } => pairs("max", Mode::Closed { unacked }, &load),
        Scenario::Group { unacked, rate, load } => {
            let mode = rate.map_or(Mode::Closed { unacked }, |per_second| Mode::Open { per_second });
            group(mode, &load)
        }
        Scenario::Idle { connections, hold, load } => idle(connections, Duration::from_secs(hold), &load),
        Scenario::Kill { server, kills, rate, load } => kill(&server, kills, rate, &load),
        Scenario::Replay { corpus, speed, kill_server, names, load } => {
            report::check(&load.require)?;
            let run = replay::Run {
                corpus: &corpus,
                speed,
                kill_server: kill_server.as_deref(),
                names: names.as_deref(),
                targets: targets(&load)?,
                tokens: load.tokens.as_deref(),
                seed: load.seed,
                drain: Load::seconds(load.drain),
                server_pid: load.server_pid,
            };
            let mut report = header("replay", &load);
            report::extend(&mut report, replay::run(&run)?);
            conclude(report, &load)
        }
        Scenario::Compare { a, b, require } => report::compare(&a, &b, &require),
        Scenario::BareCommit { folder, record_bytes, rate, load } => {
            report::check(&load.require)?;
            let what = bare::Commit {
                folder: &folder,
                per_second: rate,
                people: load.people.unwrap_or(PEOPLE),
                record_bytes,
                warmup: Load::seconds(load.warmup),
                duration: Load::seconds(load.seconds),
                seed: load.seed,
            };
            let mut report = header("bare-commit", &load);
            report::extend(&mut report, bare::commit(&what)?);
            conclude(report, &load)
        }
        Scenario::BareRelay { lone_writes, unacked, load } => {
            let shape = Relay { people: load.people.unwrap_or(PEOPLE), group: 2, lone_writes };
            relay("bare-relay", unacked, &shape, &load)
        }
        Scenario::BareGroup { unacked, load } => {
            let people = load.people.unwrap_or(GROUP);
            relay("bare-group", unacked, &Relay { people, group: people, lone_writes: false }, &load)
        }
        Scenario::BareRelayServer { people, group, lone_writes } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(bare::relay_server(people, group, lone_writes))?;
            Ok(true)
        }
    }
}

/// People in pairs, unless told otherwise.
const PEOPLE: usize = 1_000;
/// People in a group, unless told otherwise.
const GROUP: usize = 100;

fn targets(load: &Load) -> Result<Vec<Arc<Target>>> {
    ensure!(!load.target.is_empty(), "no server: give --target http://host:port");
    load.target.iter().map(|url| Target::parse(url).map(Arc::new)).collect()
}

fn header(scenario: &str, load: &Load) -> Value {
    let config = json!({
        "targets": load.target, "people": load.people, "body_bytes": load.body_bytes, "seconds": load.seconds,
        "warmup_s": load.warmup, "drain_s": load.drain, "threads": load.threads, "require": load.require,
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
    });
    report::header(scenario, load.seed, &config)
}

fn conclude(report: Value, load: &Load) -> Result<bool> {
    report::conclude(report, &load.require, load.json.as_deref())
}

fn plan(load: &Load, targets: Vec<Arc<Target>>, people: Vec<Account>, channel_of: Vec<Uuid>, mode: Mode) -> Plan {
    Plan {
        people,
        channel_of,
        targets,
        mode,
        body_bytes: load.body_bytes,
        warmup: Load::seconds(load.warmup),
        duration: Load::seconds(load.seconds),
        drain: Load::seconds(load.drain),
        seed: load.seed,
        threads: load.threads.max(1),
        together: 2,
        reconnect: false,
        keep_acked: false,
        server_pid: load.server_pid,
    }
}

/// People, and the direct channel of each pair.
fn in_pairs(runtime: &Runtime, http: &Http, load: &Load) -> Result<(Vec<Account>, Vec<Uuid>)> {
    let count = load.people.unwrap_or(PEOPLE);
    ensure!(count.is_multiple_of(2), "people in pairs are an even number");
    runtime.block_on(async {
        let people = Arc::new(people::people(http, load.tokens.as_deref(), load.seed, count).await?);
        let channels = each(count / 2, |pair| {
            let (http, people) = (http.clone(), Arc::clone(&people));
            async move { http.direct(pair, &people[2 * pair], &people[2 * pair + 1]).await }
        })
        .await?;
        let channel_of = (0..count).map(|who| channels[who / 2]).collect();
        Ok((people.to_vec(), channel_of))
    })
}

fn pairs(name: &str, mode: Mode, load: &Load) -> Result<bool> {
    report::check(&load.require)?;
    let targets = targets(load)?;
    let runtime = Runtime::new()?;
    let (people, channel_of) = in_pairs(&runtime, &Http::new(&targets), load)?;
    let outcome = talk::run(plan(load, targets, people, channel_of, mode), &mut |_| Ok(()))?;
    conclude(report::of_talk(header(name, load), &outcome), load)
}

fn group(mode: Mode, load: &Load) -> Result<bool> {
    report::check(&load.require)?;
    let targets = targets(load)?;
    let runtime = Runtime::new()?;
    let http = Http::new(&targets);
    let count = load.people.unwrap_or(GROUP);
    let (people, channel) = runtime.block_on(async {
        let people = people::people(&http, load.tokens.as_deref(), load.seed, count).await?;
        let others: Vec<Uuid> = people[1..].iter().map(|one| one.user).collect();
        let channel = http.group(&people[0], "load", &others, false).await?;
        anyhow::Ok((people, channel))
    })?;
    let channel_of = vec![channel; count];
    let plan = Plan { together: 1, ..plan(load, targets, people, channel_of, mode) };
    let outcome = talk::run(plan, &mut |_| Ok(()))?;
    conclude(report::of_talk(header("group", load), &outcome), load)
}

fn idle(connections: usize, hold: Duration, load: &Load) -> Result<bool> {
    report::check(&load.require)?;
    let targets = targets(load)?;
    let runtime = Runtime::new()?;
    let count = load.people.unwrap_or(connections);
    let people = runtime.block_on(people::people(&Http::new(&targets), load.tokens.as_deref(), load.seed, count))?;
    let mut report = header("idle", load);
    let measured = idle::run(&Arc::new(people), &targets, connections, hold, load.threads.max(1), load.server_pid)?;
    report::extend(&mut report, measured);
    conclude(report, load)
}

/// A bare relay's people.
struct Relay {
    people: usize,
    group: usize,
    lone_writes: bool,
}

/// A bare relay in a process of its own, under the same people as `max` and `group`.
fn relay(name: &str, unacked: usize, shape: &Relay, load: &Load) -> Result<bool> {
    report::check(&load.require)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-relay-server", "--people", &shape.people.to_string(), "--group", &shape.group.to_string()]);
    if shape.lone_writes {
        command.arg("--lone-writes");
    }
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting the relay")?;
    let done = relay_run(name, unacked, shape, load, &mut process);
    process.kill().ok();
    process.wait().ok();
    done
}

fn relay_run(name: &str, unacked: usize, shape: &Relay, load: &Load, process: &mut Child) -> Result<bool> {
    let mut url = String::new();
    BufReader::new(process.stdout.take().context("no output")?).read_line(&mut url)?;
    let target = Arc::new(Target::parse(url.trim())?);
    let account =
        |who: usize| Account { user: bare::bare_user(who), username: who.to_string(), token: who.to_string() };
    let accounts = (0..shape.people).map(account).collect();
    let channel_of = (0..shape.people).map(|who| bare::bare_channel(who, shape.group)).collect();
    let plan = Plan {
        together: if shape.group == 2 { 2 } else { 1 },
        server_pid: Some(process.id()),
        ..plan(load, vec![target], accounts, channel_of, Mode::Closed { unacked })
    };
    let outcome = talk::run(plan, &mut |_| Ok(()))?;
    conclude(report::of_talk(header(name, load), &outcome), load)
}

fn kill(server: &str, kills: u32, rate: f64, load: &Load) -> Result<bool> {
    report::check(&load.require)?;
    let targets = targets(load)?;
    let runtime = Runtime::new()?;
    let http = Http::new(&targets);
    let mut server = Server::start(server, &targets[0])?;
    let (people, channel_of) = in_pairs(&runtime, &http, load)?;
    let reader_of: HashMap<Uuid, Account> = channel_of.iter().copied().zip(people.iter().cloned()).collect();
    let plan = Plan {
        reconnect: true,
        keep_acked: true,
        // A process that is killed has no CPU time from start to end.
        server_pid: None,
        ..plan(load, targets, people, channel_of, Mode::Open { per_second: rate })
    };
    let whole = plan.warmup + plan.duration;
    let mut killed = 0;
    let mut restarts = Vec::new();
    let mut outcome = talk::run(plan, &mut |since| {
        if killed < kills && since > whole * (killed + 1) / (kills + 1) {
            killed += 1;
            server.kill()?;
            restarts.push(server.restart()?.as_secs_f64());
        }
        Ok(())
    })?;
    let missing = runtime.block_on(audit(&http, &reader_of, &outcome))?;
    outcome.figures.remarks.extend(missing.remarks.iter().cloned());
    let mut report = report::of_talk(header("kill", load), &outcome);
    // Sockets that were cut miss what came meanwhile until they resume; only history says what is lost.
    report::extend(
        &mut report,
        json!({
            "kills": killed, "restart_s": restarts, "server_pid": server.pid(), "missing_on_sockets": outcome.lost,
            "lost": missing.missing + outcome.lost, "acked_missing": missing.missing, "history_duplicates": missing.duplicates,
            "duplicated": outcome.figures.duplicated + missing.duplicates,
        }),
    );
    conclude(report, load)
}

#[derive(Default)]
struct Audit {
    missing: u64,
    duplicates: u64,
    remarks: Vec<String>,
}

/// Looks for everything acknowledged in the history of its channel.
async fn audit(http: &Http, reader_of: &HashMap<Uuid, Account>, outcome: &talk::Outcome) -> Result<Audit> {
    let mut acked: HashMap<Uuid, Vec<talk::Acked>> = HashMap::new();
    for one in &outcome.acked {
        acked.entry(one.channel).or_default().push(*one);
    }
    let mut audit = Audit::default();
    for (channel, acked) in acked {
        let reader = reader_of.get(&channel).context("a channel without a reader")?;
        let head = outcome.heads.get(&channel).copied().unwrap_or_default();
        let events = http.history(reader, channel, head).await?;
        let mut ids = HashSet::new();
        let mut at = HashMap::new();
        for event in &events {
            let is_message = matches!(event.kind, EventKindFrame::MessagePosted { .. });
            if is_message && !ids.insert((event.sender.as_str(), event.client_msg_id.as_str())) {
                audit.duplicates += 1;
                audit.remarks.push(format!("twice in history: {channel} seq {} id {}", event.seq, event.client_msg_id));
            }
            at.insert(event.seq, event.client_msg_id.as_str());
        }
        for one in acked {
            if at.get(&one.seq) != Some(&one.id.to_string().as_str()) {
                audit.missing += 1;
                audit.remarks.push(format!("acknowledged and not in history: {channel} seq {} id {}", one.seq, one.id));
            }
        }
    }
    audit.remarks.truncate(8);
    Ok(audit)
}
