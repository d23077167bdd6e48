//! The user and group that this process changes to after it has bound its sockets: `--user` and
//! `--group`.
//!
//! The change is permanent: it covers all three ids in all threads, drops supplementary groups, and
//! then proves that there is no way back. A process that already runs as that user stays unchanged.
//! Landlock, seccomp and the like are left to the service manager.

use nix::{
    errno::Errno,
    unistd::{self, Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid},
};
use std::str::FromStr;

/// A user, from `--user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    id: Uid,
    /// From the user database, if the user is in it.
    group: Option<Gid>,
}

/// A group, from `--group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: String,
    id: Gid,
}

/// The user and the group to change to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: Option<User>,
    group: Option<Group>,
}

/// The owner of files that a later generation has to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user, if it changes.
    pub user: Option<u32>,
    /// The group, if it changes.
    pub group: Option<u32>,
}

/// This process cannot change its user or group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{identity}: the system refuses to {step}: {source}{remedy}", remedy = remedy(*source))]
    Refused {
        /// The user and group asked for.
        identity: Identity,
        /// The step that failed.
        step: &'static str,
        /// The reason.
        source: Errno,
    },
    /// The process could become root again.
    #[error(
        "{0}: this process could become root again, since it may keep capabilities; start it without CAP_SETUID, or as that user"
    )]
    NotForGood(Identity),
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::EPERM => "; only root can change its user or group: start as root, or as that user without the option",
        _ => "",
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let user = |user: unistd::User| Self { name: text.to_owned(), id: user.uid, group: Some(user.gid) };
        let unknown = |error: Errno| format!("cannot be looked up in the user database ({error})");
        if let Some(found) = unistd::User::from_name(text).map_err(unknown)? {
            return Ok(user(found));
        }
        let id =
            number(text).map(Uid::from_raw).ok_or("is not a user of this system; give a user name or a numeric id")?;
        let found = unistd::User::from_uid(id).map_err(unknown)?;
        Ok(found.map_or(Self { name: text.to_owned(), id, group: None }, user))
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = |error: Errno| format!("cannot be looked up in the group database ({error})");
        let id = match unistd::Group::from_name(text).map_err(unknown)? {
            Some(found) => found.gid,
            None => number(text)
                .map(Gid::from_raw)
                .ok_or("is not a group of this system; give a group name or a numeric id")?,
        };
        Ok(Self { name: text.to_owned(), id })
    }
}

/// Parses a numeric id. Excludes the last number, because system calls take it for "no id".
fn number(text: &str) -> Option<u32> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|id| *id < u32::MAX)
}

impl Identity {
    /// The user and group to change to; `None` without either option.
    ///
    /// # Errors
    ///
    /// If the user's group is not known and `group` is `None`.
    pub fn new(user: Option<User>, group: Option<Group>) -> Result<Option<Self>, (String, &'static str)> {
        match (user, group) {
            (None, None) => Ok(None),
            (Some(User { name, group: None, .. }), None) => {
                Err((name, "is not in the user database, so its group is not known: give --group as well"))
            }
            (user, group) => Ok(Some(Self { user, group })),
        }
    }

    /// The ids to change; `None` for those that this process already has.
    fn change(&self) -> (Option<Uid>, Option<Gid>) {
        let user = self.user.as_ref().filter(|user| {
            let is_it = getresuid().is_ok_and(|is| [is.real, is.effective, is.saved].iter().all(|id| *id == user.id));
            !is_it
        });
        // A process that already runs as the user keeps its group, unless `--group` names another.
        let group = self.group.as_ref().map(|group| group.id).or(user.and_then(|user| user.group));
        let group = group.filter(|group| {
            let is_it = getresgid().is_ok_and(|is| [is.real, is.effective, is.saved].iter().all(|id| id == group));
            user.is_some() || !is_it
        });
        (user.map(|user| user.id), group)
    }

    /// The owner to give files to before the change; `None` if nothing changes.
    pub fn owner(&self) -> Option<Owner> {
        match self.change() {
            (None, None) => None,
            (user, group) => Some(Owner { user: user.map(Uid::as_raw), group: group.map(Gid::as_raw) }),
        }
    }

    /// Changes user and group. Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// If the system refuses, or a way back to root remains. The process must not serve then: the
    /// change may be incomplete.
    pub fn assume(&self) -> Result<bool, Error> {
        let (user, group) = self.change();
        if (user, group) == (None, None) {
            return Ok(false);
        }
        let refused = |step| move |source| Error::Refused { identity: self.clone(), step, source };
        // In this order, because each step needs a right that the next one gives up. The C library
        // applies each to all threads.
        setgroups(&[]).map_err(refused("drop supplementary groups"))?;
        if let Some(group) = group {
            setresgid(group, group, group).map_err(refused("change the group"))?;
        }
        if let Some(user) = user {
            setresuid(user, user, user).map_err(refused("change the user"))?;
            let root = Uid::from_raw(0);
            if user != root && setresuid(root, root, root).is_ok() {
                return Err(Error::NotForGood(self.clone()));
            }
        }
        Ok(true)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.user, &self.group) {
            (Some(user), Some(group)) => write!(f, "--user {} --group {}", user.name, group.name),
            (Some(user), None) => write!(f, "--user {}", user.name),
            (None, Some(group)) => write!(f, "--group {}", group.name),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: Option<&str>, group: Option<&str>) -> Identity {
        let (user, group) = (user.map(|user| user.parse().unwrap()), group.map(|group| group.parse().unwrap()));
        Identity::new(user, group).unwrap().unwrap()
    }

    #[test]
    fn the_current_user_and_group_change_nothing() {
        let (user, group) = (unistd::getuid().to_string(), unistd::getgid().to_string());
        assert_eq!(identity(Some(&user), Some(&group)).owner(), None);
        assert_eq!(identity(None, Some(&group)).owner(), None);
        assert!(!identity(Some(&user), Some(&group)).assume().unwrap());
    }

    #[test]
    fn a_user_brings_its_group_unless_another_is_asked_for() {
        let other = if unistd::getuid().is_root() { "nobody" } else { "root" };
        let (Ok(Some(known)), Ok(Some(root))) = (unistd::User::from_name(other), unistd::Group::from_name("root"))
        else {
            return;
        };
        let owner = |group| Owner { user: Some(known.uid.as_raw()), group: Some(group) };
        assert_eq!(identity(Some(other), None).owner(), Some(owner(known.gid.as_raw())));
        assert_eq!(identity(Some(other), Some("root")).owner(), Some(owner(root.gid.as_raw())));
        assert_eq!(identity(Some(&known.uid.to_string()), Some("7")).owner(), Some(owner(7)));
    }

    #[test]
    fn unknown_users_and_groups_are_rejected() {
        for text in ["", "no such user", "-1", "+1", "4294967295", "99999999999"] {
            assert!(text.parse::<User>().unwrap_err().contains("is not a user of this system"), "{text}");
            assert!(text.parse::<Group>().unwrap_err().contains("is not a group of this system"), "{text}");
        }
        let unlisted = (3_000_000_000_u32..).find(|id| unistd::User::from_uid(Uid::from_raw(*id)) == Ok(None)).unwrap();
        let user: User = unlisted.to_string().parse().unwrap();
        assert_eq!(Identity::new(Some(user.clone()), None).unwrap_err().0, unlisted.to_string());
        Identity::new(Some(user), Some("7".parse().unwrap())).unwrap().unwrap();
        assert_eq!(Identity::new(None, None), Ok(None));
    }
}
