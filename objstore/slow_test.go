package objstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
)

// slow is a bucket whose responses end with their context, like a network's, or after a
// minute without a read, like a service's. Its requests to stops hang.
type slow struct {
	Bucket
	stops chan string // prefixes whose listings hang
}

func (b *slow) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Bucket.ReadRange(ctx, name, offset, length)
	return &slowBody{r, ctx, time.Now()}, err
}

func (b *slow) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	if b.stops == nil {
		return b.Bucket.List(ctx, prefix, after)
	}
	return func(yield func(Object, error) bool) {
		b.stops <- prefix
		<-ctx.Done()
		yield(Object{}, ctx.Err())
	}
}

type slowBody struct {
	io.ReadCloser
	ctx  context.Context
	last time.Time
}

func (r *slowBody) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	if time.Since(r.last) > time.Minute {
		return 0, io.ErrUnexpectedEOF
	}
	r.last = time.Now()
	return r.ReadCloser.Read(p)
}

// Reading a long value may take hours.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slow{Bucket: new(Memory)}
		s := open(t, b, Options{hooks: hooks{maxInline: -1}})
		want := make([]byte, 3<<20)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: want}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		got, buf := []byte{}, make([]byte, 200<<10)
		for err == nil {
			var n int
			n, err = io.ReadFull(r, buf)
			got = append(got, buf[:n]...)
			time.Sleep(10 * time.Minute)
		}
		if err := errors.Join(r.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, want) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
		}
	})
}

// A reader whose context ends must not wait for another reader of the log.
func TestCanceledReaders(t *testing.T) {
	b := &slow{Bucket: new(Memory)}
	if err := open(t, b, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, b, Options{ReadOnly: true})
	b.stops = make(chan string)
	ctx, stop := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error, 1)
	go func() {
		_, err := s.Get(ctx, "k")
		first <- err
	}()
	if prefix := <-b.stops; !strings.HasPrefix(prefix, "log/") {
		t.Error(prefix)
	}
	go func() {
		ctx, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer end()
		_, err := s.Get(ctx, "k")
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the reader waits for the other reader")
	}
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
