//! `email.send`

use std::{borrow::Cow, time::Duration};

use lettre::{Message, message::Mailbox};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::smtp::{self, Recipient, Server};
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

/// Most recipients of one mail.
const RECIPIENTS_MAX: usize = 10;

/// Longest body, in bytes.
const BODY_MAX: usize = 64 << 10;

/// Longest subject, in characters.
const SUBJECT_MAX: usize = 200;

pub struct Send;

/// One line of text: whoever could begin another could write headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Who gets it, 1 to 10.
    to: Vec<Recipient>,
    /// What it is about, in one line of up to 200 characters.
    subject: Subject,
    /// Its text, up to 64 KiB.
    body: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What the server said when it took the mail.
    answer: String,
}

impl Tool for Send {
    const SPEC: ToolSpec = ToolSpec {
        name: "email.send",
        description: "Sends a mail as text through the mail server of this device. It can't be called back.",
        examples: &[Example {
            goal: "tell ops@example.org that the disk is full",
            arguments: r#"{"to": ["ops@example.org"], "subject": "Disk full", "body": "The disk of box 7 is full."}"#,
        }],
        needs: &["email:send:{to}"],
        risk: Risk::High,
        idempotent: false,
        timeout: Duration::from_secs(90),
        sinks: &["/to", "/subject", "/body"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let mut access = smtp::access(Access::default());
        access.capabilities = input.to.iter().map(|to| format!("email:send:{to}")).collect();
        if access.capabilities.is_empty() {
            // A mail to nobody is refused when it is made; until then it needs what nobody is given by a recipient.
            access.capabilities.push("email:send:nobody".to_owned());
        }
        access
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if !(1..=RECIPIENTS_MAX).contains(&input.to.len()) {
            let text = format!("to has {} addresses, but must have 1 to {RECIPIENTS_MAX}", input.to.len());
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        if input.body.len() > BODY_MAX {
            return Err(ToolError::new(Code::TooLarge, format!("the body is longer than {BODY_MAX} bytes")));
        }
        let server = Server::read(host)?;
        let mailbox = |recipient: &Recipient| Mailbox::new(None, recipient.address());
        let builder = Message::builder().from(mailbox(&server.from)).subject(input.subject.0).date_now();
        // No host's name: it would tell whoever reads the mail how the device is called.
        let builder = input.to.iter().fold(builder.message_id(None), |builder, to| builder.to(mailbox(to)));
        let builder = builder.header(lettre::message::header::ContentType::TEXT_PLAIN);
        let message = builder.body(input.body).map_err(|error| ToolError::new(Code::Failed, error.to_string()))?;
        let (mut connection, _) = server.connect(host)?;
        let answer =
            connection.send(message.envelope(), &message.formatted()).map_err(|error| server.failed(&error))?;
        // The mail is taken; a server that does not say goodbye changes nothing about that.
        let _ = connection.quit();
        Ok(Output { answer: plain(&answer.message().collect::<Vec<_>>().join(" "), 200) })
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.chars().count() > SUBJECT_MAX || text.chars().any(char::is_control) {
            return Err(format!("a subject is one line of 1 to {SUBJECT_MAX} characters"));
        }
        Ok(Subject(text))
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.0
    }
}

impl JsonSchema for Subject {
    fn schema_name() -> Cow<'static, str> {
        "Subject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": SUBJECT_MAX, "pattern": "^[^\\x00-\\x1f\\x7f]+$" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::email::{check::Check, tests::server},
        testing::call,
    };

    #[test]
    fn a_mail_reaches_the_server_as_it_was_written() {
        let (_folder, host, conversation) = server("none", "user = \"box\"\npassword = \"secret\"\n", "235 welcome");
        let arguments = json!({"to": ["ops@example.org", "it@example.org"], "subject": "Plätze: 1", "body": "Line\n.\nBcc: x@example.org\n"});
        assert_eq!(call::<Send>(&host, arguments), Ok(json!({"answer": "taken"})));
        let lines = conversation.join().expect("server");
        let has = |line: &str| lines.iter().any(|said| said == line);
        for line in [
            "MAIL FROM:<box@example.org>",
            "RCPT TO:<ops@example.org>",
            "RCPT TO:<it@example.org>",
            "From: box@example.org",
            "..",
            "QUIT",
        ] {
            assert!(has(line), "{line}: {lines:?}");
        }
        assert!(lines.iter().any(|said| said.starts_with("Subject: =?utf-8?b?")), "{lines:?}");
        let body = lines.iter().position(String::is_empty).expect("the end of the headers");
        assert!(
            lines[..body].iter().all(|line| !line.starts_with("Bcc"))
                && lines[body..].contains(&"Bcc: x@example.org".to_owned())
        );
        assert!(!lines.iter().any(|line| line.starts_with("RCPT TO:<x@")));
    }

    #[test]
    fn a_server_that_refuses_the_password_gets_no_mail() {
        let (_folder, host, conversation) = server("none", "user = \"box\"\npassword = \"wrong\"\n", "535 no");
        let arguments = json!({"to": ["ops@example.org"], "subject": "a", "body": "b"});
        let error = call::<Send>(&host, arguments).expect_err("refused");
        assert_eq!(error.code, Code::PermissionDenied);
        assert!(!error.message.contains("wrong"), "{error}");
        assert!(conversation.join().expect("server").iter().all(|line| !line.starts_with("MAIL")));
    }

    #[test]
    fn a_check_logs_in_and_sends_nothing() {
        let (_folder, host, conversation) = server("none", "user = \"box\"\npassword = \"secret\"\n", "235 welcome");
        let answer = call::<Check>(&host, json!({})).expect("check");
        assert_eq!((&answer["encrypted"], &answer["logged_in"]), (&json!(false), &json!(true)));
        assert!(conversation.join().expect("server").iter().all(|line| !line.starts_with("MAIL")));
    }

    #[test]
    fn headers_can_not_be_smuggled_in() {
        for (to, subject) in
            [("a@b.org\r\nBcc: c@d.org", "a"), ("a@b.org", "a\r\nBcc: c@d.org"), ("a@b.org", "a\nb"), ("a@b.org", "")]
        {
            let arguments = json!({"to": [to], "subject": subject, "body": ""});
            let code = call::<Send>(&Host::device(), arguments).map_err(|error| error.code);
            assert_eq!(code, Err(Code::InvalidArgument), "{to:?} {subject:?}");
        }
        let nobody = call::<Send>(&Host::device(), json!({"to": [], "subject": "a", "body": ""}));
        assert_eq!(nobody.map_err(|error| error.code), Err(Code::InvalidArgument));
    }
}
