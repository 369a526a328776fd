//! The other end: an operator's machine, which shows what devices ask and sends signed answers.

use std::{collections::BTreeMap, time::Duration};

use rumqttc::{
    AsyncClient, Event, EventLoop, Packet, Publish, PublishOptions, PublishProperties, QoS, SubscribeFilterInput,
};
use tokio::time::timeout;

use crate::{
    access::{Access, told},
    topics::{Alarm, Command, Status, Topics, is_id},
};

/// Time for the broker to answer, and for what it holds to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Longer than a question can stay open after its time was over: then the device is not there.
const GRACE: Duration = Duration::from_secs(10);

/// A connection of an operator, about one device.
pub struct Operator {
    client: AsyncClient,
    eventloop: EventLoop,
    topics: Topics,
}

/// Why something did not come about.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The broker.
    #[error("can't reach the broker {broker}: {reason}")]
    Broker {
        /// Which.
        broker: String,
        /// What went wrong.
        reason: String,
    },
    /// The connection was lost.
    #[error("the connection to the broker was lost: {0}")]
    Lost(String),
    /// Nothing of the device is there.
    #[error("the broker knows no device {0:?}, or does not show it to you")]
    NoDevice(String),
    /// The device did not answer.
    #[error("the device did not say what became of the answer: look at its ledger")]
    NoAnswer,
    /// The device refused the answer.
    #[error("the device refused the answer: {0}")]
    Refused(String),
}

impl Operator {
    /// Reaches the broker. `name` makes this connection another one than that of anybody else.
    pub async fn connect(access: &Access, device: &str, name: &str) -> Result<Operator, OperatorError> {
        let (client, mut eventloop) = access.client(&format!("aios-operator-{name}"), None);
        let failed = |reason: String| OperatorError::Broker { broker: access.broker().to_string(), reason };
        let reaching = async {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(failed(told(&error))),
                }
            }
        };
        let reached = timeout(ARRIVAL, reaching).await;
        reached.unwrap_or_else(|_| Err(failed(format!("no answer within {} s", ARRIVAL.as_secs()))))?;
        Ok(Operator { client, eventloop, topics: Topics::new(device) })
    }

    /// What waits, by call: alarms of which nothing was checked yet.
    pub async fn questions(&mut self) -> Result<BTreeMap<String, Alarm>, OperatorError> {
        // Without acknowledgements the broker sends all that it holds for the first before it answers the second.
        for filter in [self.topics.alarms(), self.topics.health()] {
            self.subscribe(filter, QoS::AtMostOnce)?;
        }
        let (mut found, mut acknowledged, mut known) = (BTreeMap::new(), 0, false);
        let (topics, eventloop) = (&self.topics, &mut self.eventloop);
        let arriving = async {
            while !known || acknowledged < 2 {
                match next(eventloop).await? {
                    Packet::SubAck(_) => acknowledged += 1,
                    Packet::Publish(publish) => {
                        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                        known |= topic == topics.health() && !publish.payload.is_empty();
                        let alarm = serde_json::from_slice(&publish.payload).ok();
                        if let (Some(call), Some(alarm)) = (topics.call_of(&topic), alarm) {
                            found.insert(call.to_owned(), alarm);
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let arrived = timeout(ARRIVAL, arriving).await;
        arrived.unwrap_or_else(|_| Err(OperatorError::NoDevice(self.topics.device().to_owned())))?;
        Ok(found)
    }

    /// Sends a signed answer and waits for what becomes of it. `left` is the time for which it counts.
    pub async fn answer(
        &mut self,
        command_id: &str,
        note: String,
        key: String,
        left: Duration,
    ) -> Result<(), OperatorError> {
        debug_assert!(is_id(command_id));
        let topic = self.topics.answer(command_id);
        self.subscribe(topic.clone(), QoS::AtLeastOnce)?;
        let command = Command { status: Status::Init, reason: None, note: Some(note), key: Some(key) };
        let payload = serde_json::to_string(&command).expect("invariant: texts are JSON");
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
        self.publish(&topic, &payload, Some(seconds))?;
        let eventloop = &mut self.eventloop;
        let answering = async {
            loop {
                let Packet::Publish(publish) = next(eventloop).await? else { continue };
                if let Some(done) = done(&topic, &publish) {
                    return done;
                }
            }
        };
        let answered = timeout(left + GRACE, answering).await.unwrap_or(Err(OperatorError::NoAnswer));
        // Whoever wants a command removes it when it is done.
        self.publish(&topic, "", None)?;
        self.close().await;
        answered
    }

    fn subscribe(&self, filter: String, qos: QoS) -> Result<(), OperatorError> {
        let filter = SubscribeFilterInput::new(filter, qos).no_local(true);
        self.client.try_subscribe_many([filter]).map_err(|error| OperatorError::Lost(error.to_string()))
    }

    fn publish(&self, topic: &str, payload: &str, expiry: Option<u32>) -> Result<(), OperatorError> {
        let properties = PublishProperties { message_expiry_interval: expiry, ..PublishProperties::default() };
        let options = PublishOptions::at_least_once().retained().properties(properties);
        let published = self.client.try_publish(topic, payload, options);
        published.map_err(|error| OperatorError::Lost(error.to_string()))
    }

    /// Sends what is still to be sent, and ends the connection.
    async fn close(&mut self) {
        let _ = self.client.try_disconnect();
        let sent = async { while self.eventloop.poll().await.is_ok() {} };
        let _ = timeout(ARRIVAL, sent).await;
    }
}

async fn next(eventloop: &mut EventLoop) -> Result<Packet, OperatorError> {
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(packet)) => return Ok(packet),
            Ok(_) => {}
            Err(error) => return Err(OperatorError::Lost(told(&error))),
        }
    }
}

/// What became of the command, where the message says so.
fn done(topic: &str, publish: &Publish) -> Option<Result<(), OperatorError>> {
    if publish.topic.as_ref() != topic.as_bytes() {
        return None;
    }
    let command: Command = serde_json::from_slice(&publish.payload).ok()?;
    match command.status {
        Status::Init => None,
        Status::Successful => Some(Ok(())),
        Status::Failed => Some(Err(OperatorError::Refused(command.reason.unwrap_or_default()))),
    }
}
