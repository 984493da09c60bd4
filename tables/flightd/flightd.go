// Package flightd serves a store of tables over Arrow Flight. On one port, it serves Flight SQL clients, any
// Flight client that puts and gets tables by path, and clients of shoots (another table server), which send JSON.
package flightd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// Options configures New. A zero field means its default; a nil *Options means all defaults.
type Options struct {
	// Secret signs the tokens that every call must carry, until Server.SetSecrets replaces it. If it is nil, anyone who
	// can connect may do anything.
	Secret []byte

	TLS *tls.Config // nil means no TLS

	ReadOnly bool // reject all changes, even with an admin token

	Version string // the version that the server reports to its clients

	MaxMessage int // maximum size of a message from a client, in bytes (default 256 MiB)

	// Memory limits the memory for messages, in bytes (default 1 GiB). It must be at least twice MaxMessage.
	// Decompressed rows may use a quarter of it. Above the limit, the server cancels the newest call of the host whose
	// messages use the most memory.
	Memory int64

	// Queries and Puts limit how many queries and puts run concurrently (default 16 each). One connection may use at
	// most a quarter of each limit, and one host three quarters.
	Queries, Puts int

	// Connections limits the number of connections (default 1024). At the limit, the server closes an idle connection
	// of the host with the most connections before it accepts a new one.
	Connections int

	IdleTimeout time.Duration // how long a call may wait for its client to send or receive a message (default 30 s)
	CallTimeout time.Duration // how long a call may take in total (default 1 h)
	Grace       time.Duration // how long running calls may continue after the server starts to shut down (default 10 s)

	// BackupDir is the directory for copies of tables, which clients with an admin token may request. Each copy is in a
	// subdirectory whose name the client chooses. If BackupDir is "", the server makes no copies.
	BackupDir string

	// StoreObserver adds the store's operations to the server's metrics. It must be the store's Observer and come from
	// NewOperations. If it is nil, the metrics omit the store's operations.
	StoreObserver tables.Observer

	// Audit receives a JSON line about each call that has ended: who called what. docs/security.md lists the line's
	// fields. Writing to Audit must not block. Nil means no audit log.
	Audit io.Writer

	Logger *slog.Logger // nil means no logging
}

// NewOperations returns an Observer that counts operations on tables, including background work, for a server's
// metrics. Set it in the store's options and as Options.StoreObserver.
func NewOperations() tables.Observer { return serving.NewOperations() }

// Rights are the permissions that a token grants.
type Rights uint8

// The rights of tokens. Each right includes the rights listed before it.
const (
	Read  = Rights(serving.Read)  // read rows, and list buckets and tables
	Admin = Rights(serving.Admin) // do everything, including shutting down the server
)

// NewToken returns a token for servers with the given secret. It expires after ttl. server is recorded in the token,
// but servers do not check it. If buckets are given, the token covers only these buckets and is valid only over HTTP,
// not over Flight.
func NewToken(secret []byte, r Rights, server string, ttl time.Duration, buckets ...string) (string, error) {
	return serving.NewToken(secret, serving.Rights(r), server, ttl, buckets...)
}

// NewNamedToken is like NewToken, but the token has a name. Logs show the name, limits count by it, and
// [Server.SetSecrets] can revoke the token by it.
func NewNamedToken(secret []byte, name string, r Rights, ttl time.Duration, buckets ...string) (string, error) {
	return serving.NewNamedToken(secret, name, serving.Rights(r), ttl, buckets...)
}

// Server serves a store of tables over Flight. To serve the store over HTTP too, pass Core to packages page and rest:
// their handlers share the server's tokens, limits and metrics. The method Metrics returns an http.Handler that serves
// the metrics in the Prometheus format.
type Server struct {
	flight.FlightServer // for Flight SQL
	*serving.Core

	sql   *sqlServer
	store *tables.Store
	opts  serving.Options
	grpc  *grpc.Server

	access      access
	memory      *budget
	unsentLimit unsentLimit
	leases      leases
	copies      copier
	calls       interceptor

	lifetime context.Context // done once the server begins to shut down
	stop     context.CancelFunc
}

// New returns a server for a store. The server does not close the store.
func New(store *tables.Store, o *Options) (*Server, error) {
	core, err := serving.New(store, (*serving.Options)(o))
	if err != nil {
		return nil, err
	}
	if o := core.Options(); o.BackupDir != "" {
		if err := checkBackupDir(o.BackupDir, store.Dir()); err != nil {
			return nil, err
		}
	}
	s := &Server{Core: core, store: store, opts: core.Options()}
	s.sql = newSQLServer(core, store, &s.unsentLimit, sqlInfos(s.opts.ReadOnly, s.opts.Version))
	s.FlightServer = flightsql.NewFlightServer(s.sql)
	s.memory = &budget{BufferPool: mem.DefaultBufferPool(), Memory: core.Memory, patience: s.opts.Patience()}
	s.memory.Overflow = s.memory.cancelHeaviest
	s.unsentLimit.maxBytes = s.opts.Memory / 4
	s.leases.byID = map[string]*lease{}
	s.access = access{core, &s.opts, serving.NewCallLimit(maxHandshakes, maxHandshakes/8)}
	s.lifetime, s.stop = context.WithCancel(context.Background())
	s.copies = copier{store: store, opts: &s.opts, lifetime: s.lifetime}
	s.calls = interceptor{core: core, opts: &s.opts, access: &s.access, memory: s.memory}
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
		grpc.StreamInterceptor(s.calls.interceptStream), grpc.ForceServerCodecV2(answerCodec{encoding.GetCodecV2(proto.Name), &s.unsentLimit}),
		grpc.StatsHandler(s.Conns), experimental.BufferPool(s.memory),
	}
	if s.opts.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.opts.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	s.grpc.RegisterService(serviceDesc(), s)
	return s, nil
}

// Handshake checks the client's token and returns it as a bearer token. Both the header and the payload of the reply
// contain the token, because some clients read only one of them.
func (s *Server) Handshake(st flight.FlightService_HandshakeServer) error {
	return s.access.handshake(st)
}

// Serve serves connections from l until ctx is done or an authorized client shuts down the server. It then closes l
// and gives running calls the time Options.Grace to finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer s.leases.endAll()
	context.AfterFunc(s.lifetime, stop)
	go s.memory.tidy(ctx, s.Core)
	serveErr := make(chan error, 1)
	go func() { serveErr <- s.grpc.Serve(s.Conns.Listener(l)) }()
	select {
	case err := <-serveErr:
		return fmt.Errorf("flightd: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
		s.stop()
	}
	s.Deadline.Store(time.Now().Add(s.opts.Grace).UnixNano())
	s.opts.Logger.Info("shutting down: finishing the running calls", "grace", s.opts.Grace)
	defer s.Conns.Drain()() // drains from now until this function returns
	forceStop := time.AfterFunc(s.opts.Grace, s.grpc.Stop)
	defer forceStop.Stop()
	s.grpc.GracefulStop()
	s.calls.running.Wait()
	// ErrServerStopped means that the shutdown began before s.grpc.Serve was called
	if err := <-serveErr; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}
