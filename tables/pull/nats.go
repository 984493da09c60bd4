package pull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/go-partd/partd/internal/base/canceled"
)

const (
	bucketName = "partd-pull"
	maxRecord  = 4 << 10 // maximum size of a registry value, in bytes
	maxAsked   = 64      // maximum number of nodes asked for a table
)

// natsBucket is the key-value bucket that all nodes share. Options.Registry lists its NATS servers. If
// Options.Registry is empty, the only server runs in a process on this machine.
type natsBucket struct {
	*env
	conn *nats.Conn

	mu     sync.Mutex
	kv     jetstream.KeyValue // nil until the servers have responded
	server *server.Server     // nil unless this process runs the server
	closed bool
}

func openNATS(e *env) (_ *natsBucket, err error) {
	r := &natsBucket{env: e}
	url := e.opts.Registry
	options := []nats.Option{
		nats.Name("partd-pull " + e.disk.id), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(min(e.opts.Lease/4, time.Second)), nats.Timeout(e.opts.Lease), nats.ReconnectBufSize(-1),
		nats.PingInterval(e.opts.Lease),
	}
	if url == "" {
		url = fmt.Sprintf("nats://127.0.0.1:%d", localPort)
		r.startLocal()
		options = append(options, nats.Token(e.opts.Token))
	} else if e.opts.TLS != nil && strings.HasPrefix(url, "tls://") {
		options = append(options, nats.Secure(e.opts.TLS))
	}
	r.conn, err = nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the registry: %w", err)
	}
	return r, nil
}

func (r *natsBucket) close() {
	r.conn.Close()
	r.mu.Lock()
	r.closed = true
	s := r.server
	r.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// watch calls f with the last entry of every key, then once with nil, and after that with each change, in commit order.
// It returns when ctx ends. It returns an error if it may have missed a change; the caller must then start a new watch.
func (r *natsBucket) watch(ctx context.Context, f func(jetstream.KeyValueEntry)) error {
	if r.opts.Registry == "" && !r.conn.IsConnected() {
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
	defer w.Stop() //nolint:errcheck // the connection may be closed
	for {
		select {
		case <-ctx.Done():
			return canceled.Err(ctx)
		case e, open := <-w.Updates():
			if !open {
				return errors.New("the registry watch ended")
			}
			f(e)
		}
	}
}

func (r *natsBucket) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Lease)
	defer cancel()
	js, err := jetstream.New(r.conn)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, bucketName)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		c := jetstream.KeyValueConfig{Bucket: bucketName, History: 1, MaxValueSize: maxRecord, Replicas: 1}
		if strings.Count(r.opts.Registry, ",") >= 2 {
			c.Replicas = 3
		}
		kv, err = js.CreateKeyValue(ctx, c)
		if errors.Is(err, jetstream.ErrBucketExists) {
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

// withBucket calls f with the bucket, or returns an error if the servers have not responded yet.
func (r *natsBucket) withBucket(f func(jetstream.KeyValue) error) error {
	r.mu.Lock()
	kv := r.kv
	r.mu.Unlock()
	if kv == nil {
		return errors.New("the NATS servers have not responded yet")
	}
	return f(kv)
}

func (r *natsBucket) put(ctx context.Context, key string, value []byte) error {
	return r.withBucket(func(kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, key, value)
		return err
	})
}

// update sets a key if the key's last entry has the given revision, where 0 stands for no entry. Otherwise,
// the error is ErrConflict. After any other error, the key may or may not have been set.
func (r *natsBucket) update(ctx context.Context, key string, value []byte, revision uint64) error {
	return r.withBucket(func(kv jetstream.KeyValue) error {
		_, err := kv.Update(ctx, key, value, revision)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return ErrConflict
		}
		return err
	})
}

func (r *natsBucket) delete(ctx context.Context, key string) error {
	return r.withBucket(func(kv jetstream.KeyValue) error { return kv.Purge(ctx, key) })
}

// localPort is the port of this machine's NATS server, used if Options.Registry is empty. Tests change it.
var localPort = 4289

// startLocal starts a NATS server in this process, unless one is running on this machine. If a process with another
// directory ran the previous server, the new one lacks its content, and the nodes report their tables again.
func (r *natsBucket) startLocal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.server != nil && r.server.Running() {
		return
	}
	if c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", localPort), time.Second); err == nil {
		_ = c.Close() // the connection was only a test
		return
	}
	s, err := startServer(filepath.Join(r.disk.dir, "registry"), localPort, r.opts.Token)
	if err != nil {
		r.log.Debug("pull: this process could not start a NATS server", "error", err)
		return
	}
	r.server = s
}

func startServer(dir string, port int, token string) (*server.Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "partd-pull", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, Authorization: token,
		NoSigs: true, NoLog: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30, SyncAlways: true,
	})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(5*time.Second) || !s.Running() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("the NATS server did not start: 127.0.0.1:%d may be in use", port)
	}
	return s, nil
}
