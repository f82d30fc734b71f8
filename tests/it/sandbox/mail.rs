//! The sandbox's mail server as any client of mail sees it, line by line.

use sandbox::{Sandbox, SandboxOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{SandboxControls, within};

/// A client that says exactly what the test says.
struct Talk(BufReader<TcpStream>);

impl Talk {
    async fn begin(sandbox: &Sandbox) -> Self {
        let server = sandbox.smtp_url().replace("smtp+plain://", "");
        let mut talk = Self(BufReader::new(TcpStream::connect(server).await.unwrap()));
        assert_eq!(talk.reply().await.0, 220);
        talk
    }

    /// The code of the next reply, and its lines.
    async fn reply(&mut self) -> (u16, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            within("a reply", self.0.read_line(&mut line)).await.unwrap();
            let (code, text) = line.trim_end_matches("\r\n").split_at_checked(3).expect("a reply has a code");
            lines.push(text[1..].to_owned());
            if text.starts_with(' ') {
                return (code.parse().unwrap(), lines);
            }
        }
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Says lines, all at once, and answers the codes of as many replies.
    async fn say(&mut self, lines: &[&str]) -> Vec<u16> {
        self.write(&lines.iter().map(|line| format!("{line}\r\n")).collect::<String>()).await;
        let mut codes = Vec::new();
        for _ in lines {
            codes.push(self.reply().await.0);
        }
        codes
    }

    /// Whether the server has closed.
    async fn is_over(&mut self) -> bool {
        let mut line = String::new();
        within("the end", self.0.read_line(&mut line)).await.unwrap() == 0
    }
}

async fn start() -> (Sandbox, SandboxControls) {
    let sandbox = sandbox::start(SandboxOptions::default()).await.unwrap();
    let controls = SandboxControls::of(&sandbox);
    (sandbox, controls)
}

#[tokio::test]
async fn commands_may_come_all_at_once_and_dots_are_unstuffed() {
    let (sandbox, controls) = start().await;
    let mut talk = Talk::begin(&sandbox).await;
    talk.write("EHLO me\r\n").await;
    let (code, extensions) = talk.reply().await;
    assert_eq!(code, 250);
    assert!(extensions.iter().any(|line| line == "PIPELINING"), "{extensions:?}");
    let all = ["MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "RCPT TO:<c@x.example>", "DATA"];
    assert_eq!(talk.say(&all).await, [250, 250, 250, 354]);
    talk.write("Subject: dots\r\n\r\n..\r\n...two\r\nplain\r\n.\r\nQUIT\r\n").await;
    assert_eq!((talk.reply().await.0, talk.reply().await.0), (250, 221));
    assert!(talk.is_over().await);
    for to in ["b@x.example", "C@X.example"] {
        assert_eq!(controls.mail(to).await[0]["text"], ".\r\n..two\r\nplain\r\n", "{to}");
    }
    assert_eq!(controls.get("mailbox/b@x.example/latest").await["subject"], "dots");
}

#[tokio::test]
async fn commands_out_of_order_and_unknown_ones_are_refused_and_the_talk_goes_on() {
    let (sandbox, controls) = start().await;
    let mut talk = Talk::begin(&sandbox).await;
    assert_eq!(talk.say(&["MAIL FROM:<a@x.example>", "EHLO", "HELO me", "DATA"]).await, [503, 501, 250, 503]);
    assert_eq!(talk.say(&["RCPT TO:<b@x.example>", "MAIL FROM:a@x", "BREW"]).await, [503, 501, 500]);
    assert_eq!(talk.say(&["MAIL FROM:<a@x.example>", "MAIL FROM:<a@x.example>"]).await, [250, 503]);
    assert_eq!(
        talk.say(&["RCPT TO:<nobody>", "DATA", "RSET", "NOOP", "STARTTLS"]).await,
        [501, 503, 250, 250, 502]
    );
    assert_eq!(talk.say(&["RCPT TO:<b@x.example>"]).await, [503], "RSET forgets the sender");
    assert!(controls.get("mailbox").await["addresses"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn both_ways_of_logging_in_are_known() {
    let (sandbox, _) = start().await;
    let mut talk = Talk::begin(&sandbox).await;
    // The user `me`, the password `sandbox-token`; and then another.
    assert_eq!(talk.say(&["EHLO me", "AUTH PLAIN AG1lAHNhbmRib3gtdG9rZW4="]).await, [250, 235]);
    assert_eq!(talk.say(&["AUTH PLAIN AG1lAHdyb25n", "AUTH CRAM-MD5"]).await, [535, 504]);
    assert_eq!(talk.say(&["AUTH LOGIN", "bWU=", "c2FuZGJveC10b2tlbg=="]).await, [334, 334, 235]);
    assert_eq!(talk.say(&["AUTH PLAIN", "AG1lAHNhbmRib3gtdG9rZW4="]).await, [334, 235]);
    assert_eq!(talk.say(&["AUTH PLAIN !!"]).await, [501]);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_and_after() {
    let (sandbox, controls) = start().await;
    let mut talk = Talk::begin(&sandbox).await;
    assert_eq!(talk.say(&["EHLO me", "MAIL FROM:<a@x.example> SIZE=99999999"]).await, [250, 552]);
    assert_eq!(
        talk.say(&["MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"]).await,
        [250, 250, 354]
    );
    let line = format!("{}\r\n", "x".repeat(998));
    talk.write(&line.repeat(1_100)).await;
    talk.write(".\r\n").await;
    assert_eq!(talk.reply().await.0, 552);
    assert!(controls.mail("b@x.example").await.is_empty());
    talk.write(&"x".repeat(20_000)).await;
    assert_eq!(talk.reply().await.0, 500);
}

#[tokio::test]
async fn mail_can_be_forgotten() {
    let (sandbox, controls) = start().await;
    let mut talk = Talk::begin(&sandbox).await;
    talk.say(&["EHLO me", "MAIL FROM:<>", "RCPT TO:<b@x.example>", "DATA"]).await;
    talk.write("\r\nbounce\r\n.\r\n").await;
    assert_eq!(talk.reply().await.0, 250);
    assert_eq!(controls.get("mailbox").await["addresses"][0]["address"], "b@x.example");
    controls.forget_mail().await;
    assert!(controls.mail("b@x.example").await.is_empty());
}
