//! A listener's connection: made, kept alive, made again.
//!
//! Every wait has a deadline: connecting, with the broker's answers,
//! `connect_timeout`; a write as well; silence `keep_alive`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringmain_base::{Prng, Xoshiro};
use ringmain_config::{MqttTrigger, MqttVersion};
use ringmain_connectors::{tls_client, tls_words};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::session::{Event, Session};
use super::{Heard, Leave, Listener, Opening};

/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection that ends sooner was of no use.
const SHORT_LIFE: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Listens until it is told to leave.
pub(super) async fn listen(listener: Listener, plan: Arc<MqttTrigger>, opening: Opening) {
    let Opening { name, former, fresh, after } = opening;
    if let Some(before) = after {
        // Two with the same id would throw each other out.
        let within = Duration::from_micros(plan.client.connect_timeout_us);
        let _ = timeout(within, before.until_gone()).await;
    }
    let session = Session::new(plan.clone(), former);
    let waits = Waits::new(&plan, &name);
    let mut link = Link {
        listener: listener.clone(),
        name,
        session,
        plan,
        fresh,
        met: false,
        waits,
        told: None,
        events: VecDeque::new(),
    };
    link.run().await;
    listener.0.gone.send_replace(true);
}

/// Waits between attempts: doubling, with jitter.
struct Waits {
    min_us: u64,
    max_us: u64,
    next_us: u64,
    rng: Xoshiro,
}

impl Waits {
    fn new(plan: &MqttTrigger, name: &str) -> Self {
        let (min_us, max_us) = (plan.client.retry.min_us.max(1), plan.client.retry.max_us);
        let seed = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) ^ u64::from(std::process::id());
        Self { min_us, max_us: max_us.max(min_us), next_us: min_us, rng: Xoshiro::new(seed) }
    }

    fn next(&mut self) -> Duration {
        let ceiling = self.next_us;
        self.next_us = ceiling.saturating_mul(2).min(self.max_us);
        Duration::from_micros(ceiling - self.rng.below(ceiling / 2 + 1))
    }
}

struct Link {
    listener: Listener,
    name: String,
    plan: Arc<MqttTrigger>,
    session: Session,
    /// What the broker has kept is still to be thrown away.
    fresh: bool,
    /// It has been connected since the start.
    met: bool,
    waits: Waits,
    /// The trouble that was logged last.
    told: Option<String>,
    /// What came and was not taken up.
    events: VecDeque<Event>,
}

/// How a connection ended.
enum End {
    /// By the listener's own wish.
    Left,
    /// The next one is to follow at once.
    Again,
    Lost(String),
}

impl Link {
    async fn run(&mut self) {
        loop {
            let since = Instant::now();
            let end = match self.connect().await {
                Ok(stream) => self.converse(stream).await,
                Err(why) => End::Lost(why),
            };
            if self.listener.leaves().is_some() {
                return;
            }
            // Messages that nobody has taken up yet are known to the session.
            self.events.retain(|event| matches!(event, Event::Message { .. }));
            match end {
                End::Left => return,
                End::Again => continue,
                End::Lost(why) => {
                    if since.elapsed() >= SHORT_LIFE && self.listener.report().connected {
                        self.waits.next_us = self.waits.min_us;
                    }
                    let wait = self.waits.next();
                    self.lost(&why, wait);
                    if self.rest(wait).await {
                        return;
                    }
                }
            }
        }
    }

    /// True when it is to leave.
    async fn rest(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while self.listener.leaves().is_none() {
            if timeout_at(until, self.listener.0.notify.notified()).await.is_err() {
                return false;
            }
        }
        true
    }

    fn lost(&mut self, why: &str, wait: Duration) {
        let url = &self.plan.client.url;
        let trouble = format!("{url}: {why}; the next attempt is in {} ms", wait.as_millis());
        if self.told.as_deref() != Some(why) {
            tracing::warn!("{}: [schedule] mqtt: {trouble}", self.name);
            self.told = Some(why.to_owned());
        }
        self.listener.change(|report| {
            (report.connected, report.trouble) = (false, Some(trouble));
        });
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let client = &self.plan.client;
        let within = Duration::from_micros(client.connect_timeout_us);
        let stream = async {
            let stream = TcpStream::connect(&client.address).await.map_err(in_words)?;
            stream.set_nodelay(true).map_err(in_words)?;
            let Some(tls) = &client.tls else {
                return Ok::<Box<dyn Stream>, String>(Box::new(stream));
            };
            let (config, host) = tls_client(tls, &client.address).map_err(|e| e.to_string())?;
            let stream = TlsConnector::from(config).connect(host, stream).await;
            Ok(Box::new(stream.map_err(in_words)?))
        };
        match timeout(within, stream).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no connection within {} ms", within.as_millis())),
        }
    }

    /// Whether the broker is to forget what it has kept.
    fn is_clean(&self) -> bool {
        let always = self.plan.client.version == MqttVersion::V311 || !self.met;
        self.fresh || (self.plan.client.clean_start && always)
    }

    async fn converse(&mut self, stream: Box<dyn Stream>) -> End {
        self.session.begin(self.is_clean());
        let mut talk = Talk::new(stream, &self.plan);
        loop {
            if let Err(end) = self.turn(&mut talk).await {
                return end;
            }
        }
    }

    async fn turn(&mut self, talk: &mut Talk) -> Result<(), End> {
        for receipt in self.listener.receipts() {
            self.session.acknowledge(receipt);
        }
        if let Some(how) = self.listener.leaves() {
            if talk.is_answered {
                self.session.leave(how == Leave::ForGood);
                self.send(talk).await?;
            }
            talk.close().await;
            return Err(End::Left);
        }
        self.send(talk).await?;
        while let Some(event) = self.events.pop_front() {
            match event {
                Event::Up { keep_alive_us } => {
                    talk.keep_alive = Duration::from_micros(keep_alive_us);
                    self.welcomed(talk).await?;
                }
                Event::Subscribed => {
                    talk.greeting = None;
                    self.up();
                }
                Event::PassedOver => self.listener.change(|report| {
                    report.messages += 1;
                    report.passed_over += 1;
                }),
                Event::Message { serial, topic } if self.listener.has_room() => {
                    self.listener.tell(Heard { topic, receipt: serial });
                }
                message => {
                    self.events.push_front(message);
                    break;
                }
            }
        }
        self.wait(talk).await
    }

    async fn send(&mut self, talk: &mut Talk) -> Result<(), End> {
        if self.session.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.session.out);
        match timeout(talk.within, talk.stream.write_all(&out)).await {
            Ok(Ok(())) => {
                talk.sent_at = Instant::now();
                Ok(())
            }
            Ok(Err(error)) => Err(End::Lost(in_words(error))),
            Err(_) => Err(End::Lost("the broker takes nothing".to_owned())),
        }
    }

    /// The broker has let us in.
    async fn welcomed(&mut self, talk: &mut Talk) -> Result<(), End> {
        self.met = true;
        let client = &self.plan.client;
        let stays = client.clean_start || client.version == MqttVersion::V5;
        if !std::mem::take(&mut self.fresh) || stays {
            return Ok(());
        }
        // What was kept is gone now; a clean session of 3.1.1 is none to stay in.
        self.session.out.clear();
        self.session.leave(false);
        self.send(talk).await?;
        talk.close().await;
        Err(End::Again)
    }

    /// Until something has come, is to be sent, or is late.
    async fn wait(&mut self, talk: &mut Talk) -> Result<(), End> {
        if !self.session.out.is_empty() {
            return Ok(());
        }
        let (reads, waits) = (self.events.is_empty(), self.session.is_waiting());
        let deadline = talk.deadline(reads, waits);
        tokio::select! {
            read = talk.stream.read(&mut talk.buffer), if reads => {
                let bytes = match read {
                    Ok(0) => Err("the broker closed the connection".to_owned()),
                    read => read.map_err(in_words),
                };
                let bytes = bytes.map_err(|why| talk.unanswered(why, &self.plan))?;
                (talk.heard_at, talk.is_answered) = (Instant::now(), true);
                let mut events = Vec::new();
                let received = self.session.receive(&talk.buffer[..bytes], &mut events);
                self.events.extend(events);
                received.map_err(End::Lost)
            }
            () = self.listener.0.notify.notified() => Ok(()),
            () = at(deadline) => {
                if talk.greeting.is_some() {
                    let why = format!("no answer within {} ms", talk.within.as_millis());
                    return Err(talk.unanswered(why, &self.plan));
                }
                if waits {
                    let seconds = talk.keep_alive.as_secs();
                    let why = "the broker did not answer a ping within";
                    return Err(End::Lost(format!("{why} {seconds} s (keep_alive)")));
                }
                self.session.ping();
                Ok(())
            }
        }
    }

    fn up(&mut self) {
        let url = &self.plan.client.url;
        tracing::info!("{}: [schedule] mqtt: listening at {url}", self.name);
        self.told = None;
        self.listener.change(|report| (report.connected, report.trouble) = (true, None));
    }
}

/// One connection.
struct Talk {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// For each thing that the broker has to do at once.
    within: Duration,
    /// Until then it must have let us in and listen for us.
    greeting: Option<Instant>,
    keep_alive: Duration,
    heard_at: Instant,
    sent_at: Instant,
    /// The broker has said something.
    is_answered: bool,
}

impl Talk {
    fn new(stream: Box<dyn Stream>, plan: &MqttTrigger) -> Self {
        let (now, within) = (Instant::now(), Duration::from_micros(plan.client.connect_timeout_us));
        Self {
            stream,
            buffer: vec![0; READ_BYTES],
            within,
            greeting: Some(now + within),
            keep_alive: Duration::from_micros(plan.client.keep_alive_us),
            heard_at: now,
            sent_at: now,
            is_answered: false,
        }
    }

    /// When something is late, or a ping due. What is not read cannot be late.
    fn deadline(&self, reads: bool, waits: bool) -> Option<Instant> {
        if self.greeting.is_some() {
            return self.greeting;
        }
        let silence = (!self.keep_alive.is_zero()).then_some(self.keep_alive)?;
        match (reads, waits) {
            (true, true) => Some(self.sent_at + silence),
            (false, true) => None,
            (_, false) => Some(self.heard_at.min(self.sent_at) + silence / 2),
        }
    }

    async fn close(&mut self) {
        // Whether the broker hears it, it is over.
        let _ = timeout(self.within, self.stream.shutdown()).await;
    }

    /// A broker that goes without a word most likely expected another protocol.
    fn unanswered(&self, why: String, plan: &MqttTrigger) -> End {
        if self.is_answered {
            return End::Lost(why);
        }
        let other = if plan.client.tls.is_some() { "no TLS (mqtt://)" } else { "TLS (mqtts://)" };
        End::Lost(format!("{why} and said nothing; perhaps it speaks {other}"))
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn in_words(error: io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.map_or_else(|| error.to_string(), tls_words)
}
