// Package serving contains code shared by the servers for all protocols: tokens and rights, limits, the accounting of
// connections and memory, metrics and the log. Packages flightd, page and rest use one Core, so that a client cannot
// evade a limit by using several protocols.
package serving

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/server/ratelimit"
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

// Options configures a server. A zero field means its default; a nil *Options means all defaults.
type Options struct {
	// Secret signs the tokens that every call must carry, until SetSecrets replaces it. If it is nil, anyone who can
	// connect may do anything.
	Secret []byte

	TLS *tls.Config // nil means no TLS

	ReadOnly bool // reject all changes, even with an admin token

	Version string // version of the server, for its clients

	MaxMessage int // maximum size of a message, in bytes

	// Memory limits the memory for messages, in bytes. Decompressed rows may use a quarter of it. Above the limit, the
	// newest call of the host with the most message bytes fails.
	Memory int64

	// Queries and Puts limit how many queries and puts run concurrently. One connection may use at most a quarter of
	// each limit, and one host three quarters.
	Queries, Puts int
	// Connections limits the number of connections. At the limit, the server closes an idle connection of the host with
	// the most connections before it accepts a new one.
	Connections int

	IdleTimeout time.Duration // how long a call may wait for its client to send or receive a message
	CallTimeout time.Duration // how long a call may take in total
	Grace       time.Duration // how long running calls may continue after the server starts to shut down

	// BackupDir is the directory for copies, which clients with an admin token may request. Each copy is in a
	// subdirectory whose name the client chooses. "" means that the server makes no copies.
	BackupDir string

	// StoreObserver is the store's Observer, which must come from NewOperations. The metrics then include its counts.
	// Nil means no such counts.
	StoreObserver tables.Observer

	// Audit receives a JSON line for each call that has ended, with the caller and the operation. It must not block. Nil
	// means no audit log.
	Audit io.Writer

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
	_, isOperations := o.StoreObserver.(*Operations)
	switch {
	case o.StoreObserver != nil && !isOperations:
		return errors.New("option StoreObserver must come from NewOperations")
	case o.Secret != nil && len(o.Secret) == 0:
		return errors.New("option Secret is empty, so anybody could sign tokens: set a secret, or nil to serve without tokens")
	case int64(o.MaxMessage) > o.Memory/2:
		return fmt.Errorf("option Memory is %d bytes: it must be at least twice MaxMessage, which is %d", o.Memory, o.MaxMessage)
	}
	return nil
}

// Core is the part that all servers of a store share.
type Core struct {
	Conns         *Connections
	Queries, Puts *Limiter
	Memory        *Memory
	Deadline      atomic.Int64 // when a shutdown ends running calls, in Unix nanoseconds; 0 before the shutdown

	Received, Sent prometheus.Counter // bytes of rows received from clients and sent to them

	opts        Options
	store       *tables.Store
	credentials atomic.Pointer[credentials]
	logins      ratelimit.Logins
	recorder    audit.Recorder
	registry    *prometheus.Registry
	calls       *prometheus.CounterVec
	diskFull    prometheus.Counter
	seconds     *prometheus.HistogramVec

	mu      sync.Mutex
	running map[*execution]struct{} // executions that can be canceled by ID
}

// New returns a Core for the servers of a store.
func New(store *tables.Store, o *Options) (*Core, error) {
	s := &Core{opts: o.withDefaults(), store: store, running: map[*execution]struct{}{}}
	s.recorder.Out = s.opts.Audit
	if err := s.opts.check(); err != nil {
		return nil, err
	}
	if s.opts.Secret != nil {
		if err := s.SetSecrets([][]byte{s.opts.Secret}, nil); err != nil {
			return nil, err
		}
	}
	patience := s.opts.Patience()
	s.Queries = newLimiter("queries", s.opts.Queries, patience, queryYieldTime, querySettleTime)
	s.Puts = newLimiter("puts", s.opts.Puts, patience, patience, s.opts.IdleTimeout)
	s.Memory = &Memory{Limit: s.opts.Memory, Overflow: func() {}}
	s.Conns = newConnections(s.opts.Connections)
	s.registerMetrics()
	return s, nil
}

// Patience returns how long a call waits for a slot or for memory before it fails.
func (o *Options) Patience() time.Duration { return o.IdleTimeout / 3 }

// Options returns the options, with defaults filled in.
func (s *Core) Options() Options { return s.opts }

// RemainingGrace returns how much longer running calls may continue. Before a shutdown, it returns Options.Grace.
func (s *Core) RemainingGrace() time.Duration {
	if deadline := s.Deadline.Load(); deadline != 0 {
		return time.Until(time.Unix(0, deadline))
	}
	return s.opts.Grace
}

// Memory counts the bytes of messages and requests.
type Memory struct {
	Limit    int64
	Overflow func() // cancels a call, to free memory

	used atomic.Int64
}

// Add counts n bytes; n may be negative. Add calls Overflow when the total crosses the limit, and again for each
// sixteenth of the limit beyond it.
func (m *Memory) Add(n int64) {
	total, step := m.used.Add(n), m.Limit/16+1
	if n > 0 && total > m.Limit && (total-n <= m.Limit || (total-m.Limit)/step != (total-n-m.Limit)/step) {
		m.Overflow()
	}
}

// TryAdd counts n bytes and returns true, or returns false if fewer are free. Unlike Add, it never calls Overflow.
func (m *Memory) TryAdd(n int64) bool {
	if m.used.Load()+n > m.Limit {
		return false
	}
	m.used.Add(n)
	return true
}

// Used returns the number of bytes in use.
func (m *Memory) Used() int64 { return m.used.Load() }
