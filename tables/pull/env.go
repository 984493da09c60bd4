package pull

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// env holds the values that all parts of a node share. They do not change after Open.
type env struct {
	opts    Options
	disk    *disk
	log     *slog.Logger
	address string // "" if this node serves nothing
}

// transferTimeout returns how long a node may take to send a file of size bytes.
func (e *env) transferTimeout(size int64) time.Duration {
	return e.opts.SyncTimeout + time.Duration(size>>20)*time.Second
}

// Default values of Options.
const (
	DefaultSyncTimeout = time.Minute
	DefaultLease       = 10 * time.Second
)

var (
	// ErrNotFound means that no node has a table with that name.
	ErrNotFound = tables.ErrNotFound
	// ErrConflict means that another Save came first. The failed Save saved nothing.
	ErrConflict = errors.New("another node saved the table at the same time: save again")
	// ErrSyncFailed means that no node could supply the missing data. Every [SyncError] wraps it.
	ErrSyncFailed = errors.New("no other node could supply the missing data")
	// ErrClosed means that the Node is closed.
	ErrClosed = tables.ErrClosed
)

// Options are the options of Open. The zero value and nil select the defaults.
type Options struct {
	// Registry lists the URLs of NATS servers with JetStream, separated by commas. With
	// three or more servers, each record has three replicas. "" means a server on this
	// machine: the first process that opens a node runs it, and later processes use it.
	Registry string

	// Listen is the host and port at which this node serves files to others. If it is "", this process serves none;
	// another process with the same directory may serve them.
	Listen string
	// Advertise is the host and port at which other nodes reach Listen. "" means the address of Listen.
	Advertise string

	// SyncTimeout limits how long an operation such as Load waits for the registry's response.
	// 0 means [DefaultSyncTimeout].
	SyncTimeout time.Duration

	// Lease is how long this node considers another node alive after its last heartbeat. It is also how long this node
	// trusts its copy of the registry while the registry does not respond. 0 means [DefaultLease].
	Lease time.Duration

	// MaxStaleness applies while the registry, or every holder of a newer version, does not respond. Load then returns
	// a version only if it was confirmed as the newest at most MaxStaleness ago. If MaxStaleness is 0, Load returns an
	// error instead.
	MaxStaleness time.Duration

	// Newest makes every Load ask the registry for the newest version, so that Load never misses a Save that returned
	// before it. Without Newest, the loaded version may be outdated by up to a Lease.
	Newest bool

	Token string // shared secret of the nodes; "" means none
	// TLS is the configuration for serving and fetching files, and for registries with a tls:// URL.
	// With ClientAuth, this node requests client certificates. Nil means plain HTTP.
	TLS *tls.Config

	Logger *slog.Logger // for failures in the background; nil means no logging
}

func registryError(err error) error { return &SyncError{[]HolderError{{"", err}}} }

// Error reports the failed operation and its table.
type Error struct {
	Op, Name string
	Err      error // the cause
}

func (e *Error) Error() string {
	cause := e.Err.Error()
	if e.Err == ErrNotFound {
		cause = "the table " + cause
	}
	return fmt.Sprintf("pull: %s %q: %s", e.Op, e.Name, cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func wrapError(op, name string, err *error) {
	if e, ok := (*err).(*schema.Error); ok {
		*err = (*tables.SchemaError)(e)
	}
	if *err != nil {
		*err = &Error{Op: op, Name: name, Err: *err}
	}
}

// SyncError lists the nodes that did not supply the missing data, each with its error. It wraps [ErrSyncFailed].
type SyncError struct {
	Causes []HolderError // the registry's own error has an empty Address
}

// HolderError is the error of one node that was asked for data, or of the registry.
type HolderError struct {
	Address string
	Err     error
}

func (e *SyncError) Error() string {
	if len(e.Causes) == 0 {
		return ErrSyncFailed.Error() + ": all nodes that have it are offline"
	}
	texts := make([]string, len(e.Causes))
	for i, c := range e.Causes {
		texts[i] = cmp.Or(c.Address, "registry") + ": " + c.Err.Error()
	}
	return ErrSyncFailed.Error() + ": " + strings.Join(texts, "; ")
}

// Unwrap returns ErrSyncFailed and the causes.
func (e *SyncError) Unwrap() []error {
	all := []error{ErrSyncFailed}
	for _, c := range e.Causes {
		all = append(all, c.Err)
	}
	return all
}
