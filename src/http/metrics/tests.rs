//! Tests of the metrics.

use super::*;

#[test]
fn stream_bytes_are_counted_once() {
    let metrics = Arc::new(Metrics::new());
    let meters = Arc::new(StreamMeters::default());
    let count = metrics.track_stream(Arc::clone(&meters));
    meters.down.store(1000, Ordering::Relaxed);
    let page = || metrics.render(Gauges::default(), &HubStatus::default(), Some(7));
    assert!(
        page().contains("portcullis_stream_bytes_total{direction=\"down\"} 1000"),
        "{}",
        page()
    );
    meters.down.store(1500, Ordering::Relaxed);
    drop(count);
    assert!(
        page().contains("portcullis_stream_bytes_total{direction=\"down\"} 1500"),
        "{}",
        page()
    );
    assert!(page().contains("portcullis_audit_entries 7"));
}

#[test]
fn unknown_paths_share_a_label() {
    let metrics = Metrics::new();
    for _ in 0..3 {
        metrics.record_request("GET", None, 404, Duration::from_millis(1));
    }
    let page = metrics.render(Gauges::default(), &HubStatus::default(), None);
    assert!(
        page.contains(
            "portcullis_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"4xx\"} 3"
        ),
        "{page}"
    );
}

#[test]
fn distributions_are_gauges_with_buckets() {
    let metrics = Metrics::new();
    let mut host = LatencyHistogram::default();
    for millis in [3, 30, 3000] {
        host.observe(Duration::from_millis(millis));
    }
    let paths = PathMetrics { host, tx_bytes: 5, ..PathMetrics::default() };
    let status = HubStatus { stale: 2, paths, ..HubStatus::default() };
    let page = metrics.render(Gauges::default(), &status, None);
    for line in [
        "# TYPE portcullis_session_leg_sessions gauge",
        "portcullis_session_leg_sessions{leg=\"gateway_host\",le=\"0.001\"} 0",
        "portcullis_session_leg_sessions{leg=\"gateway_host\",le=\"0.005\"} 1",
        "portcullis_session_leg_sessions{leg=\"gateway_host\",le=\"0.06\"} 2",
        "portcullis_session_leg_sessions{leg=\"gateway_host\",le=\"+Inf\"} 3",
        "portcullis_session_handshake_age_sessions{le=\"+Inf\"} 0",
        "portcullis_session_tunnel_bytes_total{direction=\"tx\"} 5",
        "portcullis_tunnel_peers{state=\"stale\"} 2",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert!(!page.contains("word="), "{page}");
}
