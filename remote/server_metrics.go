package remote

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/metrics"
)

// meters count what the server does.
type meters struct {
	golang [lastOperation + 1]meter // by operation, at 0 those that there are not
	python [len(pythonCommands) + 1]meter

	sent         atomic.Int64 // bytes
	accepted     atomic.Int64 // connections
	refused      atomic.Int64 // connections: too many
	evicted      atomic.Int64 // connections that made room
	faulty       atomic.Int64 // connections closed as the peer broke the protocol, or stalled
	withoutTLS   atomic.Int64 // connections that should have had it
	wrong        atomic.Int64 // credentials
	denied       atomic.Int64 // requests, for want of a right
	storeErrors  atomic.Int64
	needsReopen  atomic.Pointer[error] // that a change met
	endedSession atomic.Int64          // to make room
}

// meter counts the requests of one kind.
type meter struct {
	took     metrics.Histogram
	failed   atomic.Int64
	received atomic.Int64 // bytes
}

func (m *meter) done(begun time.Time, failed bool) {
	if failed {
		m.failed.Add(1)
	}
	m.took.Observe(time.Since(begun))
}

// pythonCommands have a meter each, and all others the first one: what peers make up
// is no label.
var pythonCommands = [...]string{"syn", "append", "iset", "get", "delete", "drop", "close"}

func (m *meters) of(op operation) *meter {
	if op > lastOperation {
		op = 0
	}
	return &m.golang[op]
}

// each calls f for each kind of request that there was.
func (m *meters) each(f func(m *meter, labels ...string)) {
	one := func(m *meter, protocol, name string) {
		if m.took.Count() > 0 {
			f(m, "protocol", protocol, "operation", name)
		}
	}
	for op := range m.golang {
		name := "unknown"
		if op > 0 {
			name = operation(op).String()
		}
		one(&m.golang[op], "go", name)
	}
	for i := range m.python {
		name := "unknown"
		if i > 0 {
			name = pythonCommands[i-1]
		}
		one(&m.python[i], "python", name)
	}
}

// WriteMetrics writes metrics about the server's work and resources in the Prometheus
// text format.
func (s *Server) WriteMetrics(to io.Writer) error {
	if s.base == nil || to == nil {
		return errors.New("metrics take a server that NewServer made, and a writer")
	}
	m, w := &s.meters, metrics.NewWriter(to)
	w.Begin("partd_requests_total", metrics.Counter, "Requests answered, by protocol, operation and result.")
	m.each(func(m *meter, labels ...string) {
		failed := m.failed.Load()
		w.Sample(float64(max(m.took.Count()-failed, 0)), append(labels, "result", "ok")...)
		w.Sample(float64(failed), append(labels, "result", "failed")...)
	})
	w.Begin("partd_request_seconds", metrics.Durations, "From the arrival of a whole request to its answer being taken by the system.")
	m.each(func(m *meter, labels ...string) { w.Histogram(&m.took, labels...) })
	w.Begin("partd_received_bytes_total", metrics.Counter, "Bytes of requests.")
	m.each(func(m *meter, labels ...string) { w.Sample(float64(m.received.Load()), labels...) })

	s.mu.Lock()
	conns := len(s.conns)
	s.mu.Unlock()
	l := &s.quotas
	l.mu.Lock()
	used, peers := l.used, len(l.tenants)
	l.mu.Unlock()
	for _, one := range []struct {
		name  string
		kind  metrics.Kind
		help  string
		value int64
	}{
		{"partd_sent_bytes_total", metrics.Counter, "Bytes sent to clients.", m.sent.Load()},
		{"partd_connections", metrics.Gauge, "Open connections.", int64(conns)},
		{"partd_connections_limit", metrics.Gauge, "Connections that there may be.", int64(s.opts.MaxConnections)},
		{"partd_connections_accepted_total", metrics.Counter, "Connections taken.", m.accepted.Load()},
		{"partd_connections_refused_total", metrics.Counter, "Connections closed at once, as there were too many.", m.refused.Load()},
		{"partd_connections_evicted_total", metrics.Counter, "Connections closed as others needed what they held.", m.evicted.Load()},
		{"partd_connections_faulty_total", metrics.Counter, "Connections closed as the peer broke the protocol or stalled, or as they broke.", m.faulty.Load()},
		{"partd_tls_failures_total", metrics.Counter, "Connections to tls:// that never had TLS: no or another version of it, or a certificate that was refused.", m.withoutTLS.Load()},
		{"partd_credentials_refused_total", metrics.Counter, "Credentials that were wrong, without any right where they were shown, or too many to be looked at.", m.wrong.Load()},
		{"partd_requests_denied_total", metrics.Counter, "Requests refused as the user has not the right.", m.denied.Load()},
		{"partd_peers", metrics.Gauge, "Addresses, or users, that hold something.", int64(peers)},
		{"partd_memory_used_bytes", metrics.Gauge, "Memory that messages, answers and open readers have.", used[memory]},
		{"partd_memory_limit_bytes", metrics.Gauge, "Memory that they may have.", l.limit[memory]},
		{"partd_memory_waits_total", metrics.Counter, "Times that a message or answer waited for memory.", l.waits.Load()},
		{"partd_readers", metrics.Gauge, "Readers and listings open.", used[openHandles]},
		{"partd_readers_evicted_total", metrics.Counter, "Readers and listings closed as others needed their place.", s.handles.evicted.Load()},
		{"partd_sessions", metrics.Gauge, "Sessions known to the server.", used[knownSessions]},
		{"partd_sessions_evicted_total", metrics.Counter, "Sessions forgotten as others needed their place.", m.endedSession.Load()},
		{"partd_popped_bytes", metrics.Gauge, "Results of pops kept until they are taken.", used[popBytes]},
		{"partd_store_errors_total", metrics.Counter, "Requests that failed as the store could not do them.", m.storeErrors.Load()},
	} {
		w.One(one.name, one.kind, one.help, float64(one.value))
	}
	w.One("partd_memory_wait_seconds_total", metrics.Counter, "The sum of these waits.", time.Duration(l.waited.Load()).Seconds())
	return w.Flush()
}

// Ready returns an error if the server cannot serve: it does not listen yet or any
// more, or its store must be reopened.
func (s *Server) Ready() error {
	s.mu.Lock()
	listeners, closing := len(s.listeners), s.closing
	s.mu.Unlock()
	switch {
	case closing:
		return errClosing
	case listeners == 0:
		return errors.New("the server does not listen yet")
	}
	if p := s.meters.needsReopen.Load(); p != nil {
		return *p
	}
	return nil
}
