package serving

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/go-partd/partd/tables"
)

// registerMetrics creates the server's metrics. Their number is bounded, because clients cannot choose label values.
func (s *Core) registerMetrics() {
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o, ok := s.opts.StoreObserver.(*Operations); ok {
		s.registry.MustRegister(o.total, o.seconds, o.rows, o.bytes)
	}
	f := promauto.With(s.registry)
	s.calls = f.NewCounterVec(prometheus.CounterOpts{Name: "partd_tables_calls_total", Help: "Calls that ended, by method and gRPC code."}, []string{"method", "code"})
	s.seconds = f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "partd_tables_call_seconds", Help: "How long calls took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
	}, []string{"method"})
	s.diskFull = f.NewCounter(prometheus.CounterOpts{Name: "partd_tables_disk_full_total", Help: "Calls that failed because a disk is full."})
	s.Received = f.NewCounter(prometheus.CounterOpts{Name: "partd_tables_received_bytes_total", Help: "Bytes of rows received."})
	s.Sent = f.NewCounter(prometheus.CounterOpts{Name: "partd_tables_sent_bytes_total", Help: "Bytes of rows sent."})
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "partd_tables_" + name, Help: help}, value)
	}
	gauge("connections", "Open connections.", func() float64 { return float64(s.Conns.Count()) })
	gauge("message_bytes", "Memory used by messages.", func() float64 { return float64(s.Memory.Used()) })
	gauge("ready", "1 if /readyz says ok.", func() float64 { return map[bool]float64{true: 1}[s.Ready() == nil] })
	gauge("disk_free_bytes", "Free bytes on the disk that holds the tables, or NaN if unknown.", func() float64 {
		if free, _, err := s.store.DiskSpace(); err == nil {
			return float64(free)
		}
		return math.NaN()
	})
	gauge("tail_rows", "Rows in the tail, which are not in files yet.", func() float64 { return float64(s.store.Backlog().Rows) })
	gauge("tail_bytes", "Bytes of the rows in the tail.", func() float64 { return float64(s.store.Backlog().Bytes) })
	gauge("tail_oldest_seconds", "Age of the oldest row in the tail, or 0 if the tail is empty.", func() float64 {
		if oldest := s.store.Backlog().Oldest; !oldest.IsZero() {
			return max(0, time.Since(oldest).Seconds())
		}
		return 0
	})
	gauge("maintenance_failing", "Tables whose last maintenance failed.", func() float64 { return float64(s.store.MaintenanceSummary().Failing) })
	gauge("fold_failing", "Tables whose last background fold, which moves rows from the tail into files, failed.", func() float64 { return float64(s.store.MaintenanceSummary().FailedFolds) })
	gauge("maintenance_last_seconds", "Seconds since the last maintenance pass, or NaN if there was none.", func() float64 {
		if last := s.store.MaintenanceSummary().Last; !last.IsZero() {
			return max(0, time.Since(last).Seconds())
		}
		return math.NaN()
	})
	gauge("unused_bytes", "Bytes of unneeded files, which maintenance will remove.", func() float64 { return float64(s.store.MaintenanceSummary().UnusedBytes) })
	for name, l := range map[string]*Limiter{"queries": s.Queries, "puts": s.Puts} {
		gauge(name+"_running", "Running "+name+".", func() float64 { running, _ := l.Counts(); return running })
		gauge(name+"_waiting", "Waiting "+name+".", func() float64 { _, waiting := l.Counts(); return waiting })
	}
}

// ShowBuild adds the metric partd_build_info, whose labels say which build of the server is running. It must be called
// only once.
func (s *Core) ShowBuild(version, commit string) {
	promauto.With(s.registry).NewGaugeVec(prometheus.GaugeOpts{Name: "partd_build_info", Help: "Always 1; the labels say which build of the server runs."},
		[]string{"version", "commit", "goversion"}).WithLabelValues(version, commit, runtime.Version()).Set(1)
}

// Operations counts operations on tables, including background work, for a server's metrics. It is a [tables.Observer]:
// pass the same Operations in the store's and the server's options.
type Operations struct {
	total       *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	rows, bytes *prometheus.CounterVec
}

// NewOperations returns an Observer with all counts at zero.
func NewOperations() *Operations {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "partd_tables_operation" + name, Help: help}, append(labels, "operation"))
	}
	total := counter("s_total", "Operations on tables that ended.", "outcome")
	total.WithLabelValues("error", "fold") // creates the counter, so that an alert sees the first failure as an increase
	return &Operations{
		total: total,
		rows:  counter("_rows_total", "Rows that operations on tables put, read, wrote or folded."),
		bytes: counter("_bytes_total", "Bytes of Arrow data that operations on tables put or read."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "partd_tables_operation_seconds", Help: "How long operations on tables took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"operation"}),
	}
}

type operationKey struct{}

// Begin implements [tables.Observer].
func (o *Operations) Begin(ctx context.Context, op tables.Operation) (context.Context, func(tables.Outcome)) {
	nested := ctx.Value(operationKey{}) != nil
	return context.WithValue(ctx, operationKey{}, true), func(out tables.Outcome) {
		noteOperation(ctx, op, out, nested)
		outcome := "ok"
		if out.Err != nil {
			outcome = "error"
		}
		o.total.WithLabelValues(outcome, op.Name).Inc()
		o.seconds.WithLabelValues(op.Name).Observe(out.Duration.Seconds())
		o.rows.WithLabelValues(op.Name).Add(float64(out.Rows))
		o.bytes.WithLabelValues(op.Name).Add(float64(out.Bytes))
	}
}

// Metrics returns a handler that serves the metrics in Prometheus's format.
func (s *Core) Metrics() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
}
