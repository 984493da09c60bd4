package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-partd/partd"
)

// ServerOptions configures [NewServer]. Nil and zero values mean the defaults.
type ServerOptions struct {
	// MaxMessage is the maximum length of a message, in bytes. 0 means 256 MiB, or half of Memory
	// if that is less. A message may have 128 KiB more (or a sixteenth of Memory, if that is less), so
	// that a value of MaxMessage bytes fits with its key.
	MaxMessage int64
	// MaxConnections is the maximum number of connections. 0 means 1,024. At the maximum, a new
	// connection replaces one from a peer that has more connections, or an idle one from the same
	// peer. If all of them are in use, the new connection is closed.
	MaxConnections int
	// MaxHandles is the maximum number of open readers and listings, across all clients. 0
	// means 1,024. At the maximum, a request for another one waits, or the server closes the least
	// recently used one of the peer that has the most.
	MaxHandles int
	// Memory limits the memory of all connections for messages being received and values being
	// sent, in bytes. 0 means 512 MiB. Idle connections and messages of a few KiB do not count.
	// Popped values that clients have not yet received may use another quarter of Memory.
	Memory int64

	// Authorizer identifies the users. Without it, anyone who can connect can do everything except
	// stop the server. With it, Python's clients, which cannot authenticate, need a trusted
	// listener: see [ServeOptions].
	Authorizer Authorizer
	// Namespaces manages the stores other than the default one. Nil means that there are no others.
	// Shutdown also closes these stores.
	Namespaces Namespaces
	// AllowClose permits clients to ask the server to stop, with the close command of Python's
	// protocol. [Server.CloseRequested] reports the request.
	AllowClose bool

	// HandshakeTimeout limits how long a handshake may take. 0 means 10 seconds.
	HandshakeTimeout time.Duration
	// IdleTimeout limits how long a connection may go without a message. 0 means no limit.
	IdleTimeout time.Duration
	// StallTimeout, plus a second for each 16 KiB, is the time allowed for receiving or sending
	// each 512 KiB of a message. StallTimeout also limits how long a message may wait for memory; clients
	// on Linux give up a connection that takes no data for 45 seconds. 0 means 30 seconds.
	StallTimeout time.Duration
	// DrainTimeout limits how long Shutdown waits, after flushing the store, for
	// requests in progress and for peers to receive their answers. 0 means 10 seconds.
	DrainTimeout time.Duration

	// SpaceLimit decides whether an append or a set may make the default store grow. Nil means no
	// limit.
	SpaceLimit SpaceLimit

	// Audit receives a line of JSON at the end of each request that reads or changes data or begins
	// a connection. docs/operations.md lists the fields. Audit must not block. Nil means no audit
	// log.
	Audit io.Writer

	// Logger receives messages about misbehaving peers and errors from the store. Nil means no
	// logging.
	Logger *slog.Logger
}

const (
	defaultMaxMessage     = 256 << 20
	defaultMemory         = 512 << 20
	minMessage            = 128 << 10 // enough for a key and its value
	messageOverhead       = 128 << 10 // enough for a key and the headers of a message
	defaultMaxConnections = 1024
	defaultMaxHandles     = 1024
	defaultHandshake      = 10 * time.Second
	defaultStall          = 30 * time.Second
	defaultDrain          = 10 * time.Second

	// Limits for one connection.
	maxReads    = 8  // requests answered concurrently
	maxHandles  = 64 // open readers and listings
	handleIdle  = 2 * time.Minute
	frameMemory = 256     // a message may have Memory/frameMemory frames; each needs at most frameMemory/2 bytes besides its data
	defaultPage = 4 << 20 // approximate maximum size of a reply
	minPage     = 64 << 10
)

// messageLimit returns the maximum length of a message, including its headers. It is at most nine
// sixteenths of Memory, which one growing message can always get (see mayGrow).
func (o *ServerOptions) messageLimit() int64 { return o.MaxMessage + min(messageOverhead, o.Memory/16) }

func (o *ServerOptions) withDefaults() (ServerOptions, error) {
	c := *cmp.Or(o, new(ServerOptions))
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"MaxMessage", c.MaxMessage},
		{"MaxConnections", int64(c.MaxConnections)},
		{"MaxHandles", int64(c.MaxHandles)},
		{"Memory", c.Memory},
		{"HandshakeTimeout", int64(c.HandshakeTimeout)},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"StallTimeout", int64(c.StallTimeout)},
		{"DrainTimeout", int64(c.DrainTimeout)},
	} {
		if v.value < 0 {
			return c, fmt.Errorf("remote: ServerOptions.%s is negative", v.name)
		}
	}
	c.Memory = cmp.Or(c.Memory, max(defaultMemory, 2*c.MaxMessage))
	c.MaxMessage = cmp.Or(c.MaxMessage, min(defaultMaxMessage, c.Memory/2))
	if c.MaxMessage < minMessage {
		return c, fmt.Errorf("remote: MaxMessage and half of Memory must be at least %d bytes", minMessage)
	}
	if c.Memory/2 < c.MaxMessage {
		return c, errors.New("remote: Memory must be at least twice MaxMessage")
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, defaultMaxConnections)
	c.MaxHandles = cmp.Or(c.MaxHandles, defaultMaxHandles)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, defaultHandshake)
	c.StallTimeout = cmp.Or(c.StallTimeout, defaultStall)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, defaultDrain)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c, nil
}

// Namespaces manages a server's stores, except the default one.
type Namespaces interface {
	// Acquire returns the store of a namespace, for use until done is called. If the namespace
	// does not exist, the store is empty, and its first change creates the namespace. Acquire
	// may be called again for a namespace in use.
	Acquire(name string) (store partd.Partd, done func())
	// SpaceLimit returns the limit for a namespace, or nil if it has no limit.
	SpaceLimit(name string) SpaceLimit
	// List returns the first namespaces whose names are greater than after, at most limit.
	List(ctx context.Context, after string, limit int) ([]NamespaceInfo, error)
	// WhenFull registers endIdle, which closes an idle reader, because readers keep stores open. If
	// the maximum number of stores is open, Namespaces calls endIdle before it opens another one.
	WhenFull(endIdle func())
	// Close closes all stores.
	Close(ctx context.Context) error
}

// NamespaceInfo describes a namespace.
type NamespaceInfo struct {
	Name      string
	DiskBytes int64     // size of its files
	LastUsed  time.Time // approximate
}

const (
	maxSessions     = 4096 // maximum number of sessions that the server remembers
	maxConnSessions = 1024 // maximum number of open sessions on one connection
)

// SpaceLimit decides whether a store may grow. It can enforce a quota or a minimum of free disk
// space. The server asks it only about appends and sets.
type SpaceLimit interface {
	// Admit decides whether a change may add the given numbers of entries and bytes. If err is nil,
	// the server later passes admitted to Done. Otherwise the server does not apply the change, and
	// answers with the error. Clients recognize ENOSPC and EDQUOT.
	Admit(entries int, bytes int64) (admitted int64, err error)
	// Done is called with the result of Admit when the change has ended, even if it failed.
	// After a delete or a drop, which may have freed space, Done is called with 0.
	Done(admitted int64)
}

// limitError wraps the error from a SpaceLimit that rejected a change.
type limitError struct{ error }

func (e *limitError) Unwrap() error { return e.error }

// withinLimit applies a change if limit admits it. A nil limit admits every change.
func withinLimit(limit SpaceLimit, op partd.Operation, do func() (bool, error)) (applied bool, err error) {
	if limit == nil {
		return do()
	}
	if op.Change == partd.ChangeDelete || op.Change == partd.ChangeDrop {
		defer limit.Done(0)
		return do()
	}
	bytes := int64(0)
	for i := range op.Entries {
		bytes += int64(len(op.Entries[i].Key) + len(op.Entries[i].Value))
	}
	admitted, err := limit.Admit(len(op.Entries), bytes)
	if err != nil {
		return false, &partd.Error{Op: operationOf(op.Change).String(), Err: &limitError{err}}
	}
	defer limit.Done(admitted)
	return do()
}
