//! Who may do what, and what follows from it: the rules behind `decide`, one function a command.

use crate::command::{ChannelKind, Command, CommandBody, HistoryVisibility, Role};
use crate::decide::{DecideLimits, Head};
use crate::event::{EventKind, RejectCause};
use crate::ids::{ChannelId, UserId};
use crate::limits::{MESSAGE_BODY_BYTES_MAX, TITLE_BYTES_MAX};
use std::collections::BTreeSet;

/// The events of an allowed command, or why it is not.
pub(crate) fn events(command: &Command, head: &Head, limits: &DecideLimits) -> Result<Vec<EventKind>, RejectCause> {
    let actor = Actor { user: command.sender, channel: command.channel, head, limits };
    match &command.body {
        CommandBody::Post { text } => actor.post(text),
        CommandBody::CreateChannel { kind, title, members, history, open } => {
            actor.create(command, *kind, title, members, *history, *open)
        }
        CommandBody::Join => actor.join(),
        CommandBody::Leave => actor.leave(),
        CommandBody::AddMembers { users } => actor.add(users),
        CommandBody::RemoveMember { user } => actor.remove(*user),
        CommandBody::SetRole { user, role } => actor.set_role(*user, *role),
        CommandBody::ChannelJoined { channel, seq } => {
            actor.derived(EventKind::ChannelJoined { channel: *channel, seq: *seq })
        }
        CommandBody::ChannelLeft { channel, seq } => {
            actor.derived(EventKind::ChannelLeft { channel: *channel, seq: *seq })
        }
    }
}

struct Actor<'a> {
    user: UserId,
    channel: ChannelId,
    head: &'a Head,
    limits: &'a DecideLimits,
}

impl Actor<'_> {
    /// Personal channels exist without an event, and their person is the only member.
    fn own_personal(&self) -> bool {
        self.channel == ChannelId::personal(self.user)
    }

    fn role(&self) -> Result<Role, RejectCause> {
        if self.own_personal() {
            return Ok(Role::Member);
        }
        self.head.role_of(self.user).ok_or(RejectCause::NotMember)
    }

    /// The role, where it is at least `least` and the channel is one whose members change.
    fn manager(&self, least: Role) -> Result<Role, RejectCause> {
        let role = self.role()?;
        if role < least || self.head.kind != ChannelKind::Group || self.own_personal() {
            return Err(RejectCause::Forbidden);
        }
        Ok(role)
    }

    fn post(&self, text: &str) -> Result<Vec<EventKind>, RejectCause> {
        self.role()?;
        if self.own_personal() {
            return Err(RejectCause::Forbidden);
        }
        if text.len() > MESSAGE_BODY_BYTES_MAX {
            return Err(RejectCause::BadBody);
        }
        Ok(vec![EventKind::MessagePosted { text: text.into() }])
    }

    fn create(
        &self,
        command: &Command,
        kind: ChannelKind,
        title: &str,
        members: &[UserId],
        history: HistoryVisibility,
        open: bool,
    ) -> Result<Vec<EventKind>, RejectCause> {
        let others: BTreeSet<UserId> = members.iter().copied().filter(|user| *user != self.user).collect();
        // An id that is not the sender's to make is answered like any channel they are no member of.
        let own_id = match kind {
            ChannelKind::Group => command.channel == ChannelId::group(self.user, command.id),
            ChannelKind::Direct => {
                others.len() == 1 && others.iter().all(|other| command.channel == ChannelId::direct(self.user, *other))
            }
            ChannelKind::Personal => self.own_personal(),
        };
        if !own_id {
            return Err(RejectCause::NotMember);
        }
        if self.head.exists() || kind == ChannelKind::Personal {
            return Err(RejectCause::AlreadyExists);
        }
        if title.len() > TITLE_BYTES_MAX || (kind == ChannelKind::Direct && (open || !title.is_empty())) {
            return Err(RejectCause::BadBody);
        }
        if others.len() + 1 > self.limits.members_max {
            return Err(RejectCause::MembersLimit);
        }
        let owner = if kind == ChannelKind::Group { Role::Owner } else { Role::Member };
        let mut events = vec![
            EventKind::ChannelCreated { kind, title: title.into(), history, open },
            EventKind::MemberJoined { user: self.user, role: owner },
        ];
        events.extend(others.into_iter().map(|user| EventKind::MemberJoined { user, role: Role::Member }));
        Ok(events)
    }

    fn join(&self) -> Result<Vec<EventKind>, RejectCause> {
        if self.role().is_ok() {
            return Err(RejectCause::AlreadyMember);
        }
        if !self.head.exists() || !self.head.open || self.head.kind != ChannelKind::Group {
            return Err(RejectCause::NotMember);
        }
        self.has_room(1)?;
        // The last member may leave; whoever comes next keeps the rule that people have an owner.
        let role = if self.head.member_count() == 0 { Role::Owner } else { Role::Member };
        Ok(vec![EventKind::MemberJoined { user: self.user, role }])
    }

    fn leave(&self) -> Result<Vec<EventKind>, RejectCause> {
        self.manager(Role::Member)?;
        self.may_lose_owner(self.user)?;
        Ok(vec![EventKind::MemberLeft { user: self.user, removed: false }])
    }

    fn add(&self, users: &[UserId]) -> Result<Vec<EventKind>, RejectCause> {
        self.manager(Role::Admin)?;
        let new: BTreeSet<UserId> = users.iter().copied().filter(|user| self.head.role_of(*user).is_none()).collect();
        if new.is_empty() {
            return Err(RejectCause::AlreadyMember);
        }
        self.has_room(new.len())?;
        Ok(new.into_iter().map(|user| EventKind::MemberJoined { user, role: Role::Member }).collect())
    }

    fn remove(&self, user: UserId) -> Result<Vec<EventKind>, RejectCause> {
        if user == self.user {
            return self.leave();
        }
        let own = self.manager(Role::Admin)?;
        let theirs = self.head.role_of(user).ok_or(RejectCause::NoSuchMember)?;
        if own != Role::Owner && theirs >= own {
            return Err(RejectCause::Forbidden);
        }
        Ok(vec![EventKind::MemberLeft { user, removed: true }])
    }

    fn set_role(&self, user: UserId, role: Role) -> Result<Vec<EventKind>, RejectCause> {
        self.manager(Role::Owner)?;
        let theirs = self.head.role_of(user).ok_or(RejectCause::NoSuchMember)?;
        if theirs == role {
            return Err(RejectCause::AlreadyMember);
        }
        if self.is_last_owner(user) {
            return Err(RejectCause::LastOwner);
        }
        Ok(vec![EventKind::RoleChanged { user, role }])
    }

    fn derived(&self, event: EventKind) -> Result<Vec<EventKind>, RejectCause> {
        if self.own_personal() { Ok(vec![event]) } else { Err(RejectCause::NotMember) }
    }

    fn has_room(&self, more: usize) -> Result<(), RejectCause> {
        if self.head.member_count() + more > self.limits.members_max { Err(RejectCause::MembersLimit) } else { Ok(()) }
    }

    fn may_lose_owner(&self, user: UserId) -> Result<(), RejectCause> {
        if self.is_last_owner(user) && self.head.member_count() > 1 { Err(RejectCause::LastOwner) } else { Ok(()) }
    }

    fn is_last_owner(&self, user: UserId) -> bool {
        self.head.role_of(user) == Some(Role::Owner)
            && self.head.members.values().filter(|member| member.role == Some(Role::Owner)).count() == 1
    }
}
