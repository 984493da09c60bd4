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
	"github.com/go-partd/partd/internal/testutil/must"
)

// slowBucket is a bucket whose responses fail after their context ends, and, as with a real service,
// after a minute without a read. If hangingPrefixes is not nil, listings hang.
type slowBucket struct {
	Bucket
	hangingPrefixes chan string // receives the prefixes of hanging listings
}

func (b *slowBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Bucket.ReadRange(ctx, name, offset, length)
	return &slowBody{r, ctx, time.Now()}, err
}

func (b *slowBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	if b.hangingPrefixes == nil {
		return b.Bucket.List(ctx, prefix, after)
	}
	return func(yield func(Object, error) bool) {
		b.hangingPrefixes <- prefix
		<-ctx.Done()
		yield(Object{}, ctx.Err())
	}
}

type slowBody struct {
	io.ReadCloser
	ctx      context.Context
	lastRead time.Time
}

func (r *slowBody) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	if time.Since(r.lastRead) > time.Minute {
		return 0, io.ErrUnexpectedEOF
	}
	r.lastRead = time.Now()
	return r.ReadCloser.Read(p)
}

// TestSlowReaders checks that a reader may take hours to read a long value.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBucket{Bucket: new(Memory)}
		s := open(t, b, Options{hooks: hooks{maxInline: -1}})
		want := make([]byte, 3<<20)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: want}))
		r, err := s.Open(t.Context(), "k")
		must.Do(t, err)
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
			t.Errorf("read %d bytes with error %v, want the %d appended bytes", len(got), err, len(want))
		}
	})
}

// TestCanceledReaders checks that a reader whose context ends does not wait for another reader of the log.
func TestCanceledReaders(t *testing.T) {
	b := &slowBucket{Bucket: new(Memory)}
	must.Do(t, open(t, b, Options{}).Close())
	s := open(t, b, Options{ReadOnly: true})
	b.hangingPrefixes = make(chan string)
	ctx, stop := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error, 1)
	go func() {
		_, err := s.Get(ctx, "k")
		first <- err
	}()
	if prefix := <-b.hangingPrefixes; !strings.HasPrefix(prefix, "log/") {
		t.Errorf("the first reader lists %q, want the log", prefix)
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
			t.Errorf("Get() of the second reader: error = %v, want %v", err, context.DeadlineExceeded)
		}
	case <-time.After(5 * time.Second):
		t.Error("the second reader ignored the end of its context")
	}
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("Get() of the first reader: error = %v, want %v", err, context.Canceled)
	}
}
