// Package pull replicates named tables between nodes on demand: a node saves a table under
// a name, and any other node can load all of it or a time range, fetching only the files
// that it lacks. Nodes with the same registry need to agree only on the name.
//
// A version of a table is a manifest, a list of Parquet files that never change. Manifests and files are named by their
// SHA-256, so a node can accept them from any sender. Save rewrites only files whose time range contains new rows, and
// small files just before new rows. The registry is a NATS key-value bucket. It records which nodes hold each table and
// which manifest is the newest; Save sets the latter by compare-and-swap. Every node keeps a copy of the registry up to
// date, so loading a table that has not changed sends no requests.
//
// # Promises
//
//   - Load returns a complete version that was saved.
//   - That version is the newest, or was the newest at most [Options.Lease] ago. If the registry
//     or the nodes with the newest version do not respond, it was the newest at most
//     [Options.MaxStaleness] ago.
//   - If the registry loses a node's records, the node restores them within [Options.Lease]. A
//     Load that asks the registry also asks the nodes, so it can find the version before that.
//     If all nodes with a recorded version are gone, Load and Save return an error until
//     [Node.Forget] gives up the version or [Node.Restore] restores another one.
//   - If the registry loses all records while some nodes with a table are away, the other
//     nodes may start a second history of the table. The history with more versions keeps the
//     name. Nodes keep and log their version of the other as "NAME (version N of HASH)". They
//     tell histories apart by the previous versions (up to 256) that each manifest lists.
//   - A node uses a fetched file only if its hash is correct. Load checks every file that it
//     reads in the same way, and fetches damaged files again.
//   - Any number of processes may share a directory. Nodes may come, die and return with
//     their directories at any time.
//
// A version survives the loss of a node's disk only if another node has loaded it. Nodes trust everyone who can write
// to the registry: they send their token to the addresses in the registry.
//
// # Why no Iceberg catalog
//
// A [tables.Store] has its own catalog, whose paths and IDs are meaningless to other nodes,
// and its upsert replaces whole rows, not single columns. Package pull replicates only
// manifests and their files. To query a table with SQL, put the rows that Load returns into a Store.
//
// # Experimental
//
// Everything in this package may change in any minor version; docs/versions.md says how the API is graded.
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
	"sync"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// Open opens the directory of a node and creates it if it does not exist. Open does not wait until
// the registry responds. The node stays open even if ctx ends later. The caller must close the node.
func Open(ctx context.Context, dir string, o *Options) (_ *Node, err error) {
	defer wrapError("open", dir, &err)
	n := &Node{extendBelow: smallRows, env: env{opts: *cmp.Or(o, new(Options))}}
	n.opts.SyncTimeout = cmp.Or(n.opts.SyncTimeout, DefaultSyncTimeout)
	n.opts.Lease = cmp.Or(n.opts.Lease, DefaultLease)
	n.log = cmp.Or(n.opts.Logger, slog.New(slog.DiscardHandler))
	if n.opts.SyncTimeout < 0 || n.opts.Lease < 0 || n.opts.MaxStaleness < 0 {
		return nil, errors.New("SyncTimeout, Lease and MaxStaleness cannot be negative")
	}
	n.disk, err = openDisk(dir)
	if err != nil {
		return nil, err
	}
	n.client = &client{env: &n.env, http: newHTTPClient(n.opts.TLS, n.opts.Lease)}
	var l net.Listener
	if n.opts.Listen != "" {
		l, err = n.listen(ctx)
		if err != nil {
			return nil, err
		}
	}
	n.reg, err = openRegistry(&n.env, n.audit)
	if err != nil {
		if l != nil {
			_ = l.Close() // nothing has been served
		}
		return nil, err
	}
	n.versionReader = versionReader{env: &n.env, client: n.client, reg: n.reg}
	if l != nil { // serve only now: requests use the registry
		n.server = newServer(&fileServer{env: &n.env, verify: n.verifyOwn})
		n.background.Go(func() { _ = n.server.Serve(l) }) // Close stops the server, and Serve closes l
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
		_ = l.Close() // nobody has connected
		return nil, fmt.Errorf("other machines can reach %s without a token or a certificate: set Token, or TLS with RequireAndVerifyClientCert", l.Addr())
	}
	if tcp.IP.IsUnspecified() && n.opts.Advertise == "" {
		_ = l.Close() // nobody has connected
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

// TableInfo describes a table in a listing.
type TableInfo struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Rows    int64  `json:"rows"`
	Bytes   int64  `json:"bytes"`
	Here    int64  `json:"here"`    // version in this directory, even if some of its files are missing; 0 means none
	Holders int    `json:"holders"` // number of directories with the newest version, even if some of its files are missing
}

// List returns the tables in the registry, sorted by name.
func (n *Node) List(ctx context.Context) (all []TableInfo, err error) {
	if err := n.checkOpened(); err != nil {
		return nil, err
	}
	defer wrapError("list", n.disk.dir, &err)
	if !n.reg.fresh() {
		if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
			return nil, err
		}
	}
	for _, r := range n.reg.records() {
		t := TableInfo{Name: r.Name, Version: r.Version, Rows: r.Rows, Bytes: r.Bytes, Holders: n.reg.countHolders(r)}
		if h, err := n.disk.head(keyOf(r.Name)); err == nil {
			t.Here = h.Version
		}
		all = append(all, t)
	}
	return all, nil
}

// Forget gives up the newest version of a table if no live node has that version. If a live node has it, even with only
// some of its files, Forget returns an error. Nodes with older versions report theirs to the registry within
// [Options.Lease]. If there are none, the name becomes free. If a node returns with the forgotten version, that version
// is the newest again, and data saved in between is kept under another name.
func (n *Node) Forget(ctx context.Context, name string) (err error) {
	defer wrapError("forget", name, &err)
	if err := n.checkOpened(); err != nil {
		return err
	}
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return err
	}
	key := keyOf(name)
	e := n.reg.table(key)
	newest := max(e.Version, n.reg.heldVersion(key), n.reg.newestKnown(key).Version)
	if newest == 0 {
		return ErrNotFound
	}
	heads, causes := n.askHeads(ctx, key, n.reg.peers(e.record))
	if len(causes) > 0 { // these nodes may have the newest version
		return &SyncError{causes}
	}
	h, err := n.disk.head(key)
	if err != nil {
		return err
	}
	heads[peer{address: "this node"}] = h.record
	for p, r := range heads {
		if r.Version >= newest {
			return errors.Join(canceled.Err(ctx), fmt.Errorf("node %q has version %d: load or save the table there, or restore a backup", p.address, r.Version))
		}
	}
	return n.reg.forget(ctx, name, e.revision)
}

// Node is a directory of tables that other nodes can load. It is safe for concurrent use.
type Node struct {
	env
	reg *registry
	*client
	versionReader
	server      *http.Server
	verifyMu    sync.Mutex // held while the directory is verified
	extendBelow int64      // Save may add rows to a file that has fewer rows than this; smallRows, except in tests
	stop        context.CancelFunc
	background  sync.WaitGroup
}

// Address returns the URL at which other nodes fetch files, or "" if this node serves none.
func (n *Node) Address() string {
	if n == nil {
		return ""
	}
	return n.address
}

// Stats counts the requests that a node has sent since it was opened.
type Stats struct {
	Requests int64 // HTTP requests to other nodes
	Bytes    int64 // bytes of files and manifests received
	Messages int64 // messages sent to NATS
}

// Stats returns the node's counts so far.
func (n *Node) Stats() Stats {
	if n.checkOpened() != nil {
		return Stats{}
	}
	return Stats{Requests: n.requests.Load(), Bytes: n.fetched.Load(), Messages: int64(n.reg.nats.conn.Stats().OutMsgs)}
}

// Close stops serving files and disconnects from the registry, so operations in progress may fail.
func (n *Node) Close() (err error) {
	if n == nil || n.client == nil {
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
	n.client.http.CloseIdleConnections()
	n.background.Wait()
	return err
}

// checkOpened returns an error if Open did not create the node.
func (n *Node) checkOpened() error {
	if n == nil || n.reg == nil {
		return storeerror.ErrNotOpened
	}
	return nil
}

// sync waits until this node's copy has everything that the registry had when sync was called.
func (n *Node) sync(ctx context.Context, timeout time.Duration) error {
	if err := n.reg.sync(ctx, timeout); err != nil {
		return registryError(err)
	}
	return nil
}
