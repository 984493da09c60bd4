// Package pull replicates named tables between nodes on demand: a node saves a table
// under a name, and any other node loads it, whole or a range of time, and fetches only
// the files that it lacks. A name is all that two nodes have to agree on.
//
// A version of a table is a manifest, a list of Parquet files that never change.
// Manifests and files are named by their SHA-256, so that it does not matter who
// sends them, and a Save writes only those anew that hold times of the new rows.
// The registry, a key-value bucket of NATS, has for each name the manifest of the
// newest version, which savers set by compare-and-swap, and who holds it. A watch
// keeps each node's copy of the registry up to date, so that to load a table that
// has not changed asks nobody.
//
// # Promises
//
//   - A Load returns a version that was saved, whole.
//   - It is the newest, or one that was the newest [Options.Lease] ago or less. Only
//     where nobody answers may it be older, by [Options.MaxStaleness].
//   - A registry that loses or forgets what a node told it is told again within a
//     lease; until then a Load that has to ask asks the nodes, too.
//     A record whose holders are all gone is an error, and no new table, until
//     [Node.Forget] gives it up or [Node.Restore] brings another version.
//   - Where the registry lost all, while some holders were away, and others saved before
//     they came back, the history with more versions has the name. Nodes keep what they
//     have of the other as "NAME (version N of HASH)", and say so in their logs. They tell
//     by the 256 versions before each that its manifest names.
//   - What was fetched is used once its hash is right. So is every file that a Load
//     reads; one that is damaged is fetched again.
//   - Any number of processes may share a directory. Nodes come, die and return
//     with their directories at any time.
//
// A version is safe from the loss of a node's disk once another node has loaded it,
// and not before. Whoever can write to the registry is trusted to say where the
// nodes are, and is sent the token by those who ask there.
//
// # Why no Iceberg catalog
//
// A [tables.Store] keeps a catalog of its own, whose paths and ids say nothing to
// another node, and its upsert takes whole rows, not some of their columns. Here
// the manifest is what travels, and it has no other state beside it. For SQL over a
// table, put what Load returns into a Store.
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

// The defaults of Options.
const (
	DefaultSyncTimeout = time.Minute
	DefaultLease       = 10 * time.Second
)

var (
	// ErrNotFound is wrapped by the error for a name that no node has a table of.
	ErrNotFound = tables.ErrNotFound
	// ErrConflict is wrapped by the error of a Save that another Save came before.
	// Nothing of it was saved.
	ErrConflict = errors.New("another node saved the table at the same time; try again")
	// ErrSyncFailed is wrapped by a [SyncError].
	ErrSyncFailed = errors.New("what is missing here could be had from nobody")
	// ErrClosed is wrapped by every operation on a closed Node.
	ErrClosed = tables.ErrClosed
)

// Options of a node. The zero value, and nil, are the defaults.
type Options struct {
	// Registry is the URLs of NATS servers with JetStream, with commas between them;
	// of three or more, three keep each record. "" means a server within this
	// process, or in that process of this machine which was first.
	Registry string

	// Listen is the host and port that other nodes fetch files from. "" means that
	// this process serves none; another that has the directory open may.
	Listen string
	// Advertise is the host and port by which others reach Listen; "" means its own.
	Advertise string

	SyncTimeout time.Duration // in which a Load must learn what is new; 0: [DefaultSyncTimeout]

	// Lease is how long a node counts as alive that is not heard of, and how long the
	// copy of the registry is believed while it is silent. 0: [DefaultLease]
	Lease time.Duration

	// MaxStaleness is how old a table that a Load returns may be where the registry,
	// or all who hold a newer version, do not answer. 0 makes that an error.
	MaxStaleness time.Duration

	Token string // that nodes show each other; "" means none
	// TLS is of the serving and the fetching side; with ClientAuth it asks for
	// certificates. Nil means plain HTTP.
	TLS *tls.Config

	Logger *slog.Logger // of what fails in the background; nil: none
}

// Node is a directory with tables, and its share in those of others. Its methods may
// be called by many goroutines at once.
type Node struct {
	opts     Options
	disk     *disk
	reg      *registry
	client   *http.Client
	server   *http.Server
	address  string // "" where nothing is served
	log      *slog.Logger
	requests atomic.Int64
	fetched  atomic.Int64
	checking sync.Mutex // one Verify at a time
	small    int64      // smallRows, but in tests
	stop     context.CancelFunc
	work     sync.WaitGroup
}

// Open opens the directory of a node, which is made where there is none. It does
// not wait for the registry. The caller closes the node; ctx is for opening alone.
func Open(ctx context.Context, dir string, o *Options) (_ *Node, err error) {
	defer failed("open", dir, &err)
	n := &Node{small: smallRows}
	if o != nil {
		n.opts = *o
	}
	n.opts.SyncTimeout = cmp.Or(n.opts.SyncTimeout, DefaultSyncTimeout)
	n.opts.Lease = cmp.Or(n.opts.Lease, DefaultLease)
	if n.log = n.opts.Logger; n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
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
		defer func() {
			if err != nil {
				_ = l.Close()
			}
		}()
		n.server = n.newServer()
		n.work.Go(func() { _ = n.server.Serve(l) }) // it ends with Close
	}
	if n.reg, err = openRegistry(n); err != nil {
		_ = n.Close()
		return nil, err
	}
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.work.Go(func() { n.reg.run(ctx) })
	return n, nil
}

// listen opens the port and finds out the address to advertise.
func (n *Node) listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.opts.Listen)
	if err != nil {
		return nil, err
	}
	tcp := l.Addr().(*net.TCPAddr)
	certified := n.opts.TLS != nil && n.opts.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	if !tcp.IP.IsLoopback() && n.opts.Token == "" && !certified {
		_ = l.Close()
		return nil, fmt.Errorf("%s can be reached from other machines, and asks for neither a token nor a certificate: set Token, or TLS with RequireAndVerifyClientCert", l.Addr())
	}
	if tcp.IP.IsUnspecified() && n.opts.Advertise == "" {
		_ = l.Close()
		return nil, fmt.Errorf("%s is no address that others can reach: set Advertise", l.Addr())
	}
	scheme := "http://"
	if n.opts.TLS != nil {
		scheme = "https://"
		l = tls.NewListener(l, n.opts.TLS)
	}
	n.address = scheme + cmp.Or(n.opts.Advertise, tcp.String())
	return l, nil
}

// Address returns the URL at which other nodes fetch files, "" where there is none.
func (n *Node) Address() string { return n.address }

// Stats are counts of what a node asked of others since it was opened.
type Stats struct {
	Requests int64 // HTTP, to other nodes
	Bytes    int64 // of files and manifests that came
	Messages int64 // to the registry
}

// Stats returns the counts.
func (n *Node) Stats() Stats {
	return Stats{n.requests.Load(), n.fetched.Load(), int64(n.reg.conn.Stats().OutMsgs)}
}

// Close ends serving, and all that is under way.
func (n *Node) Close() (err error) {
	if n.stop != nil {
		n.stop()
	}
	if n.server != nil {
		err = n.server.Close()
	}
	if n.reg != nil {
		n.reg.close()
	}
	n.client.CloseIdleConnections()
	n.work.Wait()
	return err
}

// registryFailed says that the registry is why something cannot be known.
func registryFailed(err error) error { return &SyncError{[]HolderError{{"", err}}} }

// sync waits until all is known here that the registry has now.
func (n *Node) sync(ctx context.Context, patience time.Duration) error {
	if err := n.reg.sync(ctx, patience); err != nil {
		return registryFailed(err)
	}
	return nil
}

// Error says which operation on which table failed.
type Error struct {
	Op, Name string
	Err      error // the cause
}

func (e *Error) Error() string { return fmt.Sprintf("pull: %s %q: %v", e.Op, e.Name, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// failed makes an Error of the error with which an operation ends, if there is one.
func failed(op, name string, err *error) {
	if *err != nil {
		*err = &Error{Op: op, Name: name, Err: *err}
	}
}

// SyncError says why each holder could not be asked. It wraps [ErrSyncFailed].
type SyncError struct {
	Causes []HolderError // the registry's, if it did not answer, has no address
}

// HolderError is what went wrong with one holder.
type HolderError struct {
	Address string
	Err     error
}

func (e *SyncError) Error() string {
	if len(e.Causes) == 0 {
		return ErrSyncFailed.Error() + ": no node that holds it is alive"
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
