package flightclient

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// Lock is a named lock at a server. The client keeps renewing it until Unlock.
type Lock struct {
	c    *Client
	id   string
	once sync.Once
	end  context.CancelFunc
	gone chan struct{}
	lost chan struct{}
}

// Lock is Bucket.Lock. The server grants the lock as a lease: if this process or its
// connection dies, others can take the lock half a minute later.
func (c *Client) Lock(ctx context.Context, bucket, name string) (*Lock, error) {
	got, err := operations.TakeLock.Do(ctx, c.target(), &operations.Lock{Bucket: bucket, Name: name})
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	l := &Lock{c: c, id: got.Lease, end: end, gone: make(chan struct{}), lost: make(chan struct{})}
	go l.renew(ctx, time.Duration(got.Seconds*float64(time.Second)))
	return l, nil
}

// Lost returns a channel that is closed if the lock could not be renewed in time. Others
// may then hold it.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

func (l *Lock) renew(ctx context.Context, ttl time.Duration) {
	defer close(l.gone)
	until := time.Now().Add(ttl)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(ttl / 3):
		}
		began := time.Now()
		call, cancel := context.WithDeadline(ctx, until)
		_, err := operations.TakeLock.Do(call, l.c.target(), &operations.Lock{Lease: l.id})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			until = began.Add(ttl)
		case errors.Is(err, tables.ErrNotFound), !time.Now().Add(ttl / 3).Before(until):
			close(l.lost)
			return
		}
	}
}

// Unlock releases the lock. Further calls do nothing.
func (l *Lock) Unlock(ctx context.Context) (err error) {
	if l == nil {
		return nil
	}
	l.once.Do(func() {
		l.end()
		<-l.gone
		_, err = operations.Unlock.Do(ctx, l.c.target(), &operations.Lock{Lease: l.id})
	})
	return err
}

// PutAll is Bucket.PutAll.
func (c *Client) PutAll(ctx context.Context, bucket string, puts iter.Seq[tables.TablePut], workers int) error {
	if puts == nil {
		return &tables.ArgumentError{Err: errors.New("the sequence of puts is nil")}
	}
	return parallel.Each(ctx, puts, workers, func(ctx context.Context, p tables.TablePut) error {
		_, err := c.Put(ctx, bucket, p.Name, p.Rows, p.Mode, p.Options)
		return err
	})
}

// ScanAll is Bucket.ScanAll.
func (c *Client) ScanAll(ctx context.Context, bucket string, names []string, o *tables.ScanOptions, workers int, f func(name string, r array.RecordReader) error) error {
	return parallel.Each(ctx, slices.Values(names), workers, func(ctx context.Context, name string) error {
		r, err := c.Scan(ctx, bucket, name, nil, o)
		if err != nil {
			return err
		}
		defer r.Release()
		return f(name, r)
	})
}
