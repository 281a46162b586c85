//! `hubbub chat`: a small client for a terminal or a script, by the same rules as any other client.

mod api;
mod link;
mod talk;
mod terminal;

use crate::cli::ChatFlags;
use crate::settings::CHAT_PASSWORD_VARIABLE;
use anyhow::{Context as _, Result, bail};
use api::{Api, Refused};
use http::StatusCode;
use link::Heard;
use runtime::{Clock as _, Entropy, Shutdown, SystemClock, Tasks};
use schemas::frames::{ClientFrame, EventFrame, EventKindFrame};
use schemas::http::{ChannelView, NewChannel, SignedIn};
use std::collections::BTreeMap;
use std::time::Duration;
use talk::{Shown, Step, Talk};
use terminal::{Input, Terminal};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often a retry, a typing sign or an end is looked for.
const TICK: Duration = Duration::from_millis(250);
/// How long the end of a script waits for the last acks.
const LAST_ACKS_WAIT: Duration = Duration::from_secs(30);
/// How long the end waits for the server to see it.
const HANG_UP_WAIT: Duration = Duration::from_secs(1);
/// How often others are told that one is typing, ms.
const TYPING_EVERY_MS: u64 = 3_000;

const HELP: &str = "A line is a message. Commands:
  /channels          your channels
  /open N            open one, by number, title or id
  /create TITLE      make a channel that anybody with its id can join
  /join ID           join a channel
  /invite NAME       add somebody to this channel
  /direct NAME       talk with one person
  /members           who is here
  /leave             leave this channel
  /quit              end (also Ctrl-C)";

/// Runs until the person or the script ends.
pub(crate) async fn run(flags: ChatFlags) -> Result<()> {
    let mut terminal = Terminal::open().context("opening the terminal")?;
    let api = Api::new(&flags.url)?;
    let signed_in = sign_in(&api, &flags, &mut terminal).await?;
    let api = api.with_token(signed_in.access_token.clone());
    let (tasks, shutdown, entropy) = (Tasks::new(), Shutdown::new(), Entropy::from_os());
    let mut heard = link::start(api.authority(), entropy.clone(), &tasks, shutdown.clone());
    let talk = Talk::new(signed_in.access_token, signed_in.user.id.clone(), entropy);
    terminal.show(&format!("Signed in as {}. /help lists the commands.", signed_in.user.username));
    let me = signed_in.user.id.clone();
    let names = BTreeMap::from([(me.clone(), signed_in.user.display_name)]);
    let mut chat =
        Chat { api, talk, terminal, names, me, channels: Vec::new(), say: None, typing_told_ms: 0, was_down: false };
    let ended = chat.run(&mut heard, flags.channel).await;
    chat.hang_up(&mut heard).await;
    shutdown.begin();
    tasks.finish(Duration::from_secs(1)).await;
    ended
}

async fn sign_in(api: &Api, flags: &ChatFlags, terminal: &mut Terminal) -> Result<SignedIn> {
    let Some(name) = (match &flags.user {
        Some(name) => Some(name.clone()),
        None => terminal.ask("Your name: ", false).await,
    }) else {
        bail!("no name was given: --user NAME")
    };
    let Some(password) = (match std::env::var(CHAT_PASSWORD_VARIABLE) {
        Ok(password) => Some(password),
        Err(_) => terminal.ask("Password: ", true).await,
    }) else {
        bail!("no password was given: set {CHAT_PASSWORD_VARIABLE}, or write it as the first line")
    };
    if flags.sign_up {
        return api.sign_up(&name, password).await.context("can't sign up");
    }
    let error = match api.sign_in(&name, password.clone()).await {
        Ok(signed_in) => return Ok(signed_in),
        Err(error) => error,
    };
    let unknown = error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::UNAUTHORIZED);
    if !unknown || !terminal.is_person() {
        return Err(error.context("can't sign in (--sign-up makes a new account)"));
    }
    let question = format!("No {name} with that password. Make a new account? [y/N] ");
    match terminal.ask(&question, false).await.as_deref() {
        Some("y" | "Y" | "yes") => api.sign_up(&name, password).await.context("can't sign up"),
        _ => bail!("not signed in"),
    }
}

struct Chat {
    api: Api,
    talk: Talk,
    terminal: Terminal,
    /// User id → what people see.
    names: BTreeMap<String, String>,
    me: String,
    channels: Vec<ChannelView>,
    /// Where frames go while there is a connection.
    say: Option<mpsc::Sender<ClientFrame>>,
    typing_told_ms: u64,
    was_down: bool,
}

impl Chat {
    async fn run(&mut self, heard: &mut mpsc::Receiver<Heard>, channel: Option<String>) -> Result<()> {
        self.load_channels().await?;
        match channel {
            Some(wanted) => self.open(&wanted).await?,
            None if self.channels.is_empty() => {
                self.terminal.show("You are in no channel yet: /create TITLE makes one, /join ID joins one.");
            }
            None => self.show_channels(),
        }
        let mut tick = tokio::time::interval(TICK);
        let mut ending: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                told = heard.recv() => match told {
                    None => return Ok(()),
                    Some(told) => self.hear(told).await?,
                },
                input = self.terminal.next(), if ending.is_none() => match input {
                    Input::End => ending = Some(Instant::now()),
                    Input::Writing => self.tell_typing().await,
                    Input::Line(line) if line.trim() == "/quit" => ending = Some(Instant::now()),
                    Input::Line(line) => {
                        if let Err(error) = self.take(&line).await {
                            self.terminal.show(&format!("! {error:#}"));
                        }
                    }
                },
                _ = tick.tick() => {
                    let again = self.talk.tick(SystemClock.now_ms());
                    self.send(again).await;
                }
            }
            self.prompt().await;
            if let Some(since) = ending {
                if self.talk.is_settled() {
                    return Ok(());
                }
                if since.elapsed() > LAST_ACKS_WAIT {
                    bail!("the server has not confirmed the last messages");
                }
            }
        }
    }

    /// Closes the socket in form: the server need not find out by itself.
    async fn hang_up(&mut self, heard: &mut mpsc::Receiver<Heard>) {
        if self.say.take().is_none() {
            return;
        }
        let closed = async { while heard.recv().await.is_some_and(|told| !matches!(told, Heard::Down(..))) {} };
        tokio::time::timeout(HANG_UP_WAIT, closed).await.ok();
    }

    async fn hear(&mut self, told: Heard) -> Result<()> {
        match told {
            Heard::Up(say) => {
                let hello = self.talk.hello();
                self.say = Some(say);
                self.send(vec![hello]).await;
            }
            Heard::Down(reason, delay) => {
                self.say = None;
                self.talk.went_down();
                if !self.was_down {
                    self.terminal.show(&format!("— {reason}; connecting again in {:.1} s", delay.as_secs_f32()));
                }
                self.was_down = true;
            }
            Heard::Frame(frame) => {
                if matches!(frame, schemas::frames::ServerFrame::Welcome { .. }) && std::mem::take(&mut self.was_down) {
                    self.terminal.show("— connected again");
                }
                let step = self.talk.hear(frame, SystemClock.now_ms());
                self.follow(step).await;
            }
        }
        Ok(())
    }

    async fn follow(&mut self, step: Step) {
        self.send(step.send).await;
        for shown in step.show {
            match shown {
                Shown::Event(event) => self.show_event(&event).await,
                Shown::Refused { body, reason } => self.terminal.show(&format!("! not sent: {reason}: {body}")),
                Shown::Notice(text) => self.terminal.show(&format!("— {text}")),
                Shown::ChannelsChanged => {
                    // A list that can't be had now is asked for again by whoever needs it.
                    self.load_channels().await.ok();
                }
            }
        }
    }

    async fn send(&mut self, frames: Vec<ClientFrame>) {
        let Some(say) = &self.say else { return };
        for frame in frames {
            if say.send(frame).await.is_err() {
                // The connection has just ended; `Down` follows, and the outbox sends again.
                return;
            }
        }
    }

    async fn tell_typing(&mut self) {
        let now_ms = SystemClock.now_ms();
        if now_ms.saturating_sub(self.typing_told_ms) < TYPING_EVERY_MS {
            return;
        }
        if let Some(channel) = self.talk.open_channel() {
            self.typing_told_ms = now_ms;
            let typing = ClientFrame::Typing { channel: channel.to_owned() };
            self.send(vec![typing]).await;
        }
    }

    async fn take(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
        let here = || self.talk.open_channel().map(str::to_owned).context("no channel is open");
        match word {
            "/help" => {
                for line in HELP.lines() {
                    self.terminal.show(line);
                }
            }
            "/channels" => {
                self.load_channels().await?;
                self.show_channels();
            }
            "/open" => {
                self.load_channels().await?;
                self.open(rest).await?;
            }
            "/create" => {
                let title = if rest.is_empty() { bail!("/create TITLE") } else { rest.to_owned() };
                let channel = new_channel("group", title, Vec::new());
                let made = self.api.create(&channel).await?;
                self.terminal.show(&format!("Made. Others join with: /join {}", made.channel));
                self.load_channels().await?;
                self.open(&made.channel).await?;
            }
            "/join" => {
                self.api.add(rest, Vec::new()).await?;
                self.load_channels().await?;
                self.open(rest).await?;
            }
            "/invite" => {
                let user = self.api.user_by_name(rest).await?;
                self.api.add(&here()?, vec![user.id]).await?;
            }
            "/direct" => {
                let user = self.api.user_by_name(rest).await?;
                let made = self.api.create(&new_channel("direct", String::new(), vec![user.id])).await?;
                self.load_channels().await?;
                self.open(&made.channel).await?;
            }
            "/members" => {
                for member in self.api.members(&here()?).await? {
                    let name = self.name(&member.user).await;
                    self.terminal.show(&format!("  {name} ({})", member.role));
                }
            }
            "/leave" => {
                let (channel, me) = (here()?, self.me.clone());
                self.api.leave(&channel, &me).await?;
                self.load_channels().await?;
                self.show_channels();
            }
            word if word.starts_with('/') => bail!("there is no {word}; /help lists the commands"),
            _ if line.is_empty() => {}
            _ => match self.talk.say(line.to_owned(), SystemClock.now_ms()) {
                Ok(frames) => self.send(frames).await,
                Err(reason) => bail!(reason),
            },
        }
        Ok(())
    }

    async fn open(&mut self, wanted: &str) -> Result<()> {
        let by_number = wanted.parse::<usize>().ok().and_then(|n| self.channels.get(n.checked_sub(1)?));
        let found =
            by_number.or_else(|| self.channels.iter().find(|channel| channel.id == wanted || channel.title == wanted));
        let Some(channel) = found.cloned() else { bail!("you are in no channel {wanted:?}; /channels lists yours") };
        self.terminal.show(&format!("— {}", title(&channel)));
        let step = self.talk.enter(&channel.id, channel.seq);
        self.follow(step).await;
        Ok(())
    }

    async fn load_channels(&mut self) -> Result<()> {
        self.channels = self.api.channels().await?;
        Ok(())
    }

    fn show_channels(&mut self) {
        let lines: Vec<String> = self
            .channels
            .iter()
            .enumerate()
            .map(|(n, channel)| format!("  {}  {}  ({} messages)", n + 1, title(channel), channel.ordinal))
            .collect();
        for line in &lines {
            self.terminal.show(line);
        }
        self.terminal.show("/open N opens one.");
    }

    async fn show_event(&mut self, event: &EventFrame) {
        if event.channel == self.me {
            return;
        }
        let sender = self.name(&event.sender).await;
        let what = match &event.kind {
            EventKindFrame::MessagePosted { body } => format!("{sender}: {body}"),
            EventKindFrame::MemberJoined { user, .. } => format!("— {} joined", self.name(user).await),
            EventKindFrame::MemberLeft { user, .. } => format!("— {} left", self.name(user).await),
            EventKindFrame::RoleChanged { user, role } => format!("— {} is now {role}", self.name(user).await),
            EventKindFrame::ChannelCreated { title, .. } => format!("— {sender} made {title}"),
            EventKindFrame::ChannelJoined { .. } | EventKindFrame::ChannelLeft { .. } => return,
        };
        let elsewhere = self.talk.open_channel() != Some(&event.channel);
        let place = if elsewhere {
            let known = self.channels.iter().find(|channel| channel.id == event.channel);
            format!("[{}] ", known.map_or_else(|| short(&event.channel), title))
        } else {
            String::new()
        };
        self.terminal.show(&format!("{} {place}{what}", time_of_day(event.time)));
    }

    /// What people see of a user; the start of the id while nobody says.
    async fn name(&mut self, user: &str) -> String {
        if let Some(name) = self.names.get(user) {
            return name.clone();
        }
        let name = self.api.user(user).await.map_or_else(|_| short(user), |user| user.display_name);
        self.names.insert(user.to_owned(), name.clone());
        name
    }

    async fn prompt(&mut self) {
        let typing: Vec<String> = self.talk.typing(SystemClock.now_ms()).into_iter().map(str::to_owned).collect();
        let mut prompt = String::from("> ");
        if let Some(first) = typing.first() {
            let name = self.name(first).await;
            let others = if typing.len() > 1 { format!(" and {} more", typing.len() - 1) } else { String::new() };
            prompt = format!("({name}{others} typing) > ");
        }
        if self.say.is_none() {
            prompt.insert_str(0, "(offline) ");
        }
        self.terminal.set_prompt(&prompt);
    }
}

fn new_channel(kind: &str, title: String, members: Vec<String>) -> NewChannel {
    NewChannel {
        client_msg_id: None,
        kind: kind.to_owned(),
        title,
        members,
        history: Some("from_start".into()),
        open: kind == "group",
    }
}

fn title(channel: &ChannelView) -> String {
    if channel.title.is_empty() { format!("direct {}", short(&channel.id)) } else { channel.title.clone() }
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// Hours and minutes, UTC: a terminal client has no time zones to offer.
fn time_of_day(ms: u64) -> String {
    let minutes = ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
