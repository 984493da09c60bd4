package flightd

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what a server counts. No label's value comes from a client.
type metrics struct {
	registry       *prometheus.Registry
	calls          *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
	received, sent prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(m.registry)
	m.calls = f.NewCounterVec(prometheus.CounterOpts{Name: "partd_tables_calls_total", Help: "Calls that ended, by method and gRPC code."}, []string{"method", "code"})
	m.seconds = f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "partd_tables_call_seconds", Help: "How long calls took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
	}, []string{"method"})
	m.received = f.NewCounter(prometheus.CounterOpts{Name: "partd_tables_received_bytes_total", Help: "Bytes of rows received."})
	m.sent = f.NewCounter(prometheus.CounterOpts{Name: "partd_tables_sent_bytes_total", Help: "Bytes of rows sent."})
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "partd_tables_" + name, Help: help}, value)
	}
	gauge("connections", "Connections that are open.", func() float64 { return float64(s.conns.count()) })
	gauge("message_bytes", "Memory that messages take.", func() float64 { return float64(s.memory.used.Load()) })
	for name, l := range map[string]*limiter{"queries": s.queries, "puts": s.puts} {
		gauge(name+"_running", "Of the "+name+", those that run.", func() float64 { running, _ := l.counts(); return running })
		gauge(name+"_waiting", "Of the "+name+", those that wait for others to end.", func() float64 { _, waiting := l.counts(); return waiting })
	}
	return m
}

// Metrics serves the server's figures as Prometheus reads them.
func (s *Server) Metrics() http.Handler {
	return promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
}
