package servercli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/command/namespaces"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/internal/server/adminhttp"
	"github.com/go-partd/partd/internal/server/metrics"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// admin answers HTTP requests about the server's health and metrics. It also runs while the store is
// being opened.
type admin struct {
	started time.Time
	serving atomic.Pointer[serving]
}

// serving holds the server and the stores that admin reports on.
type serving struct {
	server     *remote.Server
	log        *logstore.Store // the innermost store; nil unless it is a log store
	guard      *space.Guard
	namespaces *namespaces.Set // nil without namespaces
	limits     *spaceFlags
	dir        string // where the store creates files; "" if it creates none
}

func listenAdmin(c *config) (net.Listener, error) {
	exposedErr := func() error {
		return cliutil.Usagef("--http %s can be reached from other machines, and there is no authentication: anyone who connects could see what the server does. "+
			"Listen on 127.0.0.1:PORT, or give --http-exposed if only authorized people can reach the network", c.http)
	}
	host, port, err := net.SplitHostPort(c.http)
	if err != nil || port == "" {
		return nil, cliutil.Usagef("--http %q: write HOST:PORT, such as 127.0.0.1:7078", c.http)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return nil, cliutil.Usagef("--http %q: %q is not a port", c.http, port)
	}
	if ip := net.ParseIP(host); !c.insecure && !c.exposeHTTP && (host == "" || ip != nil && !ip.IsLoopback()) {
		return nil, exposedErr()
	}
	l, err := net.Listen("tcp", c.http)
	// A host name can stand for an address that other machines can reach.
	if err == nil && remote.IsExposed(l.Addr()) && !c.insecure && !c.exposeHTTP {
		return nil, errors.Join(exposedErr(), l.Close())
	}
	return l, err
}

func (a *admin) serve(l net.Listener, c *config, log *slog.Logger) (stop func()) {
	version, commit := cliutil.Build()
	h := adminhttp.WithStatus(adminhttp.Handler(a.ready, http.HandlerFunc(a.metrics)),
		"store "+textfmt.RedactURL(c.store), "listening on "+strings.Join(c.listen, ", "), "version "+version+" ("+commit+")")
	if c.pprof {
		h = adminhttp.WithProfiles(h)
	}
	log.Info("serving health and metrics", "address", "http://"+l.Addr().String())
	if remote.IsExposed(l.Addr()) {
		log.Warn("anyone who can reach this address can see what the server does", "address", "http://"+l.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := adminhttp.Serve(ctx, l, h); err != nil {
			log.Error("no longer serving health and metrics", "error", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (a *admin) ready() error {
	s := a.serving.Load()
	if s == nil {
		return errors.New("the store is being opened")
	}
	if err := s.server.Ready(); err != nil {
		return err
	}
	if s.log != nil {
		if f, err := s.log.Metrics(); err != nil || f.Refusal != nil {
			return errors.Join(err, f.Refusal)
		}
	}
	if err := s.guard.State().Err; err != nil || s.dir == "" {
		return err
	}
	if _, _, err := space.Disk(s.dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("the disk of the store: %w", err)
	}
	return nil
}

func (a *admin) metrics(out http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := a.write(&b); err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", metrics.ContentType)
	_, _ = b.WriteTo(out) // the client may have disconnected
}

func (a *admin) write(to io.Writer) error {
	w := metrics.NewWriter(to)
	ready := 0.0
	if a.ready() == nil {
		ready = 1
	}
	w.Single("partd_ready", metrics.Gauge, "1 if /readyz says ok.", ready)
	w.Single("partd_start_time_seconds", metrics.Gauge, "When the server was started, in seconds since 1970.", float64(a.started.UnixMilli())/1000)
	version, commit := cliutil.Build()
	w.Begin("partd_build_info", metrics.Gauge, "Always 1; the labels say which build of the server runs.")
	w.Sample(1, "version", version, "commit", commit, "goversion", runtime.Version())
	w.Single("partd_goroutines", metrics.Gauge, "Goroutines of the process.", float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	w.Single("partd_heap_bytes", metrics.Gauge, "Bytes of the heap in use; the tables of a log: store are not in the heap.", float64(mem.HeapInuse))
	s := a.serving.Load()
	if s == nil {
		return w.Flush()
	}
	s.writeSpace(w)
	if s.log != nil {
		if err := writeLog(w, s.log); err != nil && !errors.Is(err, partd.ErrClosed) {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return s.server.WriteMetrics(to)
}

func (s *serving) writeSpace(w *metrics.Writer) {
	state := s.guard.State()
	refused := state.Refused
	if s.namespaces != nil {
		f := s.namespaces.Stats()
		refused += f.Refused
		w.Single("partd_namespaces_in_use", metrics.Gauge, "Namespaces that clients are connected to.", float64(f.InUse))
		w.Single("partd_namespace_stores_open", metrics.Gauge, "Namespaces whose stores are open.", float64(f.Open))
		w.Single("partd_namespace_stores_limit", metrics.Gauge, "Maximum number of namespaces whose stores are open.", float64(f.MaxOpen))
	}
	w.Single("partd_room_refused_total", metrics.Counter, "Appends and sets refused because of --min-free, --max-bytes or --namespace-max-bytes.", float64(refused))
	w.Begin("partd_disk_free_bytes", metrics.Gauge, "Bytes free on the store's disk, if --min-free is above 0.")
	if state.Free >= 0 {
		w.Sample(float64(state.Free))
	}
	w.Begin("partd_store_used_bytes", metrics.Gauge, "Bytes that count against --max-bytes.")
	if state.Used >= 0 {
		w.Sample(float64(state.Used))
	}
	w.Begin("partd_store_limit_bytes", metrics.Gauge, "The size given by --max-bytes.")
	if s.limits.maxBytes.Bytes > 0 {
		w.Sample(float64(s.limits.maxBytes.Bytes))
	}
}

// writeLog writes the metrics that only log: stores have.
func writeLog(w *metrics.Writer, s *logstore.Store) error {
	f, err := s.Metrics()
	if err != nil {
		return err
	}
	for _, m := range []struct {
		name  string
		kind  metrics.Kind
		help  string
		value float64
	}{
		{"partd_log_seals_total", metrics.Counter, "Tables written out as segments.", float64(f.Seals)},
		{"partd_log_seal_failures_total", metrics.Counter, "Failed attempts to write a table as a segment; its data is safe in write-ahead files.", float64(f.SealFailures)},
		{"partd_log_stalls_total", metrics.Counter, "Changes that waited for a table to be written out.", float64(f.Stalls)},
		{"partd_log_stall_seconds_total", metrics.Counter, "Time that changes waited for a table to be written out.", f.StallTime.Seconds()},
		{"partd_log_segments", metrics.Gauge, "Number of segments.", float64(f.Segments)},
		{"partd_log_live_bytes", metrics.Gauge, "Bytes of the store's files, except those known to be dead.", float64(f.DiskBytes - f.DeadBytes)},
		{"partd_log_dead_bytes", metrics.Gauge, "Bytes of the store's files that are known to be unused.", float64(f.DeadBytes)},
		{"partd_log_unsealed_bytes", metrics.Gauge, "Bytes in memory and in write-ahead files not yet written as segments.", float64(f.UnsealedBytes)},
		{"partd_log_memory_bytes", metrics.Gauge, "Memory that the store uses.", float64(f.MemoryUsed)},
	} {
		w.Single(m.name, m.kind, m.help, m.value)
	}
	return nil
}
