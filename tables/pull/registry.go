package pull

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/go-partd/partd/internal/base/canceled"
)

// registry keeps a copy of the bucket that all nodes share and sends this node's changes to the bucket.
// The keys of the bucket are:
//
//	t.KEY     the record of a table, set by compare-and-swap
//	h.KEY.ID  the version number and manifest of table KEY in directory ID
//	n.ID      the heartbeat of a node, sent three times per Options.Lease
//	b.ID      the heartbeat of a process that serves nothing
//
// KEY is the result of keyOf for a table's name, and ID is the random ID of a node's directory.
//
// Changes arrive in commit order. So a process that sees its own heartbeat has seen all earlier changes.
type registry struct {
	*env
	audit func(ctx context.Context) // called for each new copy, to compare this directory with it
	nats  *natsBucket
	start time.Time // creation time; each heartbeat carries the time elapsed since then

	mu   sync.Mutex
	copy *registryCopy
	// newest known version of each table about which this process has asked all nodes, by table key
	known   map[string]record
	changed chan struct{} // closed and replaced at each change
}

type registryCopy struct {
	tables  map[string]tableEntry
	holders map[string]map[string]string // version and manifest that a directory holds, by table key and directory ID
	nodes   map[string]nodeEntry         // newest heartbeats, by directory ID
	latest  time.Time                    // newest heartbeat, by the registry's clock
	asOf    time.Time                    // time up to which the copy is complete; zero if it is not known yet
}

type tableEntry struct {
	record
	revision uint64
}

type nodeEntry struct {
	Address string `json:"address"`
	Process string `json:"process"`
	At      int64  `json:"at"` // nanoseconds since registry.start of that process

	seenAt time.Time // time of the heartbeat, by the registry's clock
}

func newCopy() *registryCopy {
	return &registryCopy{tables: map[string]tableEntry{}, holders: map[string]map[string]string{}, nodes: map[string]nodeEntry{}}
}

func openRegistry(e *env, audit func(context.Context)) (*registry, error) {
	bucket, err := openNATS(e)
	if err != nil {
		return nil, err
	}
	return &registry{
		env: e, audit: audit, nats: bucket, start: time.Now(),
		copy: newCopy(), known: map[string]record{}, changed: make(chan struct{}),
	}, nil
}

// run keeps the copy up to date until ctx ends. Once per lease, it reads the whole registry
// again, to restore records that the registry lost.
func (r *registry) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.session(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("pull: the registry does not respond; the node keeps trying", "error", err)
			_ = canceled.Wait(ctx, time.After(min(r.opts.Lease/4, time.Second))) // the loop checks ctx
		}
	}
}

// session reads the whole registry into a new copy. Then, for the duration of Options.Lease, it applies
// changes to the copy and sends heartbeats. It returns an error if the registry does not respond.
func (r *registry) session(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease := r.opts.Lease
	next := newCopy()
	loaded, watchErr := make(chan struct{}, 1), make(chan error, 1)
	work.Go(func() {
		err := r.nats.watch(ctx, func(e jetstream.KeyValueEntry) {
			if e != nil {
				r.apply(next, e)
				return
			}
			select {
			case loaded <- struct{}{}:
			default: // one signal is enough
			}
		})
		watchErr <- cmp.Or(err, errors.New("the registry watch ended"))
	})
	select {
	case <-ctx.Done():
		return canceled.Err(ctx)
	case err := <-watchErr:
		return err
	case <-time.After(2 * lease):
		return errors.New("the registry did not send all its records in time")
	case <-loaded:
	}
	r.mu.Lock()
	r.copy = next
	r.announce()
	r.mu.Unlock()
	if err := r.heartbeat(ctx); err != nil {
		return err
	}
	work.Go(func() { r.audit(ctx) })
	ticker, end := time.NewTicker(lease/3), time.After(lease)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return canceled.Err(ctx)
		case err := <-watchErr:
			return err
		case <-end:
			return nil
		case <-ticker.C:
			if err := r.heartbeat(ctx); err != nil {
				return err
			}
		}
	}
}

// apply applies a change to a copy. It treats an invalid value like a deleted key.
func (r *registry) apply(c *registryCopy, e jetstream.KeyValueEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	parts := strings.Split(e.Key(), ".")
	deleted := e.Operation() != jetstream.KeyValuePut || len(e.Value()) == 0 || len(e.Value()) > maxRecord
	switch {
	case parts[0] == "t" && len(parts) == 2:
		t := tableEntry{revision: e.Revision()}
		if deleted || json.Unmarshal(e.Value(), &t.record) != nil || t.check(parts[1]) != nil {
			if t.Name != "" && keyOf(t.Name) == parts[1] && t.Version == 0 {
				delete(r.known, parts[1]) // Forget removed the table
			}
			// The record is lost, but keep its revision: a node that has the table needs it to restore the record.
			t.record = record{}
		}
		c.tables[parts[1]] = t
		if _, asked := r.known[parts[1]]; asked {
			r.raiseKnown(parts[1], t.record)
		}
	case parts[0] == "h" && len(parts) == 3 && deleted:
		delete(c.holders[parts[1]], parts[2])
	case parts[0] == "h" && len(parts) == 3:
		if c.holders[parts[1]] == nil {
			c.holders[parts[1]] = map[string]string{}
		}
		c.holders[parts[1]][parts[2]] = string(e.Value())
	case (parts[0] == "n" || parts[0] == "b") && len(parts) == 2:
		n := nodeEntry{seenAt: e.Created()}
		if deleted || json.Unmarshal(e.Value(), &n) != nil {
			return
		}
		if !validAddress(n.Address, r.opts.TLS != nil) {
			n.Address = ""
		}
		if n.seenAt.After(c.latest) {
			c.latest = n.seenAt
		}
		if parts[0] == "n" {
			c.nodes[parts[1]] = n
		}
		if sentAt := r.start.Add(time.Duration(n.At)); n.Process == r.processID() && sentAt.After(c.asOf) {
			c.asOf = sentAt
		}
	}
	if r.copy == c {
		r.announce()
	}
}

// raiseKnown remembers rec unless a newer version is known. mu must be held.
func (r *registry) raiseKnown(key string, rec record) {
	if rec.Version >= r.known[key].Version {
		r.known[key] = rec
	}
}

// validAddress reports whether a node may fetch from an address that it read in the registry.
// The address must have only a scheme, a host and a port. If secured is true, the scheme must
// be https, because the node sends its token there.
func validAddress(address string, secured bool) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && address == u.Scheme+"://"+u.Host && (u.Scheme == "https" || u.Scheme == "http" && !secured)
}

// processID returns an ID that this process uses to recognize its own heartbeats.
func (r *registry) processID() string { return fmt.Sprintf("%p-%d", r, r.start.UnixNano()) }

// announce wakes the goroutines that wait for a change of the copy. mu must be held.
func (r *registry) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Lease)
	defer cancel()
	b, err := json.Marshal(nodeEntry{Address: r.address, Process: r.processID(), At: int64(time.Since(r.start))})
	if err != nil {
		return err
	}
	key := "n." + r.disk.id
	if r.address == "" {
		key = "b." + r.disk.id
	}
	return r.nats.put(ctx, key, b)
}

// fresh reports whether the copy's age is at most Options.Lease.
func (r *registry) fresh() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.copy.asOf.IsZero() && time.Since(r.copy.asOf) <= r.opts.Lease
}

// sync waits until the copy has everything that the registry had when sync was called.
func (r *registry) sync(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	err := errors.New("the registry did not respond in time")
	for {
		// Repeat the heartbeat, because another process with the same directory may have overwritten it.
		if err2 := r.heartbeat(ctx); err2 != nil && ctx.Err() == nil {
			err = err2
		}
		retry := time.After(min(r.opts.Lease/4, time.Second))
		for waiting := true; waiting; {
			r.mu.Lock()
			done, changed := r.copy.asOf.After(start), r.changed
			r.mu.Unlock()
			if done {
				return nil
			}
			select {
			case <-changed:
			case <-retry:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("%w (%w)", err, ctx.Err())
			}
		}
	}
}
