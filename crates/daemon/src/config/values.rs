//! What values may be.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de};

use super::Repository;

/// An absolute path that leads nowhere but down.
pub(super) fn place<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    let text = path.to_string_lossy();
    if !path.is_absolute()
        || text.contains('\0')
        || path.components().any(|part| part == Component::ParentDir)
    {
        return Err(de::Error::custom(format!("{text:?}: an absolute path without \"..\" is due")));
    }
    Ok(path)
}

pub(super) fn maybe_place<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    place(from).map(Some)
}

/// A group's path: names, with slashes between them.
pub(super) fn group<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let is_name = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\0', '\n']);
    // The reference takes a slash at the head, and a name below the root it is all the same.
    let path = text.strip_prefix('/').unwrap_or(&text);
    if !path.split('/').all(is_name) {
        return Err(de::Error::custom(format!("{text:?} is no path of a control group")));
    }
    Ok(path.to_owned())
}

/// How many may wait somewhere: room is made for all of them beforehand.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    within(from, 1, 65536)
}

/// Messages within a second.
pub(crate) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    within(from, 1, 1_000_000)
}

fn within<'de, D: Deserializer<'de>>(from: D, least: usize, most: usize) -> Result<usize, D::Error> {
    let number = usize::deserialize(from)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(de::Error::custom(format!("{number} is not within {least} and {most}")))
}

/// A user or a group that is not root's.
pub(super) fn nobody<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(de::Error::custom("0 is root, and has privileges")),
        // setresuid(2) takes it for "as it is".
        u32::MAX => Err(de::Error::custom("no such number")),
        number => Ok(number),
    }
}

/// The mode of a socket.
pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        mode @ 0..=0o777 => Ok(mode),
        mode => Err(de::Error::custom(format!("{mode:#o} is no mode, such as 0o660"))),
    }
}

/// A time as people write it: `10s`, `1m 30s`.
pub(crate) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let time = humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("{text:?} is no time, such as 10s: {error}")))?;
    if time > FAR {
        return Err(de::Error::custom(format!("{text:?} is longer than 365 days")));
    }
    Ok(time)
}

/// Times longer than that cannot be added to every time there is.
const FAR: Duration = Duration::from_hours(365 * 24);

/// Bytes as people write them: `1MiB`. A number of TOML's is refused, as the reference does: it takes texts.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    package::size(&text).ok_or_else(|| {
        de::Error::custom(format!("{text:?} is no size, such as \"4096\", \"20M\" or \"20MiB\""))
    })
}

pub(super) fn maybe_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(from).map(Some)
}

/// Bytes of a line, which are all in memory.
pub(crate) fn line<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match usize::try_from(size(from)?) {
        Ok(size @ 1..=LONGEST) => Ok(size),
        _ => Err(de::Error::custom("a line is of 1 byte to 64 MiB")),
    }
}

const LONGEST: usize = 64 << 20;

/// Repositories by their names, which are said in messages.
pub(super) fn repositories<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Repository>, D::Error> {
    let all = BTreeMap::<String, Repository>::deserialize(from)?;
    match all.keys().find(|name| name.is_empty() || name.contains(char::is_control)) {
        Some(name) => Err(de::Error::custom(format!("{name:?} is no name of a repository"))),
        None => Ok(all),
    }
}

/// Commands that have a first word, which is their program.
pub(super) fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    match all.iter().find(|command| command.trim().is_empty() || command.contains('\0')) {
        Some(command) => Err(de::Error::custom(format!("{command:?} is no command"))),
        None => Ok(all),
    }
}
