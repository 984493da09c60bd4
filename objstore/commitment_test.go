package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBucketOutage checks that appends that were acknowledged during an outage are committed after the outage, and that
// failed appends have no effect.
func TestBucketOutage(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	s := open(t, b, Options{RetryFor: 20 * time.Millisecond, SegmentSize: 128 << 10})
	value := bytes.Repeat([]byte("x"), 50<<10)
	b.create = func(context.Context, string, []byte) error { return errServer }
	acked := 0
	var appendErr error
	for appendErr == nil && acked < 100 {
		if appendErr = s.Append(t.Context(), partd.Entry{Key: "k", Value: value}); appendErr == nil {
			acked++
		}
	}
	if acked == 0 || acked == 100 {
		t.Fatalf("%d appends succeeded during the outage (error %v), want 1 to 99", acked, appendErr)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "large", Value: bytes.Repeat(value, 20)}); err == nil {
		t.Error("a large append succeeded although nothing can be uploaded")
	}
	if err := s.Close(); err == nil {
		t.Error("Close succeeded without uploading the data")
	}
	refusedErr := errors.Join(ErrRefused)
	b.create = func(context.Context, string, []byte) error { return refusedErr }
	if err := s.Flush(t.Context()); !errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Flush() error = %v, want %v, and a known outcome", err, ErrRefused)
	}
	b.create = nil
	values, err := s.Get(t.Context(), "k", "large")
	if err != nil || len(values[0]) != acked*len(value) || len(values[1]) != 0 {
		t.Errorf("Get() returned %d and %d bytes (error %v), want %d and 0", len(values[0]), len(values[1]), err, acked*len(value))
	}
	must.Check(t, s.Close())
}

// TestRefusedButCreated checks that each appended piece exists once if the bucket answers that it
// refused a record, whether it created the record or not.
func TestRefusedButCreated(t *testing.T) {
	for _, prefix := range []string{"log/", waitPrefix} {
		for _, created := range []bool{true, false} {
			b := new(Memory)
			s := contendedStore(t, b, Options{}, nil)
			l := s.bucket.(*faultyBucket)
			create, falseRefusals := l.create, 0
			if prefix == "log/" {
				create = b.Create
			}
			l.create = func(ctx context.Context, name string, data []byte) error {
				if !strings.HasPrefix(name, prefix) || falseRefusals > 0 {
					return create(ctx, name, data)
				}
				falseRefusals++
				if created {
					must.Check(t, create(ctx, name, data))
				}
				return fmt.Errorf("403: %w", ErrRefused)
			}
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1;")}))
			if err := s.Flush(t.Context()); (err != nil) == created || err != nil && (!errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome)) {
				t.Errorf("%s, created %v: Flush() error = %v, want ErrRefused only if the record was not created", prefix, created, err)
			}
			appendAndFlush(t, s, "k", "2;")
			if v, err := readValue(t, b, "k"); err != nil || v != "1;2;" || falseRefusals != 1 {
				t.Errorf("%s, created %v: the value is %q (error %v), want %q; refused %d requests, want 1", prefix, created, v, err, "1;2;", falseRefusals)
			}
		}
	}
}

// faultyBucket is a bucket that gives wrong answers.
type faultyBucket struct {
	Bucket
	create func(ctx context.Context, name string, data []byte) error
	read   func(name string, offset, length int64, data []byte) ([]byte, error)
	list   func(all []Object) []Object
}

func (b *faultyBucket) Create(ctx context.Context, name string, data []byte) error {
	if b.create != nil {
		return b.create(ctx, name, data)
	}
	return b.Bucket.Create(ctx, name, data)
}

func (b *faultyBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Bucket.ReadRange(ctx, name, offset, length)
	if err != nil || b.read == nil {
		return r, err
	}
	data, err := io.ReadAll(r)
	if err == nil {
		data, err = b.read(name, offset, length, data)
	}
	return io.NopCloser(bytes.NewReader(data)), err
}

func (b *faultyBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	if b.list == nil {
		return b.Bucket.List(ctx, prefix, after)
	}
	var all []Object
	for o, err := range b.Bucket.List(ctx, prefix, after) {
		if err == nil {
			all = append(all, o)
		}
	}
	return func(yield func(Object, error) bool) {
		for _, o := range b.list(all) {
			if !yield(o, nil) {
				return
			}
		}
	}
}

var (
	errServer   = errors.New("500 internal error")
	errConflict = errors.New("409 ConditionalRequestConflict")
)

// TestConflictIsNotExists checks that status 409 does not count as an existing object. Otherwise, a writer
// would skip the log number, and the log would have a gap.
func TestConflictIsNotExists(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	var n atomic.Int64 // atomic, because Open also calls create concurrently
	b.create = func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, "log/") && n.Add(1)%2 == 0 {
			return errConflict
		}
		return b.Bucket.Create(ctx, name, data)
	}
	s := open(t, b, Options{RetryFor: time.Second})
	for i := range 6 {
		appendAndFlush(t, s, "k", fmt.Sprint(i))
	}
	if v, err := s.Get(t.Context(), "k"); err != nil || string(v[0]) != "012345" {
		t.Errorf("the value is %q (error %v), want %q", v, err, "012345")
	}
}

// TestBucketIgnoresIfNoneMatch checks that Open refuses a bucket that overwrites existing objects, and does not
// change the store in it.
func TestBucketIgnoresIfNoneMatch(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	b.create = func(ctx context.Context, name string, data []byte) error {
		_ = b.Bucket.Delete(ctx, name)
		return b.Bucket.Create(ctx, name, data)
	}
	for range 2 {
		_, err := Open(t.Context(), b, nil)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "412") {
			t.Errorf("Open() error = %v, want %v with the text 412", err, ErrRefused)
		}
	}
	// Open must not change an existing store.
	good := new(Memory)
	s := open(t, good, Options{})
	fill(t, s, 10)
	b.Bucket = good
	must.Fail(t, must.Err(Open(t.Context(), b, nil)), ErrRefused, "Open() of an existing store")
	wantKeys(t, s, 10)
}

func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("key ", i), Value: []byte("value")}))
	}
	must.Do(t, s.Flush(t.Context()))
}

func countKeys(ctx context.Context, s *Store) (n int, err error) {
	for _, err := range s.Keys(ctx) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// wantKeys checks the number of keys of a store.
func wantKeys(t *testing.T, s *Store, want int) {
	t.Helper()
	if n := must.Get(countKeys(t.Context(), s))(t); n != want {
		t.Errorf("the store has %d keys, want %d", n, want)
	}
}
