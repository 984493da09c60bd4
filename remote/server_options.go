package remote

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ServerOptions configures [NewServer]. Nil and zero values mean the defaults.
type ServerOptions struct {
	// MaxMessage is the maximum length of a message, in bytes. 0 means 256
	// MiB, or half of Memory if that is less. Go clients split longer
	// messages.
	MaxMessage int64
	// MaxConnections is the maximum number of connections. 0 means 1,024. A
	// further connection replaces one of a peer that has more of them, or an idle
	// one of its own peer. If all are in use, the new connection is closed.
	MaxConnections int
	// MaxHandles is the maximum number of readers and listings that are open for
	// all clients together. 0 means 1,024. A further one closes the least
	// recently used of the peer that has most, or waits.
	MaxHandles int
	// Memory limits what all connections together use for messages being
	// received and values being sent, in bytes. 0 means 512 MiB. Idle
	// connections and messages of a few KiB do not count. Popped values that
	// clients have not received yet may use another quarter of it.
	Memory int64

	// Authorizer knows the users. Without one, everybody who can connect may do
	// everything except end the server. With one, Python's clients, which cannot
	// authenticate, can work only on a trusted listener: see [ServeOptions].
	Authorizer Authorizer
	// Namespaces manages the stores other than the default one, if there are any.
	// The server owns them: Shutdown also closes them.
	Namespaces Namespaces
	// AllowClose lets clients ask the server to end (Python's close), which
	// [Server.CloseRequested] reports.
	AllowClose bool

	// HandshakeTimeout limits the time in which a peer must open its
	// connection. 0 means 10 seconds.
	HandshakeTimeout time.Duration
	// IdleTimeout limits how long a connection may go without a message. 0
	// means no limit.
	IdleTimeout time.Duration
	// StallTimeout limits how long each 512 KiB of a message that has begun may
	// take to arrive, or to reach the peer, plus a second for each 16 KiB. It
	// also limits how long a message may wait for memory. 0 means 30 seconds.
	StallTimeout time.Duration
	// DrainTimeout limits how long Shutdown waits, once it has flushed the
	// store, for requests in progress and for peers to receive their answers.
	// 0 means 10 seconds.
	DrainTimeout time.Duration

	// Room, if set, decides whether the default store may grow by an append or a
	// set; see [Room].
	Room Room

	// Logger receives messages about misbehaving peers and about errors of
	// the store. Nil means no logging.
	Logger *slog.Logger
}

const (
	defaultMaxMessage     = 256 << 20
	defaultMemory         = 512 << 20
	minMessage            = 128 << 10 // a key and its value, at least
	defaultMaxConnections = 1024
	defaultMaxHandles     = 1024
	defaultHandshake      = 10 * time.Second
	defaultStall          = 30 * time.Second
	defaultDrain          = 10 * time.Second

	// Of one connection.
	maxReads    = 8  // being answered at a time
	maxHandles  = 64 // open readers and listings
	handleIdle  = 2 * time.Minute
	frameMemory = 256     // that there is for each frame of a message; it takes half of that at the most
	defaultPage = 4 << 20 // bytes of a reply, about
	minPage     = 64 << 10
)

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
