package pull

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// Node is a directory of tables, shared with other nodes. It is safe for concurrent use.
type Node struct {
	env
	reg *registry
	*client
	versionReader
	server      *http.Server
	verifyMu    sync.Mutex // one Verify at a time
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

// Stats counts a node's requests to others since it was opened.
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

// Close stops serving and ends all running operations.
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
