// Package pull replicates named tables between nodes on demand: a node saves a table under
// a name, and any other node can load all of it or a range of time, fetching only the files
// that it lacks. Two nodes need to agree only on the name.
//
// A version of a table is a manifest, a list of Parquet files that never change. Manifests
// and files are named by their SHA-256, so a node can accept them from any sender. Save
// rewrites only the files that cover times of the new rows. The registry is a key-value
// bucket of NATS. For each table, it records the nodes that hold the table, and the newest
// manifest, which Save sets by compare-and-swap. Every node watches the registry and keeps
// a copy of it, so loading a table that has not changed takes no request.
//
// # Promises
//
//   - Load returns a complete version that was saved.
//   - That version is the newest, or was the newest at most [Options.Lease] ago; if the registry
//     or the holders do not respond, it was the newest at most [Options.MaxStaleness] ago.
//   - If the registry loses a node's records, the node restores them within a lease. Until
//     then, a Load that asks the registry also asks the nodes. If all holders of a record
//     are gone, Load and Save return an error, and Save starts no new table, until
//     [Node.Forget] gives up the record or [Node.Restore] restores another version.
//   - If the registry loses all records while some holders of a table are away, the other
//     nodes may start a second history. The history with more versions then keeps the name.
//     Nodes keep their versions of the other one as "NAME (version N of HASH)", and log that.
//     They tell histories apart by the 256 previous versions that each manifest lists.
//   - A node uses a fetched file only if its hash is correct. Load checks every file that it
//     reads in the same way, and fetches damaged files again.
//   - Any number of processes may share a directory. Nodes may come, die and return with
//     their directories at any time.
//
// A version survives the loss of a node's disk only if another node has loaded it. Nodes
// trust everyone who can write to the registry: they send their token to the addresses in the
// registry.
//
// # Why no Iceberg catalog
//
// A [tables.Store] has its own catalog, whose paths and IDs are meaningless to other nodes,
// and its upsert replaces whole rows, not single columns. Package pull replicates only
// manifests and their files. To query a table with SQL, put the rows of Load into a Store.
package pull

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables"
)

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
	// ErrSyncFailed means that no node could supply the missing data. Every [SyncError]
	// wraps it.
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

	// Listen is the host and port at which this node serves files to others. "" means
	// that this process serves none; another process with the same directory may
	// serve them.
	Listen string
	// Advertise is the host and port at which other nodes reach Listen. "" means the
	// address of Listen.
	Advertise string

	// SyncTimeout limits how long a Load waits for the registry's response. 0 means
	// [DefaultSyncTimeout].
	SyncTimeout time.Duration

	// Lease is how long this node considers another node alive after its last heartbeat. It
	// is also how long this node trusts its copy of the registry when the registry does not
	// respond. 0 means [DefaultLease].
	Lease time.Duration

	// MaxStaleness is the largest age of a version that Load may return if the registry,
	// or every holder of a newer version, does not respond. If MaxStaleness is 0, Load
	// returns an error in these cases.
	MaxStaleness time.Duration

	// Newest makes every Load ask the registry for the newest version, so that Load never
	// misses a Save that returned before it. Without Newest, the loaded version may be
	// outdated by up to a Lease.
	Newest bool

	Token string // shared secret of the nodes; "" means none
	// TLS is the configuration for both serving and fetching files. With ClientAuth, the
	// server requests client certificates. Nil means plain HTTP.
	TLS *tls.Config

	Logger *slog.Logger // for failures in the background; nil means no logging
}

// Node is a directory of tables, shared with other nodes. It is safe for concurrent use.
type Node struct {
	opts        Options
	disk        *disk
	reg         *registry
	client      *http.Client
	server      *http.Server
	address     string // "" if this node serves nothing
	log         *slog.Logger
	requests    atomic.Int64
	fetched     atomic.Int64 // bytes received from other nodes
	verifyMu    sync.Mutex   // one Verify at a time
	extendBelow int64        // Save may add rows to a file that has fewer rows than this; smallRows, except in tests
	stop        context.CancelFunc
	background  sync.WaitGroup
}

// Open opens the directory of a node, and creates it if it does not exist. Open does not wait
// for the registry. If ctx ends after Open, the node stays open. The caller must close the node.
func Open(ctx context.Context, dir string, o *Options) (_ *Node, err error) {
	defer wrapError("open", dir, &err)
	n := &Node{extendBelow: smallRows, opts: *cmp.Or(o, new(Options))}
	n.opts.SyncTimeout = cmp.Or(n.opts.SyncTimeout, DefaultSyncTimeout)
	n.opts.Lease = cmp.Or(n.opts.Lease, DefaultLease)
	n.log = cmp.Or(n.opts.Logger, slog.New(slog.DiscardHandler))
	if n.opts.SyncTimeout < 0 || n.opts.Lease < 0 || n.opts.MaxStaleness < 0 {
		return nil, errors.New("SyncTimeout, Lease and MaxStaleness cannot be negative")
	}
	if n.disk, err = openDisk(dir); err != nil {
		return nil, err
	}
	n.client = newClient(n.opts.TLS, n.opts.Lease)
	if n.opts.Listen != "" {
		l, err := n.listen(ctx)
		if err != nil {
			return nil, err
		}
		n.server = n.newServer()
		n.background.Go(func() { _ = n.server.Serve(l) }) // Close stops the server, and Serve closes l
	}
	if n.reg, err = openRegistry(n); err != nil {
		_ = n.Close()
		return nil, err
	}
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.background.Go(func() { n.reg.run(ctx) })
	return n, nil
}

// listen opens the port and sets the address to advertise.
func (n *Node) listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.opts.Listen)
	if err != nil {
		return nil, err
	}
	tcp := l.Addr().(*net.TCPAddr)
	requiresCert := n.opts.TLS != nil && n.opts.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	if !tcp.IP.IsLoopback() && n.opts.Token == "" && !requiresCert {
		_ = l.Close()
		return nil, fmt.Errorf("other machines can reach %s without a token or a certificate: set Token, or TLS with RequireAndVerifyClientCert", l.Addr())
	}
	if tcp.IP.IsUnspecified() && n.opts.Advertise == "" {
		_ = l.Close()
		return nil, fmt.Errorf("other nodes cannot reach the address %s: set Advertise", l.Addr())
	}
	scheme := "http://"
	if n.opts.TLS != nil {
		scheme = "https://"
		l = tls.NewListener(l, n.opts.TLS)
	}
	n.address = scheme + cmp.Or(n.opts.Advertise, tcp.String())
	return l, nil
}

// Address returns the URL at which other nodes fetch files, or "" if this node serves none.
func (n *Node) Address() string { return n.address }

// Stats counts a node's requests to others since it was opened.
type Stats struct {
	Requests int64 // HTTP requests to other nodes
	Bytes    int64 // bytes of files and manifests received
	Messages int64 // messages sent to NATS
}

// Stats returns the node's counts so far.
func (n *Node) Stats() Stats {
	return Stats{Requests: n.requests.Load(), Bytes: n.fetched.Load(), Messages: int64(n.reg.nats.conn.Stats().OutMsgs)}
}

// Close stops serving and ends all running operations.
func (n *Node) Close() (err error) {
	if n == nil {
		return nil
	}
	if n.stop != nil {
		n.stop()
	}
	if n.server != nil {
		err = n.server.Close()
	}
	if n.reg != nil {
		n.reg.nats.close()
	}
	n.client.CloseIdleConnections()
	n.background.Wait()
	return err
}

func registryError(err error) error { return &SyncError{[]HolderError{{"", err}}} }

// sync waits until this node's copy has everything that the registry had when sync was called.
func (n *Node) sync(ctx context.Context, timeout time.Duration) error {
	if err := n.reg.sync(ctx, timeout); err != nil {
		return registryError(err)
	}
	return nil
}

// Error reports the failed operation and its table.
type Error struct {
	Op, Name string
	Err      error // the cause
}

func (e *Error) Error() string { return fmt.Sprintf("pull: %s %q: %v", e.Op, e.Name, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func wrapError(op, name string, err *error) {
	if *err != nil {
		*err = &Error{Op: op, Name: name, Err: *err}
	}
}

// SyncError lists the nodes that did not supply the missing data, each with its error. It
// wraps [ErrSyncFailed].
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
