//! Which chains are used again for which goals.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aios_recall::pattern::{Found, Options, Pattern, Refusal, Step, find};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A cosine that paraphrases have at least, and one that only near neighbours have.
const PARAPHRASE: f64 = 0.6;
const NEIGHBOUR: f64 = 0.97;

fn step(tool: &str, arguments: Value) -> Step {
    let Value::Object(arguments) = arguments else { panic!("{arguments}") };
    Step { tool: tool.into(), arguments }
}

fn pattern(id: u64, goal: &str, steps: &[(&str, Value)]) -> Pattern {
    let steps = steps.iter().map(|(tool, arguments)| step(tool, arguments.clone())).collect();
    Pattern { id, goal: goal.into(), steps, successes: 3, failures: 0 }
}

fn look_up(goal: &str, pattern: &Pattern, cosine: f64) -> Found {
    find(goal, [(pattern, cosine)], &Options::default())
}

/// Chain of a goal: what it was done with.
fn chain(goal: &str) -> Pattern {
    let (tool, arguments) = match goal {
        "restart nginx" => ("service.restart", json!({"unit": "nginx.service"})),
        "stop the sshd service" => ("service.stop", json!({"unit": "sshd"})),
        "show disk usage" => ("disk.usage", json!({})),
        "delete /tmp/old.log" => ("fs.delete", json!({"path": "/tmp/old.log"})),
        "copy /etc/hosts to /backup/hosts" => ("fs.copy", json!({"source": "/etc/hosts", "target": "/backup/hosts"})),
        "block 10.0.0.7 in the firewall" => ("firewall.deny", json!({"address": "10.0.0.7"})),
        "open port 8080" => ("firewall.open", json!({"port": 8080})),
        "enable the firewall" => ("firewall.enable", json!({})),
        "show the last 20 errors of mosquitto" => ("log.read", json!({"unit": "mosquitto", "lines": 20})),
        "add user alice to group admins" => ("user.group", json!({"user": "alice", "group": "admins"})),
        "ping gateway.example.org" => ("net.ping", json!({"host": "gateway.example.org"})),
        "set the volume to 30%" => ("audio.volume", json!({"percent": 30})),
        "is the network up" => ("net.status", json!({})),
        "what time is it" => ("time.now", json!({})),
        "rename \"old name\" to \"new name\"" => ("item.rename", json!({"from": "old name", "to": "new name"})),
        "check the logs of nginx" => ("log.read", json!({"path": "/var/log/nginx/error.log"})),
        "restart the container web" => ("container.restart", json!({"name": "web", "config": "/srv/web/compose.yaml"})),
        "back up the database" => ("db.backup", json!({"target": "/var/backups"})),
        "list incoming connections" => ("net.connections", json!({"direction": "in"})),
        "delete all old logs" => ("log.delete", json!({"older-than": "30d"})),
        "restart nginx if it is down" => ("service.ensure", json!({"unit": "nginx"})),
        "stop nginx and start apache" => ("service.swap", json!({"stop": "nginx", "start": "apache"})),
        "mount /dev/sdb1 on /mnt" => ("fs.mount", json!({"device": "/dev/sdb1", "at": "/mnt"})),
        other => panic!("no chain for '{other}'"),
    };
    pattern(1, goal, &[(tool, arguments)])
}

/// The pattern's goal, the goal, and the arguments that the chain is then called with.
fn reused() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("restart nginx", "Restart nginx.", json!({"unit": "nginx.service"})),
        ("restart nginx", "please restart the nginx service", json!({"unit": "nginx.service"})),
        ("restart nginx", "Could you restart nginx now?", json!({"unit": "nginx.service"})),
        ("restart nginx", "nginx should be restarted", json!({"unit": "nginx.service"})),
        ("restart nginx", "I want nginx restarted", json!({"unit": "nginx.service"})),
        ("restart nginx", "restart sshd", json!({"unit": "sshd.service"})),
        ("restart nginx", "please restart the mosquitto daemon", json!({"unit": "mosquitto.service"})),
        ("restart nginx", "restart php8.2-fpm", json!({"unit": "php8.2-fpm.service"})),
        ("restart nginx", "restart sshd.service", json!({"unit": "sshd.service"})),
        ("stop the sshd service", "halt sshd", json!({"unit": "sshd"})),
        ("stop the sshd service", "shut down the sshd service", json!({"unit": "sshd"})),
        ("stop the sshd service", "stop postgres", json!({"unit": "postgres"})),
        ("show disk usage", "display the disk usage", json!({})),
        ("show disk usage", "what is the usage of the disk?", json!({})),
        ("show disk usage", "Tell me the storage usage", json!({})),
        ("delete /tmp/old.log", "remove the file /tmp/old.log", json!({"path": "/tmp/old.log"})),
        ("delete /tmp/old.log", "please erase /var/tmp/core", json!({"path": "/var/tmp/core"})),
        ("delete /tmp/old.log", "get rid of /tmp/old.log", json!({"path": "/tmp/old.log"})),
        (
            "copy /etc/hosts to /backup/hosts",
            "copy /etc/fstab to /backup/fstab",
            json!({"source": "/etc/fstab", "target": "/backup/fstab"}),
        ),
        (
            "copy /etc/hosts to /backup/hosts",
            "duplicate the file /etc/hosts to /backup/hosts",
            json!({"source": "/etc/hosts", "target": "/backup/hosts"}),
        ),
        ("block 10.0.0.7 in the firewall", "deny 192.168.1.20 in the firewall", json!({"address": "192.168.1.20"})),
        ("block 10.0.0.7 in the firewall", "ban 10.0.0.7 at the firewall", json!({"address": "10.0.0.7"})),
        ("open port 8080", "please open port 443", json!({"port": 443})),
        ("open port 8080", "the port 8080 should be opened", json!({"port": 8080})),
        ("enable the firewall", "turn on the firewall", json!({})),
        ("enable the firewall", "Activate the firewall, please", json!({})),
        (
            "show the last 20 errors of mosquitto",
            "display the last 50 errors of nginx",
            json!({"unit": "nginx", "lines": 50}),
        ),
        ("add user alice to group admins", "add the user bob to group wheel", json!({"user": "bob", "group": "wheel"})),
        ("ping gateway.example.org", "ping www.example.org", json!({"host": "www.example.org"})),
        ("set the volume to 30%", "change the volume to 45%", json!({"percent": 45})),
        ("is the network up", "Is the network up?", json!({})),
        ("what time is it", "tell me the time", json!({})),
        (
            "rename \"old name\" to \"new name\"",
            "please rename 'this one' to 'that one'",
            json!({"from": "this one", "to": "that one"}),
        ),
        ("check the logs of nginx", "look at the nginx logs", json!({"path": "/var/log/nginx/error.log"})),
        ("back up the database", "please backup the db", json!({"target": "/var/backups"})),
        ("list incoming connections", "show inbound connections", json!({"direction": "in"})),
        ("delete all old logs", "remove every outdated log", json!({"older-than": "30d"})),
        ("stop nginx and start apache", "halt nginx and launch apache", json!({"stop": "nginx", "start": "apache"})),
        (
            "mount /dev/sdb1 on /mnt",
            "mount /dev/sdc1 on /media/usb",
            json!({"device": "/dev/sdc1", "at": "/media/usb"}),
        ),
    ]
}

/// The pattern's goal, the goal, and why the chain is not used.
const REFUSED: &[(&str, &str, Refusal)] = &[
    ("restart nginx", "stop nginx", Refusal::Action),
    ("restart nginx", "start nginx", Refusal::Action),
    ("restart nginx", "reload nginx", Refusal::Action),
    ("restart nginx", "do not restart nginx", Refusal::Limit),
    ("restart nginx", "don't restart nginx", Refusal::Limit),
    ("restart nginx", "never restart nginx", Refusal::Limit),
    ("restart nginx", "restart everything except nginx", Refusal::Limit),
    ("restart nginx", "restart nginx tomorrow", Refusal::Limit),
    ("restart nginx", "restart nginx if it is down", Refusal::Limit),
    ("restart nginx", "restart nginx on web2", Refusal::Value),
    ("restart nginx", "restart nginx in 5 minutes", Refusal::Limit),
    ("restart nginx", "restart nginx and sshd", Refusal::Word),
    ("restart nginx", "restart carefully", Refusal::Word),
    ("restart nginx", "restart the computer", Refusal::Object),
    ("restart nginx", "restart --force", Refusal::Word),
    ("restart nginx", "show nginx", Refusal::Action),
    ("restart nginx", "is nginx restarted", Refusal::Action),
    ("restart nginx", "prevent nginx from being restarted", Refusal::Action),
    ("stop the sshd service", "start the sshd service", Refusal::Action),
    ("stop the sshd service", "disable the sshd service", Refusal::Action),
    ("enable the firewall", "disable the firewall", Refusal::Action),
    ("enable the firewall", "turn off the firewall", Refusal::Action),
    ("enable the firewall", "enable the wifi", Refusal::Object),
    ("enable the firewall", "enable the firewall until tomorrow", Refusal::Limit),
    ("open port 8080", "close port 8080", Refusal::Action),
    ("open port 8080", "list open ports", Refusal::Action),
    ("open port 8080", "open /dev/ttyS0", Refusal::Object),
    ("block 10.0.0.7 in the firewall", "allow 10.0.0.7 in the firewall", Refusal::Action),
    ("block 10.0.0.7 in the firewall", "unblock 10.0.0.7 in the firewall", Refusal::Action),
    ("block 10.0.0.7 in the firewall", "block everything but 10.0.0.7 in the firewall", Refusal::Limit),
    ("add user alice to group admins", "remove user alice from group admins", Refusal::Action),
    ("add user alice to group admins", "add group admins to user alice", Refusal::Value),
    ("copy /etc/hosts to /backup/hosts", "copy /backup/hosts to /etc/hosts", Refusal::Value),
    ("copy /etc/hosts to /backup/hosts", "move /etc/hosts to /backup/hosts", Refusal::Action),
    ("delete /tmp/old.log", "delete bob", Refusal::Value),
    ("add user alice to group admins", "add group bob to user wheel", Refusal::Value),
    ("delete /tmp/old.log", "delete /tmp/old.log *", Refusal::Value),
    ("delete /tmp/old.log", "restore /tmp/old.log", Refusal::Action),
    ("delete /tmp/old.log", "delete everything but /tmp/old.log", Refusal::Limit),
    ("delete /tmp/old.log", "delete /tmp/OLD.log without asking", Refusal::Limit),
    ("show disk usage", "show memory usage", Refusal::Object),
    ("show disk usage", "reduce disk usage", Refusal::Action),
    ("show disk usage", "show the disk usage of yesterday", Refusal::Limit),
    ("show disk usage", "free disk space", Refusal::Action),
    ("set the volume to 30%", "set the volume to 30", Refusal::Value),
    ("set the volume to 30%", "set the brightness to 30%", Refusal::Object),
    ("set the volume to 30%", "raise the volume by 30%", Refusal::Action),
    ("is the network up", "is the network down", Refusal::Limit),
    ("check the logs of nginx", "check the logs of apache", Refusal::Value),
    ("restart the container web", "restart the container db1", Refusal::Value),
    ("restart the container web", "restart the container frontend", Refusal::Value),
    ("back up the database", "restore the database", Refusal::Action),
    ("list incoming connections", "list outgoing connections", Refusal::Limit),
    ("list incoming connections", "close incoming connections", Refusal::Action),
    ("delete all old logs", "delete all new logs", Refusal::Limit),
    ("delete all old logs", "delete all logs", Refusal::Limit),
    ("delete all old logs", "delete all old customer logs", Refusal::Word),
    ("delete all old logs", "delete only old logs", Refusal::Limit),
    ("restart nginx if it is down", "restart nginx", Refusal::Limit),
    ("restart nginx if it is down", "restart nginx unless it is down", Refusal::Limit),
    ("stop nginx and start apache", "stop apache and start nginx", Refusal::Value),
    ("stop nginx and start apache", "start nginx and stop apache", Refusal::Action),
    ("mount /dev/sdb1 on /mnt", "unmount /dev/sdb1 on /mnt", Refusal::Action),
    ("ping gateway.example.org", "ping 10.0.0.1", Refusal::Value),
    ("show the last 20 errors of mosquitto", "show the first 20 errors of mosquitto", Refusal::Limit),
    ("show the last 20 errors of mosquitto", "show the last 20 warnings of mosquitto", Refusal::Object),
    ("what time is it", "what date is it", Refusal::Object),
];

#[test]
fn paraphrases_use_the_chain_with_their_own_values() {
    let table = reused();
    assert!(table.len() >= 30);
    let mut wrong = Vec::new();
    for (known, goal, arguments) in table {
        let found = look_up(goal, &chain(known), PARAPHRASE);
        let steps = found.best.map(|best| Value::Object(best.steps[0].arguments.clone()));
        if steps.as_ref() != Some(&arguments) {
            wrong.push(format!("'{known}' for '{goal}': {steps:?} {:?}", found.refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn near_misses_are_refused_however_near_their_embeddings_are() {
    assert!(REFUSED.len() >= 60);
    let mut wrong = Vec::new();
    for (known, goal, refusal) in REFUSED {
        let found = look_up(goal, &chain(known), NEIGHBOUR);
        if found.best.is_some() || found.refused != [(1, *refusal)] {
            wrong.push(format!("'{known}' for '{goal}': {:?} {:?}", found.best, found.refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_words_need_no_likeness_and_the_most_reliable_is_taken() {
    let one = Pattern { failures: 2, ..pattern(1, "Restart nginx", &[("a", json!({}))]) };
    let other = pattern(2, "restart  nginx.", &[("b", json!({}))]);
    let found = find("restart nginx", [(&one, 0.0), (&other, f64::NAN)], &Options::default());
    assert_eq!(found.best.unwrap().id, 2);
    assert_eq!(found.refused, [(1, Refusal::Worse)]);
}

#[test]
fn failures_lower_the_rank_until_a_chain_is_no_longer_offered() {
    let mut known = chain("restart nginx");
    known.successes = 1;
    let mut offered = 0;
    while look_up("restart nginx", &known, 1.0).best.is_some() {
        offered += 1;
        known.failures += 1;
    }
    assert_eq!(offered, 2, "one failure is borne, the second ends it");
    assert_eq!(look_up("restart nginx", &known, 1.0).refused, [(1, Refusal::Unreliable)]);
}

#[test]
fn two_chains_that_fit_as_well_are_both_refused() {
    let one = pattern(1, "display the disk usage", &[("disk.usage", json!({}))]);
    let other = pattern(2, "print the disk usage", &[("disk.report", json!({}))]);
    let found = find("show disk usage", [(&one, 0.9), (&other, 0.91)], &Options::default());
    assert_eq!(found.best, None);
    assert_eq!(found.refused, [(2, Refusal::Ambiguous), (1, Refusal::Ambiguous)]);
    let same = Pattern { steps: one.steps.clone(), ..other };
    let found = find("show disk usage", [(&one, 0.9), (&same, 0.91)], &Options::default());
    assert_eq!(found.best.unwrap().id, 2, "both do the same");
}

#[test]
fn goals_that_have_little_in_common_are_unlike() {
    let found = look_up("show disk usage now", &chain("show disk usage"), 0.3);
    assert_eq!(found.refused, [(1, Refusal::Unlike)]);
}

#[test]
fn a_value_that_another_step_has_in_part_is_not_replaced() {
    let steps =
        [("service.restart", json!({"unit": "nginx"})), ("log.read", json!({"path": "/var/log/nginx/error.log"}))];
    let known = pattern(1, "restart nginx", &steps);
    assert_eq!(look_up("restart sshd", &known, NEIGHBOUR).refused, [(1, Refusal::Value)]);
    assert_eq!(look_up("please restart nginx", &known, NEIGHBOUR).best.unwrap().steps, known.steps);
}

#[test]
fn a_chain_that_calls_for_more_than_the_goal_names_is_not_generalised() {
    let steps = [("service.restart", json!({"unit": "nginx"})), ("service.restart", json!({"unit": "mysql"}))];
    let known = pattern(1, "restart nginx", &steps);
    assert_eq!(look_up("restart sshd", &known, NEIGHBOUR).refused, [(1, Refusal::Value)]);
}

proptest! {
    #[test]
    fn no_goal_is_reused_in_its_negation_or_its_opposite(
        pair in prop::sample::select(vec![
            ("start", "stop"), ("enable", "disable"), ("allow", "deny"), ("add", "remove"), ("open", "close"),
            ("mount", "unmount"), ("lock", "unlock"), ("connect", "disconnect"), ("increase", "decrease"),
            ("install", "uninstall"), ("mute", "unmute"), ("upload", "download"), ("turn on", "turn off"),
        ]),
        name in "[a-z]{6,12}[0-9]",
        cosine in 0.0..=1.0_f64,
        negation in prop::sample::select(vec!["do not", "don't", "never"]),
    ) {
        let known = pattern(1, &format!("{} {name}", pair.0), &[("tool", json!({"name": name}))]);
        let opposite = format!("please {} the {name}", pair.1);
        prop_assert_eq!(look_up(&opposite, &known, cosine).best, None);
        let negated = format!("{negation} {} {name}", pair.0);
        prop_assert_eq!(look_up(&negated, &known, cosine).best, None);
        let known = pattern(1, &opposite, &[("tool", json!({"name": name}))]);
        prop_assert_eq!(look_up(&format!("{} {name}", pair.0), &known, cosine).best, None);
    }

    #[test]
    fn what_is_filled_in_has_the_new_value_and_nothing_of_the_old_one(
        old in "[a-z]{5,9}[0-9]",
        new in "[a-z]{5,9}[0-9]",
        depth in 0..3_usize,
    ) {
        prop_assume!(old != new);
        let mut value = json!(old);
        for _ in 0..depth {
            value = json!([{"inner": value}]);
        }
        let known = pattern(1, &format!("restart {old}"), &[("tool", json!({"unit": value, "mode": "graceful"}))]);
        let best = look_up(&format!("restart {new}"), &known, 0.9).best.unwrap();
        let text = serde_json::to_string(&best.steps[0].arguments).unwrap();
        prop_assert!(text.contains(&new) && !text.contains(&old), "{}", text);
        prop_assert_eq!(best.replaced, [(old, new)]);
    }

    #[test]
    fn any_text_is_a_goal(goal in "\\PC{0,60}", other in "\\PC{0,60}", cosine in any::<f64>()) {
        let known = pattern(1, &other, &[("tool", json!({"text": other}))]);
        let found = look_up(&goal, &known, cosine);
        prop_assert_eq!(found.best.is_some(), found.refused.is_empty());
        prop_assert!(look_up(&other, &known, cosine).best.is_some(), "the same goal is always found");
    }
}
