//! The words that decide what a goal asks for.
//!
//! Each line of a list is words for the same. What is in no list is a name, or a word that has to be the same in both
//! goals.

/// What a word is in a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Something that is done: index in [`ACTIONS`]. 0 is looking, which changes nothing.
    Action(usize),
    /// A kind of thing: index in [`OBJECTS`].
    Object(usize),
    /// Negation, condition, order, amount, direction: index in [`LIMITS`].
    Limit(usize),
    /// Says where a value belongs.
    Preposition,
    /// Says nothing.
    Filler,
}

/// [`Class::Action`] of looking.
pub(super) const LOOK: usize = 0;
/// [`Class::Object`] of services: a word that a unit's name makes superfluous.
pub(super) const SERVICE: usize = 0;
/// [`Class::Object`] of files: a word that a path makes superfluous.
pub(super) const FILE: usize = 1;

const ACTIONS: &[&str] = &[
    "show list display print check get view see tell inspect find report describe look what which how who where when look-at is are does",
    "start launch bring-up spin-up",
    "stop halt kill terminate end shut-down shutdown bring-down take-down",
    "restart bounce",
    "reboot",
    "reload refresh",
    "enable activate turn-on switch-on power-on",
    "disable deactivate turn-off switch-off power-off",
    "allow permit grant accept whitelist",
    "deny block forbid refuse reject drop ban blacklist",
    "revoke withdraw",
    "unblock unban",
    "add append",
    "create make generate",
    "delete remove erase get-rid rm wipe",
    "clean clear purge prune tidy clean-up free free-up",
    "install",
    "uninstall deinstall",
    "open",
    "close",
    "mount",
    "unmount umount eject",
    "lock",
    "unlock",
    "connect join",
    "disconnect leave",
    "attach",
    "detach",
    "encrypt",
    "decrypt",
    "compress zip pack archive",
    "extract unzip unpack decompress",
    "upload",
    "download fetch",
    "send publish",
    "receive",
    "push",
    "pull",
    "import",
    "export",
    "backup back-up",
    "restore recover",
    "update upgrade",
    "downgrade",
    "revert undo roll-back rollback reset",
    "cancel abort",
    "increase raise expand grow extend turn-up",
    "decrease lower reduce shrink turn-down",
    "mute silence",
    "unmute",
    "subscribe",
    "unsubscribe",
    "register",
    "unregister",
    "login sign-in",
    "logout sign-out",
    "read",
    "write save store record",
    "copy duplicate",
    "move",
    "rename",
    "change set configure edit modify adjust",
    "replace swap",
    "test try verify validate",
    "run execute",
    "pause suspend",
    "resume continue unpause",
    "schedule plan",
    "renew rotate",
    "merge combine",
    "split",
    "pin",
    "unpin",
    "bind",
    "unbind",
    "hide",
    "count",
    "ping",
    "sync synchronize synchronise",
    "format",
    "scan",
    "monitor watch",
    "ignore skip",
    "prevent avoid",
];

const OBJECTS: &[&str] = &[
    "service daemon unit",
    "file",
    "folder directory dir",
    "disk drive storage filesystem space",
    "memory ram",
    "swapfile swap-space",
    "cpu processor",
    "load",
    "network networking connectivity",
    "wifi wlan wireless wi-fi",
    "bluetooth",
    "firewall",
    "port",
    "interface nic",
    "log journal",
    "user account",
    "group",
    "package software",
    "container",
    "image",
    "machine computer device box host server",
    "process",
    "password passphrase",
    "key",
    "certificate cert",
    "configuration config setting",
    "temperature heat",
    "battery",
    "time clock",
    "date",
    "usage utilization utilisation consumption",
    "database db",
    "table",
    "snapshot",
    "version release",
    "status state health",
    "error failure problem",
    "warning",
    "connection",
    "address ip",
    "route",
    "dns",
    "proxy",
    "goal",
    "agent",
    "model",
    "volume",
    "brightness",
    "screen display monitor",
    "camera",
    "sensor",
    "light lamp",
    "door",
    "traffic",
    "session",
    "mail email",
    "uptime",
    "kernel",
    "cache",
    "schedule",
];

const LIMITS: &[&str] = &[
    "not never no none cannot don't doesn't won't isn't can't shouldn't mustn't nothing nobody",
    "without",
    "except excluding but besides",
    "unless",
    "instead rather",
    "only just solely",
    "all every each everything entire whole",
    "any some",
    "if",
    "until till",
    "while during",
    "before",
    "after afterwards",
    "then",
    "or either",
    "up",
    "down",
    "off",
    "out",
    "more greater above over exceeding",
    "less fewer below under",
    "first",
    "last",
    "oldest",
    "newest latest",
    "old older stale outdated",
    "new newer fresh recent",
    "largest biggest most",
    "smallest least",
    "highest maximum max",
    "lowest minimum min",
    "high",
    "low",
    "incoming inbound ingress",
    "outgoing outbound egress",
    "internal inner",
    "external outer",
    "public",
    "private",
    "local",
    "remote",
    "today",
    "yesterday",
    "tomorrow",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "temporarily temporary",
    "permanently permanent forever",
    "force forcibly forced",
    "recursively recursive",
    "again twice",
    "once",
    "always",
    "unused",
    "used",
    "active",
    "inactive",
    "full",
    "empty",
    "other another",
    "rest remaining",
    "both",
    "different",
    "previous",
    "next",
    "current",
    "default",
    "own mine",
    "reverse opposite backwards",
];

const PREPOSITIONS: &str = "to from on in into onto of for at by with as via through named called against";

const FILLERS: &str = "the a an please could can would will should must may you your me my our we i us it its this that these \
     those there here be been being was were am have has had do did want need like kindly thanks thank so and also let's \
     lets now currently right going go ahead whether s t much many";

/// The class of a word in small letters, of any of its forms. `turn-on` is two words of the goal.
pub(super) fn class_of(word: &str) -> Option<Class> {
    exact(word).or_else(|| forms(word).into_iter().find_map(|form| exact(&form)))
}

/// The class of two words together.
pub(super) fn class_of_pair(first: &str, second: &str) -> Option<Class> {
    let pair = |first: &str| exact(&format!("{first}-{second}"));
    pair(first).or_else(|| forms(first).into_iter().find_map(|form| pair(&form)))
}

fn exact(word: &str) -> Option<Class> {
    let has = |line: &str| line.split_whitespace().any(|other| other == word);
    let place = |lines: &[&str]| lines.iter().position(|line| has(line));
    if has(FILLERS) {
        return Some(Class::Filler);
    }
    if has(PREPOSITIONS) {
        return Some(Class::Preposition);
    }
    let limit = place(LIMITS).map(Class::Limit);
    limit.or_else(|| place(ACTIONS).map(Class::Action)).or_else(|| place(OBJECTS).map(Class::Object))
}

/// What a word could be a form of: without the ends of plural, past and present participle.
fn forms(word: &str) -> Vec<String> {
    let mut forms = Vec::new();
    let irregular = match word {
        "shown" => "show",
        "ran" => "run",
        "sent" => "send",
        "found" => "find",
        "wrote" | "written" => "write",
        "made" => "make",
        "said" => "tell",
        _ => "",
    };
    if !irregular.is_empty() {
        return vec![irregular.to_owned()];
    }
    for end in ["s", "es", "ed", "ing", "d"] {
        let Some(stem) = word.strip_suffix(end).filter(|stem| stem.len() >= 2) else { continue };
        forms.push(stem.to_owned());
        if matches!(end, "ed" | "ing") {
            forms.push(format!("{stem}e"));
            let mut chars = stem.chars();
            let last = chars.next_back();
            if last.is_some() && chars.clone().next_back() == last {
                forms.push(chars.as_str().to_owned());
            }
        }
        if let Some(stem) = stem.strip_suffix('i') {
            forms.push(format!("{stem}y"));
        }
    }
    forms
}

/// A word without the end of a plural: what is in no list is compared by it.
pub(super) fn singular(word: &str) -> &str {
    // Harman's rule without the ends that would need letters added: `ss`, `us` and `is` are no plurals.
    let is_plural = word.len() > 3 && word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end));
    if is_plural { &word[..word.len() - 1] } else { word }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn forms_of_a_word_are_the_same() {
        for words in [["restarted", "restarting"], ["stopped", "stopping"], ["copies", "copied"], ["denied", "denies"]]
        {
            let classes: BTreeSet<_> = words.iter().map(|word| format!("{:?}", class_of(word).unwrap())).collect();
            assert_eq!(classes.len(), 1, "{words:?}: {classes:?}");
        }
        assert_eq!(class_of_pair("turned", "off"), class_of("disabled"));
        assert_eq!(class_of_pair("shutting", "down"), class_of("stop"));
        assert_eq!(class_of("nginx"), None);
    }

    #[test]
    fn opposites_are_not_the_same() {
        let pairs = [
            "start stop",
            "enable disable",
            "allow deny",
            "add remove",
            "open close",
            "mount unmount",
            "lock unlock",
            "connect disconnect",
            "attach detach",
            "encrypt decrypt",
            "upload download",
            "send receive",
            "push pull",
            "import export",
            "backup restore",
            "increase decrease",
            "mute unmute",
            "install uninstall",
            "grant revoke",
            "block unblock",
            "login logout",
            "read write",
            "pause resume",
            "up down",
            "before after",
            "oldest newest",
            "incoming outgoing",
            "public private",
            "all only",
            "upgrade downgrade",
            "create delete",
            "more less",
        ];
        for pair in pairs {
            let (one, other) = pair.split_once(' ').unwrap();
            assert_ne!(class_of(one).unwrap(), class_of(other).unwrap(), "{pair}");
        }
    }

    #[test]
    fn no_word_is_in_two_places() {
        let all = [FILLERS, PREPOSITIONS].into_iter().chain(LIMITS.iter().copied()).chain(ACTIONS.iter().copied());
        let mut seen = BTreeSet::new();
        for word in all.flat_map(str::split_whitespace) {
            assert!(seen.insert(word), "{word}");
        }
    }
}
