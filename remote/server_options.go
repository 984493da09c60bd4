package remote

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ServerOptions are the options of [NewServer]. Nil, and each zero value, is a
// default.
type ServerOptions struct {
	// MaxMessage is the longest message taken, in bytes; 256 MiB unless given,
	// or half of Memory where that is less. Go clients send what is longer in
	// parts.
	MaxMessage int64
	// MaxConnections is how many connections there may be; 1,024 unless given.
	// One more takes the place of another: of a peer that has more of them than
	// its own; or of one of its own that is idle. If all are in use it is closed.
	MaxConnections int
	// MaxHandles is how many readers and listings clients may have open together;
	// 1,024 unless given. One more closes the one that was not used for longest,
	// of the peer that has most, or waits.
	MaxHandles int
	// Memory is what all connections together may take for messages being
	// received and values being sent, in bytes; 512 MiB unless given. A quiet
	// connection, and a message of a few KiB, take none of it. What was popped
	// and not yet taken may have a quarter of it besides.
	Memory int64

	// Authorizer knows the users. Unless it is given everybody who can connect may
	// do everything but end the server. Where it is, Python's clients, which cannot
	// say who they are, may do nothing but on a trusted listener: see [ServeOptions].
	Authorizer Authorizer
	// Namespaces has the stores beside the default one, if there are any. The server
	// owns them: Shutdown closes them, too.
	Namespaces Namespaces
	// AllowClose lets clients ask for the server's end (Python's close), which
	// [Server.CloseRequested] tells.
	AllowClose bool

	// HandshakeTimeout is how long a peer may take to open its connection; 10
	// seconds unless given.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long a connection may be without a message; for ever
	// unless given.
	IdleTimeout time.Duration
	// StallTimeout is how long each 512 KiB of a message that has begun may take
	// to arrive, or to be taken by the peer, beside a second for each 16 KiB; and
	// how long a message may wait for memory. 30 seconds unless given.
	StallTimeout time.Duration
	// DrainTimeout is how long Shutdown waits for requests under way, and for
	// peers to take their answers, once it has flushed the store; 10 seconds
	// unless given.
	DrainTimeout time.Duration

	// Room, if given, says whether there is room for what is appended to the default
	// store or set in it; see [Room].
	Room Room

	// Logger is told what peers do wrong, and of errors of the store. Nothing
	// is logged unless given.
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
	var c ServerOptions
	if o != nil {
		c = *o
	}
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
			return c, fmt.Errorf("remote: ServerOptions.%s is below 0", v.name)
		}
	}
	c.Memory = cmp.Or(c.Memory, max(defaultMemory, 2*c.MaxMessage))
	c.MaxMessage = cmp.Or(c.MaxMessage, min(defaultMaxMessage, c.Memory/2))
	if c.MaxMessage < minMessage {
		return c, fmt.Errorf("remote: MaxMessage and half of Memory must be %d bytes at least", minMessage)
	}
	if c.Memory/2 < c.MaxMessage {
		return c, errors.New("remote: Memory must be twice MaxMessage at least")
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, defaultMaxConnections)
	c.MaxHandles = cmp.Or(c.MaxHandles, defaultMaxHandles)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, defaultHandshake)
	c.StallTimeout = cmp.Or(c.StallTimeout, defaultStall)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, defaultDrain)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c, nil
}
