// Package flightd serves a store of tables over Arrow Flight. On one port, it serves Flight SQL clients, clients of
// shoots (another table server), which send JSON commands, and any Flight client that puts and gets tables by path.
package flightd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"

	"github.com/go-partd/partd/internal/ratelimit"
	"github.com/go-partd/partd/tables"
)

// The defaults of Options.
const (
	DefaultMaxMessage  = 256 << 20
	DefaultMemory      = 1 << 30
	DefaultQueries     = 16
	DefaultPuts        = 16
	DefaultConnections = 1024
	DefaultIdleTimeout = 30 * time.Second
	DefaultCallTimeout = time.Hour
	DefaultGrace       = 10 * time.Second
)

// Options configures New. A zero field means its default; a nil *Options means all defaults.
type Options struct {
	// Secret signs the tokens that every call must carry. If it is nil, anyone who can connect may
	// do anything.
	Secret []byte

	TLS *tls.Config // nil means no TLS

	ReadOnly bool // reject all changes, even with an admin token

	MaxMessage int   // the largest message accepted, in bytes
	Memory     int64 // limit on the memory for messages, in bytes; decompressed rows may use a quarter of it; above the limit, the newest puts fail

	// Queries and Puts limit how many queries and puts run at the same time. One connection may use at
	// most a quarter of each limit, and one host three quarters.
	Queries, Puts int
	// Connections limits the number of connections. At the limit, the server closes an idle connection
	// of the host with the most connections before it accepts a new one.
	Connections int

	IdleTimeout time.Duration // how long a call may wait for its client to send or receive a message
	CallTimeout time.Duration // how long a call may take in total
	Grace       time.Duration // how long running calls may continue after the server begins to shut down

	StoreObserver *Operations // the store's Observer, to include its counts in the metrics; nil leaves the counts out

	Logger *slog.Logger // nil means no logging
}

func (o *Options) withDefaults() Options {
	opts := *cmp.Or(o, new(Options))
	opts.MaxMessage = cmp.Or(opts.MaxMessage, DefaultMaxMessage)
	opts.Memory = cmp.Or(opts.Memory, DefaultMemory)
	opts.Queries = cmp.Or(opts.Queries, DefaultQueries)
	opts.Puts = cmp.Or(opts.Puts, DefaultPuts)
	opts.Connections = cmp.Or(opts.Connections, DefaultConnections)
	opts.IdleTimeout = cmp.Or(opts.IdleTimeout, DefaultIdleTimeout)
	opts.CallTimeout = cmp.Or(opts.CallTimeout, DefaultCallTimeout)
	opts.Grace = cmp.Or(opts.Grace, DefaultGrace)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	return opts
}

func (o *Options) check() error {
	for name, n := range map[string]int64{
		"MaxMessage": int64(o.MaxMessage), "Memory": o.Memory, "Queries": int64(o.Queries), "Puts": int64(o.Puts),
		"Connections": int64(o.Connections), "IdleTimeout": int64(o.IdleTimeout), "CallTimeout": int64(o.CallTimeout), "Grace": int64(o.Grace),
	} {
		if n < 1 {
			return fmt.Errorf("option %s is %d: it must be positive", name, n)
		}
	}
	switch {
	case o.Secret != nil && len(o.Secret) == 0:
		return errors.New("option Secret is empty, so anybody could sign tokens: set a secret, or nil to serve without tokens")
	case int64(o.MaxMessage) > o.Memory/2:
		return fmt.Errorf("option Memory is %d bytes: it must be at least twice MaxMessage, which is %d", o.Memory, o.MaxMessage)
	}
	return nil
}

// Server serves a store of tables.
type Server struct {
	flight.FlightServer // for Flight SQL

	sql   *sqlServer
	store *tables.Store
	opts  Options
	grpc  *grpc.Server
	conns *connections

	queries, puts *limiter
	handshakes    *HostLimit
	logins        ratelimit.Logins
	memory        *budget
	answers       answers
	metrics       *metrics
	leases        leases

	running  sync.WaitGroup  // running calls, including canceled ones that have not returned yet
	deadline atomic.Int64    // when running calls are cut off, in Unix nanoseconds; 0 before the shutdown
	lifetime context.Context // done once a client shuts down the server
	stop     context.CancelFunc
}

// New returns a server of a store. The server does not close the store.
func New(store *tables.Store, o *Options) (*Server, error) {
	s := &Server{sql: newSQLServer(store), store: store, opts: o.withDefaults()}
	if err := s.opts.check(); err != nil {
		return nil, err
	}
	s.FlightServer = flightsql.NewFlightServer(s.sql)
	patience := s.opts.IdleTimeout / 3
	s.queries = newLimiter("queries", s.opts.Queries, patience, queryYieldTime, querySettleTime)
	s.puts = newLimiter("puts", s.opts.Puts, patience, patience, s.opts.IdleTimeout)
	s.memory = &budget{BufferPool: mem.DefaultBufferPool(), limit: s.opts.Memory, patience: patience}
	s.answers.limit = s.opts.Memory / 4
	s.leases.byID = map[string]*lease{}
	s.handshakes = NewHostLimit(maxHandshakes, maxHandshakes/8)
	s.conns = newConnections(s.opts.Connections)
	s.metrics = newMetrics(s)
	s.lifetime, s.stop = context.WithCancel(context.Background())
	const (
		maxStreams = 128      // concurrent streams on a connection
		maxHeader  = 16 << 10 // bytes; tokens are far smaller
		window     = 1 << 20  // limit on the bytes in flight, for each stream and for each connection
	)
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.opts.MaxMessage), grpc.MaxSendMsgSize(s.opts.MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeader), grpc.ConnectionTimeout(min(requestTimeout, s.opts.IdleTimeout)),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.StreamInterceptor(s.interceptStream), grpc.ForceServerCodecV2(answerCodec{encoding.GetCodecV2(proto.Name)}),
		grpc.StatsHandler(s.conns), experimental.BufferPool(s.memory),
	}
	if s.opts.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.opts.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	s.grpc.RegisterService(serviceDesc(), s)
	return s, nil
}

// Serve serves connections of l until ctx is done or an authorized client shuts down the server. It then
// closes l, and gives running calls Options.Grace to finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer s.unlockAll()
	context.AfterFunc(s.lifetime, stop)
	go s.tidy(ctx)
	serveErr := make(chan error, 1)
	go func() { serveErr <- s.grpc.Serve(s.conns.listener(l)) }()
	select {
	case err := <-serveErr:
		return fmt.Errorf("flightd: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.deadline.Store(time.Now().Add(s.opts.Grace).UnixNano())
	s.opts.Logger.Info("shutting down: finishing the running calls", "grace", s.opts.Grace)
	forceStop := time.AfterFunc(s.opts.Grace, s.grpc.Stop)
	defer forceStop.Stop()
	s.grpc.GracefulStop()
	s.running.Wait()
	if err := <-serveErr; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // ErrServerStopped means that the shutdown began before s.grpc.Serve was called
		return err
	}
	return nil
}
