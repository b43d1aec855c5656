//! Are the libraries of functions the same on both sides? Said beside the comparison of the keys, whose result it does not
//! touch: an application may well bring its functions itself.
//!
//! # Invariant
//!
//! Trouble here is told and is no trouble of the comparison.

use super::link::Env;
use crate::client::LinkError;
use crate::client::control::Info;
use crate::client::functions::{Library, listed};
use crate::endpoint::Side;
use crate::progress::Event;

/// Tells how the libraries of both sides compare, if one of them has any.
pub async fn compare(env: &Env, infos: &[Info]) {
    let has_some = |info: &Info| {
        info.get("number_of_libraries")
            .is_some_and(|number| number != "0")
    };
    if !infos.iter().any(has_some) {
        return;
    }
    let timeout = env.request.options.timeout;
    let ask = async |side| -> Result<Vec<Library>, LinkError> {
        let mut link = env.connect(side, 0, timeout).await?;
        // Before 7.0 there are none.
        Ok(listed(&mut link.wire).await?.unwrap_or_default())
    };
    match (ask(Side::Source).await, ask(Side::Target).await) {
        (Ok(source), Ok(target)) => env.observer.event(&between(&source, &target)),
        (Err(error), _) => not_compared(env, Side::Source, &error),
        (_, Err(error)) => not_compared(env, Side::Target, &error),
    }
}

fn not_compared(env: &Env, side: Side, error: &LinkError) {
    env.warn(format!(
        "libraries of functions were not compared: {side}: {error} (redknot acl --functions prints the rights)"
    ));
}

fn between(source: &[Library], target: &[Library]) -> Event {
    let names = |these: &[Library], chosen: &dyn Fn(&Library) -> bool| -> Vec<String> {
        let chosen = these.iter().filter(|library| chosen(library));
        chosen.map(|library| library.name.clone()).collect()
    };
    let like = |these: &[Library], name: &str| -> Option<Vec<u8>> {
        let same = these.iter().find(|library| library.name == name)?;
        Some(same.code.clone())
    };
    Event::FunctionsCompared {
        equal: source
            .iter()
            .filter(|library| like(target, &library.name).as_ref() == Some(&library.code))
            .count() as u64,
        missing: names(source, &|library| like(target, &library.name).is_none()),
        different: names(source, &|library| {
            like(target, &library.name).is_some_and(|code| code != library.code)
        }),
        extra: names(target, &|library| like(source, &library.name).is_none()),
    }
}
