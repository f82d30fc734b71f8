use std::time::{Duration, Instant};

use kernel::trace::TraceParent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::exporter::Exporter;
use super::*;
use crate::TelemetryError;
use crate::span::{Kind, text};

fn settings(endpoint: &str, headers: &str) -> TraceSettings {
    TraceSettings {
        endpoint: endpoint.to_owned(),
        headers: headers.to_owned(),
        sample_ratio: 1.0,
        service_name: "millpond".to_owned(),
    }
}

/// What a collector does with a connection.
#[derive(Clone, Copy)]
enum Manner {
    Silent,
    Says(&'static [u8]),
    HangsUp,
}

/// A collector with bad manners, on a thread of its own, for as long as the test runs.
fn collector(manner: Manner) -> String {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                match manner {
                    Manner::Silent => kept.push(stream),
                    Manner::HangsUp => drop(stream),
                    Manner::Says(answer) => {
                        tokio::spawn(async move {
                            let _ = stream.read(&mut [0; 64 * 1024]).await;
                            let _ = stream.write_all(answer).await;
                        });
                    }
                }
            }
        });
    });
    told.recv().unwrap()
}

#[test]
fn no_collector_however_bad_its_manners_slows_those_who_end_spans_or_holds_up_the_end() {
    let handle = crate::metrics_handle();
    let manners = [
        Manner::Silent,
        Manner::HangsUp,
        Manner::Says(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        Manner::Says(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"),
        Manner::Says(b"\x00\x01garbage\r\n\r\n"),
        Manner::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n"),
    ];
    for manner in manners {
        let exporter = Exporter::start(&settings(&collector(manner), "")).unwrap();
        let began = Instant::now();
        for _ in 0..20_000 {
            exporter.offer(crate::span::record(Kind::Client, TraceParent::begin(), "a call"));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} for 20,000 spans", began.elapsed());
        let began = Instant::now();
        exporter.finish(Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let metrics = handle.render();
    assert!(metrics.contains("millpond_trace_spans_dropped_total"), "{metrics}");
    assert!(metrics.contains("millpond_trace_spans_exported_total{outcome=\"failed\"}"), "{metrics}");
}

#[test]
fn addresses_and_headers_that_cannot_be_used_are_refused_at_the_start_and_headers_are_not_shown() {
    for endpoint in ["", "collector", "data:text/plain,x"] {
        assert!(
            matches!(Exporter::start(&settings(endpoint, "")), Err(TelemetryError::Traces { .. })),
            "{endpoint}"
        );
    }
    for headers in ["authorization", "a b=c", "x=hunter2\u{7f}"] {
        let settings = settings("http://127.0.0.1:9", headers);
        let error = Exporter::start(&settings).err().expect("refused");
        assert!(matches!(error, TelemetryError::TraceHeaders) && !error.to_string().contains("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

#[test]
fn a_span_of_a_trace_that_is_not_recorded_holds_nothing_and_runs_nothing() {
    let mut span = crate::span::start(Kind::Server, TraceParent::begin(), None, "a request");
    span.note(|_| unreachable!("nobody records it"));
    span.fail("whatever");
}

#[test]
fn what_is_said_of_a_span_is_cleaned_and_cut_before_it_leaves() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;
    let mut span = crate::span::record(Kind::Client, TraceParent::begin(), "a call");
    span.set("url.path", text("/amy@example.com/+12025550123")).set("long", text("x".repeat(10_000)));
    let origin = encoding::Origin::new("millpond");
    let body = origin.encode(std::iter::once(span));
    assert!(body.len() < 2_000);
    let said = format!("{:?}", ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
    assert!(!said.contains("amy") && !said.contains("2025550123"), "{said}");
    assert!(said.contains("broken_off"), "nobody ended it: {said}");
}
