package remote

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/server/metrics"
)

// WriteMetrics writes the server's metrics in the Prometheus text format.
func (s *Server) WriteMetrics(to io.Writer) error {
	if s.changeCtx == nil || to == nil {
		return errors.New("WriteMetrics needs a server from NewServer and a writer")
	}
	m, w := &s.meters, metrics.NewWriter(to)
	w.Begin("partd_requests_total", metrics.Counter, "Requests answered, by protocol, operation and result.")
	m.forEach(func(m *meter, labels ...string) {
		failed := m.failed.Load()
		w.Sample(float64(max(m.durations.Count()-failed, 0)), append(labels, "result", "ok")...)
		w.Sample(float64(failed), append(labels, "result", "failed")...)
	})
	w.Begin("partd_request_seconds", metrics.Durations, "Time from the arrival of a whole request until the system has accepted its answer.")
	m.forEach(func(m *meter, labels ...string) { w.Histogram(&m.durations, labels...) })
	w.Begin("partd_received_bytes_total", metrics.Counter, "Bytes of requests.")
	m.forEach(func(m *meter, labels ...string) { w.Sample(float64(m.received.Load()), labels...) })

	s.mu.Lock()
	conns := len(s.conns)
	s.mu.Unlock()
	l := &s.budget
	l.mu.Lock()
	used, peers := l.used, len(l.tenants)
	l.mu.Unlock()
	for _, metric := range []struct {
		name  string
		kind  metrics.Kind
		help  string
		value int64
	}{
		{"partd_sent_bytes_total", metrics.Counter, "Bytes sent to clients.", m.bytesSent.Load()},
		{"partd_connections", metrics.Gauge, "Open connections.", int64(conns)},
		{"partd_connections_limit", metrics.Gauge, "Maximum number of connections.", int64(s.opts.MaxConnections)},
		{"partd_connections_accepted_total", metrics.Counter, "Connections accepted.", m.acceptedConns.Load()},
		{"partd_connections_refused_total", metrics.Counter, "Connections closed at once because there were too many.", m.refusedConns.Load()},
		{"partd_connections_evicted_total", metrics.Counter, "Connections closed because others needed their memory or their slot.", m.evictedConns.Load()},
		{"partd_connections_faulty_total", metrics.Counter, "Connections that broke, or were closed because the peer broke the protocol or stalled.", m.faultyConns.Load()},
		{"partd_tls_failures_total", metrics.Counter, "Connections to tls:// whose TLS handshake failed: no TLS, another version, or a refused certificate.", m.failedTLS.Load()},
		{"partd_credentials_refused_total", metrics.Counter, "Credentials refused: wrong, without any right in the namespace, or too many to check.", m.wrongCredentials.Load()},
		{"partd_requests_denied_total", metrics.Counter, "Requests refused because the user lacks the right.", m.deniedRequests.Load()},
		{"partd_peers", metrics.Gauge, "Peers (users or addresses) that have connections or hold other resources.", int64(peers)},
		{"partd_memory_used_bytes", metrics.Gauge, "Memory that messages, answers and open readers use.", used[memory]},
		{"partd_memory_limit_bytes", metrics.Gauge, "Maximum memory of messages, answers and open readers.", l.limit[memory]},
		{"partd_memory_waits_total", metrics.Counter, "Times that a message or answer waited for memory.", l.waitCount.Load()},
		{"partd_readers", metrics.Gauge, "Readers and listings open.", used[openHandles]},
		{"partd_readers_evicted_total", metrics.Counter, "Readers and listings closed because others needed their slot.", s.handles.evicted.Load()},
		{"partd_sessions", metrics.Gauge, "Sessions known to the server.", used[knownSessions]},
		{"partd_sessions_evicted_total", metrics.Counter, "Sessions forgotten because others needed their slot.", m.evictedSessions.Load()},
		{"partd_popped_bytes", metrics.Gauge, "Results of pops kept until the client confirms them.", used[popBytes]},
		{"partd_store_errors_total", metrics.Counter, "Requests that failed because of the store.", m.storeErrors.Load()},
	} {
		w.Single(metric.name, metric.kind, metric.help, float64(metric.value))
	}
	w.Single("partd_memory_wait_seconds_total", metrics.Counter, "Total time that messages and answers waited for memory.", time.Duration(l.waitNanos.Load()).Seconds())
	return w.Flush()
}

// Ready returns an error if the server cannot serve because it does not listen or because its store
// must be reopened.
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

// meters counts the requests and events of a server.
type meters struct {
	goOperations [lastOperation + 1]meter       // by operation; index 0 is for unknown operations
	python       [len(pythonCommands) + 1]meter // by command; index 0 is for unknown commands

	bytesSent        atomic.Int64
	acceptedConns    atomic.Int64
	refusedConns     atomic.Int64 // connections refused because there were too many
	evictedConns     atomic.Int64 // connections closed because others needed their resources
	faultyConns      atomic.Int64 // connections closed because the peer violated the protocol or stalled
	failedTLS        atomic.Int64 // connections with a failed TLS handshake
	wrongCredentials atomic.Int64
	deniedRequests   atomic.Int64 // requests refused because the user lacked a right
	storeErrors      atomic.Int64
	needsReopen      atomic.Pointer[error] // error of a change that failed because the store must be reopened
	evictedSessions  atomic.Int64          // sessions forgotten to make room for others
}

// meter counts the requests of one kind.
type meter struct {
	durations metrics.Histogram
	failed    atomic.Int64
	received  atomic.Int64 // bytes
}

func (m *meter) observe(start time.Time, failed bool) {
	if failed {
		m.failed.Add(1)
	}
	m.durations.Observe(time.Since(start))
}

// pythonCommands lists the commands of Python's protocol. Each has a meter. Unknown commands share
// the first meter, so that peers cannot create labels.
var pythonCommands = [...]string{"syn", "append", "iset", "get", "delete", "drop", "close"}

func (m *meters) meter(op operation) *meter {
	if op > lastOperation {
		op = 0
	}
	return &m.goOperations[op]
}

// forEach calls f for each kind of request that the server has received.
func (m *meters) forEach(f func(m *meter, labels ...string)) {
	report := func(list []meter, protocol string, name func(i int) string) {
		for i := range list {
			label := "unknown"
			if i > 0 {
				label = name(i)
			}
			if list[i].durations.Count() > 0 {
				f(&list[i], "protocol", protocol, "operation", label)
			}
		}
	}
	report(m.goOperations[:], "go", func(i int) string { return operation(i).String() })
	report(m.python[:], "python", func(i int) string { return pythonCommands[i-1] })
}
