package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/go-partd/partd/internal/canceled"
)

// natsRegistry is a bucket of NATS: at the servers of Options.Registry, or at that of this machine.
type natsRegistry struct {
	n    *Node
	conn *nats.Conn

	mu    sync.Mutex
	kv    jetstream.KeyValue // nil until the servers were reached
	local *server.Server
	ended bool
}

func openNATS(n *Node) (*natsRegistry, error) {
	r := &natsRegistry{n: n}
	url := n.opts.Registry
	options := []nats.Option{
		nats.Name("partd-pull " + n.disk.id), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(min(n.opts.Lease/4, time.Second)), nats.Timeout(n.opts.Lease), nats.ReconnectBufSize(-1),
		nats.PingInterval(n.opts.Lease),
	}
	if url == "" {
		url = fmt.Sprintf("nats://127.0.0.1:%d", localPort)
		r.startLocal()
		options = append(options, nats.Token(n.opts.Token))
	} else if n.opts.TLS != nil && strings.HasPrefix(url, "tls://") {
		options = append(options, nats.Secure(n.opts.TLS))
	}
	var err error
	if r.conn, err = nats.Connect(url, options...); err != nil {
		return nil, fmt.Errorf("the registry: %w", err)
	}
	return r, nil
}

func (r *natsRegistry) close() {
	r.conn.Close()
	r.mu.Lock()
	r.ended = true
	l := r.local
	r.mu.Unlock()
	if l != nil {
		l.Shutdown()
		l.WaitForShutdown()
	}
}

// Watch is that of a [Registry].
func (r *natsRegistry) Watch(ctx context.Context, f func(Entry)) error {
	if r.n.opts.Registry == "" && !r.conn.IsConnected() {
		r.startLocal()
	}
	kv, err := r.bucket(ctx)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer w.Stop() //nolint:errcheck // of a connection that may be gone
	for {
		select {
		case <-ctx.Done():
			return canceled.Err(ctx)
		case e, open := <-w.Updates():
			if !open {
				return errors.New("its watch ended")
			}
			var entry Entry
			if e != nil {
				entry = Entry{Key: e.Key(), Revision: e.Revision(), Time: e.Created()}
				if e.Operation() == jetstream.KeyValuePut {
					entry.Value = e.Value()
				}
			}
			f(entry)
		}
	}
}

// bucket returns the bucket, which is made where there is none.
func (r *natsRegistry) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, r.n.opts.Lease)
	defer cancel()
	js, err := jetstream.New(r.conn)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, bucketName)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		c := jetstream.KeyValueConfig{Bucket: bucketName, History: 1, MaxValueSize: maxRecord, Replicas: 1}
		if strings.Count(r.n.opts.Registry, ",") >= 2 {
			c.Replicas = 3
		}
		if kv, err = js.CreateKeyValue(ctx, c); errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, bucketName)
		}
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.kv = kv
	r.mu.Unlock()
	return kv, nil
}

// with calls f with the bucket.
func (r *natsRegistry) with(f func(jetstream.KeyValue) error) error {
	r.mu.Lock()
	kv := r.kv
	r.mu.Unlock()
	if kv == nil {
		return errors.New("it was not reached yet")
	}
	return f(kv)
}

// Put is that of a [Registry].
func (r *natsRegistry) Put(ctx context.Context, key string, value []byte) error {
	return r.with(func(kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, key, value)
		return err
	})
}

// Update is that of a [Registry].
func (r *natsRegistry) Update(ctx context.Context, key string, value []byte, revision uint64) error {
	return r.with(func(kv jetstream.KeyValue) error {
		_, err := kv.Update(ctx, key, value, revision)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return ErrConflict
		}
		return err
	})
}

// Delete is that of a [Registry].
func (r *natsRegistry) Delete(ctx context.Context, key string) error {
	return r.with(func(kv jetstream.KeyValue) error { return kv.Purge(ctx, key) })
}
