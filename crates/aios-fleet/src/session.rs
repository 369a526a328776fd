//! The connection to the broker, and the next one when it is lost.

use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, Packet, Publish, PublishOptions, PublishProperties, QoS,
    SubscribeFilterInput,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    access::{Access, told},
    board::Board,
    courier::Brought,
    mirror::{Message, Mirror},
    topics::{Command, Status, Topics},
};

/// Shortest and longest time until the next attempt to reach the broker.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest command that is read, in bytes: a signed note and a public key are half of it.
const COMMAND_MAX: usize = 32 << 10;
/// Time for saying good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// What the health says while the service is not there.
const DOWN: &str = "{\"status\":\"down\"}";

/// All that a session needs.
pub struct Session {
    /// The broker.
    pub access: Access,
    /// The device's topics.
    pub topics: Topics,
    /// What the broker should hold.
    pub board: watch::Sender<Board>,
    /// To the tools. Bounded: what does not fit is refused.
    pub answers: mpsc::Sender<Brought>,
}

/// Why a connection ended.
enum Ended {
    /// It was lost, or never there.
    Lost(String),
    /// It is to end.
    Shutdown,
}

impl Session {
    /// Keeps a connection until `stopping` says so.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut mirror = Mirror::default();
        let (mut wait, mut last) = (BACKOFF.0, String::new());
        loop {
            let will = LastWill::new(self.topics.health(), DOWN, QoS::AtLeastOnce, true, None);
            let id = format!("aios-{}", self.topics.device());
            let (client, eventloop) = self.access.client(&id, Some(will));
            let mut connected = false;
            match self.hold(&client, eventloop, &mut mirror, &mut connected, &mut stopping).await {
                Ended::Shutdown => return,
                Ended::Lost(reason) => {
                    // Once for each way of failing: an unreachable broker must not fill the log.
                    if connected || reason != last {
                        tracing::warn!(broker = %self.access.broker(), reason, "broker not reached");
                    }
                    last = reason;
                }
            }
            if connected {
                wait = BACKOFF.0;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = asked(&mut stopping) => return,
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// One connection, to its end.
    async fn hold(
        &self,
        client: &AsyncClient,
        mut eventloop: EventLoop,
        mirror: &mut Mirror,
        connected: &mut bool,
        stopping: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut board = self.board.subscribe();
        loop {
            let sync = tokio::select! {
                event = eventloop.poll() => match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        tracing::info!(broker = %self.access.broker(), "broker reached");
                        *connected = true;
                        mirror.connected();
                        let answers = SubscribeFilterInput::new(self.topics.answers(), QoS::AtLeastOnce).no_local(true);
                        if let Err(error) = client.try_subscribe_many([answers]) {
                            return Ended::Lost(error.to_string());
                        }
                        true
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        self.received(&publish);
                        false
                    }
                    Ok(_) => false,
                    Err(error) => return Ended::Lost(told(&error)),
                },
                changed = board.changed(), if *connected => {
                    if changed.is_err() {
                        return Ended::Shutdown;
                    }
                    true
                }
                () = asked(stopping) => {
                    if *connected {
                        self.say_good_bye(client, &mut eventloop).await;
                    }
                    return Ended::Shutdown;
                }
            };
            if sync {
                let now = Instant::now();
                let desired = board.borrow_and_update().desired(now);
                if let Err(reason) =
                    mirror.changes(&desired, now).iter().try_for_each(|message| publish(client, message))
                {
                    // The next connection publishes everything again.
                    return Ended::Lost(reason);
                }
            }
        }
    }

    /// A message from the broker. Nothing in it is believed here.
    fn received(&self, publish: &Publish) {
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        let Some(command_id) = self.topics.command_of(topic) else { return };
        // One that was removed.
        if publish.payload.is_empty() {
            return;
        }
        let refused = |reason: String| {
            tracing::warn!(command_id, reason, "command refused");
            self.board.send_modify(|board| board.answered(command_id, Some(reason), Instant::now()));
        };
        if publish.payload.len() > COMMAND_MAX {
            return refused(format!("it has more than {COMMAND_MAX} bytes"));
        }
        let command: Command = match serde_json::from_slice(&publish.payload) {
            Ok(command) => command,
            Err(error) => return refused(format!("it is no command: {error}")),
        };
        if command.status != Status::Init {
            return;
        }
        if self.board.borrow().knows(command_id) {
            // It came twice; what became of it is published already.
            return;
        }
        let (Some(note), Some(key)) = (command.note, command.key) else {
            return refused("it has no note and key".into());
        };
        let brought = Brought { command_id: command_id.to_owned(), note, key };
        if self.answers.try_send(brought).is_err() {
            refused("too many answers at once: try again".into());
        }
    }

    async fn say_good_bye(&self, client: &AsyncClient, eventloop: &mut EventLoop) {
        let health = Message { topic: self.topics.health(), payload: DOWN.into(), expiry: None };
        if publish(client, &health).is_err() || client.try_disconnect().is_err() {
            return;
        }
        let sent = async { while eventloop.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(GOOD_BYE, sent).await;
    }
}

/// Completes when the service is to end.
async fn asked(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn publish(client: &AsyncClient, message: &Message) -> Result<(), String> {
    let mut options = PublishOptions::at_least_once().retained();
    if let Some(seconds) = message.expiry {
        let properties = PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
        options = options.properties(properties);
    }
    client.try_publish(message.topic.as_str(), message.payload.as_str(), options).map_err(|error| error.to_string())
}
