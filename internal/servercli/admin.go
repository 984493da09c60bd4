package servercli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/adminhttp"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/metrics"
	"github.com/go-partd/partd/internal/namespaces"
	"github.com/go-partd/partd/internal/space"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// admin answers HTTP requests about the server. Until there is a server it says so.
type admin struct {
	started time.Time
	serving atomic.Pointer[serving]
}

// serving is a server with what it serves.
type serving struct {
	server *remote.Server
	log    *logstore.Store // beneath, nil if it is of another kind
	guard  *space.Guard
	beside *namespaces.Set // nil without any
	limits *roomFlags
}

// listenAdmin opens the address of --http.
func listenAdmin(c *config) (net.Listener, error) {
	refuse := func() error {
		return cliutil.Usagef("--http %s can be reached from other machines, and there is no authentication: anyone who connects could see what the server does. "+
			"Listen on 127.0.0.1:PORT, or give --insecure if the network admits only those who may", c.http)
	}
	host, port, err := net.SplitHostPort(c.http)
	if err != nil || port == "" {
		return nil, cliutil.Usagef("--http %q: write HOST:PORT, as 127.0.0.1:7078", c.http)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return nil, cliutil.Usagef("--http %q: %q is not a port", c.http, port)
	}
	if ip := net.ParseIP(host); !c.insecure && (host == "" || ip != nil && !ip.IsLoopback()) {
		return nil, refuse()
	}
	l, err := net.Listen("tcp", c.http)
	if err == nil && remote.BeyondLoopback(l.Addr()) && !c.insecure { // by a name
		return nil, errors.Join(refuse(), l.Close())
	}
	return l, err
}

// serve answers until the returned function is called.
func (a *admin) serve(l net.Listener, profiles bool, log *slog.Logger) (stop func()) {
	h := adminhttp.WithStatus(adminhttp.Handler(a.ready, http.HandlerFunc(a.metrics)))
	if profiles {
		h = adminhttp.WithProfiles(h)
	}
	log.Info("serving health and metrics", "address", "http://"+l.Addr().String())
	if remote.BeyondLoopback(l.Addr()) {
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
		if f, err := s.log.Figures(); err != nil || f.Refusal != nil {
			return errors.Join(err, f.Refusal)
		}
	}
	return s.guard.State().Err
}

func (a *admin) metrics(out http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := a.write(&b); err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", metrics.ContentType)
	_, _ = b.WriteTo(out) // who asked has gone
}

func (a *admin) write(to io.Writer) error {
	w := metrics.NewWriter(to)
	ready := 0.0
	if a.ready() == nil {
		ready = 1
	}
	w.One("partd_ready", metrics.Gauge, "1 if /readyz says ok.", ready)
	w.One("partd_start_time_seconds", metrics.Gauge, "When the server was started, in seconds since 1970.", float64(a.started.UnixMilli())/1000)
	w.One("partd_goroutines", metrics.Gauge, "Goroutines of the process.", float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	w.One("partd_heap_bytes", metrics.Gauge, "Bytes of the heap in use; a log: store has its tables beside it.", float64(mem.HeapInuse))
	s := a.serving.Load()
	if s == nil {
		return w.Flush()
	}
	s.writeRoom(w)
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

func (s *serving) writeRoom(w *metrics.Writer) {
	room := s.guard.State()
	refused := room.Refused
	if s.beside != nil {
		f := s.beside.Figures()
		refused += f.Refused
		w.One("partd_namespaces_in_use", metrics.Gauge, "Namespaces that clients are connected to.", float64(f.InUse))
		w.One("partd_namespace_stores_open", metrics.Gauge, "Namespaces whose stores are open.", float64(f.Open))
		w.One("partd_namespace_stores_limit", metrics.Gauge, "Namespaces whose stores may be open.", float64(f.MaxOpen))
	}
	w.One("partd_room_refused_total", metrics.Counter, "Appends and sets refused because of --min-free, --max-bytes or --namespace-max-bytes.", float64(refused))
	w.Begin("partd_disk_free_bytes", metrics.Gauge, "Free on the store's disk, where --min-free is above 0.")
	if room.Free >= 0 {
		w.Sample(float64(room.Free))
	}
	w.Begin("partd_store_used_bytes", metrics.Gauge, "What counts against --max-bytes.")
	if room.Used >= 0 {
		w.Sample(float64(room.Used))
	}
	w.Begin("partd_store_limit_bytes", metrics.Gauge, "The size given by --max-bytes.")
	if s.limits.maxBytes.Bytes > 0 {
		w.Sample(float64(s.limits.maxBytes.Bytes))
	}
}

// writeLog writes what only a log: store knows of itself.
func writeLog(w *metrics.Writer, s *logstore.Store) error {
	f, err := s.Figures()
	if err != nil {
		return err
	}
	for _, one := range []struct {
		name  string
		kind  metrics.Kind
		help  string
		value float64
	}{
		{"partd_log_seals_total", metrics.Counter, "Tables written out as segments.", float64(f.Seals)},
		{"partd_log_seal_failures_total", metrics.Counter, "Tries of that which failed; what they hold is safe in write-ahead files.", float64(f.SealFails)},
		{"partd_log_stalls_total", metrics.Counter, "Changes that waited for a table to be written out.", float64(f.Stalls)},
		{"partd_log_stall_seconds_total", metrics.Counter, "The sum of these waits.", f.Stalled.Seconds()},
		{"partd_log_segments", metrics.Gauge, "Segments that there are.", float64(f.Segments)},
		{"partd_log_live_bytes", metrics.Gauge, "Bytes of the store's files, but for those known to be dead.", float64(f.Disk - f.Dead)},
		{"partd_log_dead_bytes", metrics.Gauge, "Bytes of the store's files that are known to be of no use any more.", float64(f.Dead)},
		{"partd_log_unsealed_bytes", metrics.Gauge, "Bytes in memory and in write-ahead files that are yet to be written out.", float64(f.Unsealed)},
		{"partd_log_memory_bytes", metrics.Gauge, "Memory that the store has.", float64(f.Memory)},
	} {
		w.One(one.name, one.kind, one.help, one.value)
	}
	return nil
}
