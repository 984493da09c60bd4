package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

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

// uncertainBucket returns a bucket that answers some creations with errors, whether they succeed or not.
func uncertainBucket(b Bucket, seed uint64) *faultyBucket {
	faulty := &faultyBucket{Bucket: b}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 1))
	faulty.create = func(ctx context.Context, name string, data []byte) error {
		mu.Lock()
		n := random.IntN(10)
		mu.Unlock()
		if name == storeName {
			n = 9
		}
		switch n {
		case 0:
			return errServer
		case 1, 2:
			return errors.Join(faulty.Bucket.Create(ctx, name, data), errServer)
		case 3:
			return errConflict
		case 4: // the response is lost, even if the object exists
			_ = faulty.Bucket.Create(ctx, name, data)
			return context.DeadlineExceeded
		}
		return faulty.Bucket.Create(ctx, name, data)
	}
	// Remove fs.ErrExist from joined errors, because the store would take it for a definite answer.
	inner := faulty.create
	faulty.create = func(ctx context.Context, name string, data []byte) error {
		err := inner(ctx, name, data)
		if errors.Is(err, errServer) {
			return errServer
		}
		return err
	}
	return faulty
}

// runConcurrentWriters makes writers append numbers to keys. It returns an error if the content is wrong.
func runConcurrentWriters(t *testing.T, seed uint64) error {
	const writers, rounds = 3, 25
	b := uncertainBucket(new(Memory), seed)
	h := hooks{maxInline: 500} // some segments are separate objects, some are inline
	// Half of the answers are errors. With retries for only five seconds, one creation in 60,000 would fail.
	opts := Options{Memory: MinMemory, hooks: h, RetryFor: 20 * time.Second}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			errs[w] = func() error {
				s, err := Open(t.Context(), b, &opts)
				if err != nil {
					return err
				}
				for i := range rounds {
					e := partd.Entry{Key: fmt.Sprint("key ", w), Value: fmt.Appendf(nil, "%d %s;", i, strings.Repeat("x", i%2*1000))}
					if err := s.Append(t.Context(), e); err != nil {
						return err
					}
					if err := s.Flush(t.Context()); err != nil {
						return err
					}
				}
				return s.Close()
			}()
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s, err := Open(t.Context(), b.Bucket, &Options{Memory: MinMemory})
	if err != nil {
		return err
	}
	defer s.Close()
	for w := range writers {
		values, err := s.Get(t.Context(), fmt.Sprint("key ", w))
		if err != nil {
			return err
		}
		pieces := strings.Split(strings.TrimSuffix(string(values[0]), ";"), ";")
		if len(pieces) != rounds {
			return fmt.Errorf("writer %d has %d pieces, want %d", w, len(pieces), rounds)
		}
		for i, p := range pieces {
			if !strings.HasPrefix(p, fmt.Sprint(i, " ")) {
				return fmt.Errorf("writer %d: piece %d is %.10q", w, i, p)
			}
		}
	}
	return nil
}

func TestUncertainCreations(t *testing.T) {
	for seed := range uint64(3) {
		if err := runConcurrentWriters(t, seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

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
	if _, err := Open(t.Context(), b, nil); !errors.Is(err, ErrRefused) {
		t.Errorf("Open() of an existing store: error = %v, want %v", err, ErrRefused)
	}
	if keys := mustCountKeys(t, s); keys != 10 {
		t.Errorf("the store has %d keys, want 10", keys)
	}
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

func mustCountKeys(t *testing.T, s *Store) int {
	t.Helper()
	n := must.Get(countKeys(t.Context(), s))(t)
	return n
}

func TestStaleListings(t *testing.T) {
	for name, list := range map[string]func([]Object) []Object{
		"empty":     func([]Object) []Object { return nil },
		"truncated": func(objects []Object) []Object { return objects[:len(objects)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			mem := new(Memory)
			writers := []*Store{open(t, &faultyBucket{Bucket: mem, list: list}, Options{}), open(t, &faultyBucket{Bucket: mem, list: list}, Options{})}
			for i := range 20 {
				fill(t, writers[i%2], i)
			}
			if n := mustCountKeys(t, writers[0]); n != 19 {
				t.Errorf("the store has %d keys, want 19", n)
			}
			values, err := writers[1].Get(t.Context(), "key 0")
			if err != nil || len(values[0]) != 19*5 {
				t.Errorf("Get() returned %d bytes (error %v), want %d", len(values[0]), err, 19*5)
			}
		})
	}
}
