package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

func requireEqual(t *testing.T, want partd.Partd, got *Store) {
	t.Helper()
	read := func(s partd.Partd) map[string]string {
		all := map[string]string{}
		for c, err := range partd.Scan(t.Context(), s) {
			must.Do(t, err)
			if int64(len(all[c.Key])) != c.Offset {
				t.Fatalf("got a chunk of %.20q at offset %d after %d bytes", c.Key, c.Offset, len(all[c.Key]))
			}
			all[c.Key] += string(c.Data)
		}
		return all
	}
	a, b := read(want), read(got)
	if len(a) != len(b) {
		t.Errorf("the store has %d keys, want %d", len(b), len(a))
	}
	for k, v := range a {
		if b[k] != v {
			t.Errorf("key %.20q has %d bytes, want %d", k, len(b[k]), len(v))
		}
		values, err := got.Get(t.Context(), k)
		if err != nil || string(values[0]) != v {
			t.Errorf("Get(%.20q) returned %d bytes (error %v), want %d", k, len(values[0]), err, len(v))
		}
	}
}

// TestDataLargerThanMemory checks that readers return all data of a store that is much larger than their
// memory. It uses several distributions of hashes, because readers use a different method for each.
func TestDataLargerThanMemory(t *testing.T) {
	for name, hash := range map[string]func(string) uint64{
		"spread hashes": nil, "one hash": func(string) uint64 { return 1 << 60 }, "8-bit hashes": byteHash,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, new(Memory), Options{SegmentSize: 1 << 20, hooks: hooks{keyHash: hash, rangeBytes: 1 << 30}})
			s.scans.limit = 0 // each reader gets the minimum
			d := partd.NewDict()
			random := rand.New(rand.NewPCG(7, 7))
			for i := range 60 {
				key := fmt.Sprint("key ", random.IntN(8))
				value := bytes.Repeat([]byte{byte(i)}, random.IntN(100<<10))
				var errs []error
				for _, store := range []partd.Partd{s, d} {
					switch random := i % 11; {
					case random == 7:
						errs = append(errs, partd.Delete(t.Context(), store, key, "key 1"))
					case random == 8:
						errs = append(errs, partd.Set(t.Context(), store, key, value))
					case random == 9:
						errs = append(errs, partd.SetOnce(t.Context(), store, key, bytes.Repeat(value, 4)))
					default:
						errs = append(errs, store.Append(t.Context(), partd.Entry{Key: key, Value: value}, partd.Entry{Key: "hot", Value: value}))
					}
				}
				must.Do(t, errors.Join(errs...))
			}
			requireEqual(t, d, s)
		})
	}
}

// TestTwoInstances checks that two stores on one bucket see each other's flushes, and one of several concurrent SetOnce
// calls wins.
func TestTwoInstances(t *testing.T) {
	b := new(Memory)
	first, second := open(t, b, Options{}), open(t, b, Options{})
	for i := range 5 {
		for _, s := range []*Store{first, second} {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: fmt.Append(nil, i)}))
			must.Do(t, s.Flush(t.Context()))
		}
	}
	if v, err := second.Get(t.Context(), "k"); err != nil || string(v[0]) != "0011223344" {
		t.Errorf("the value is %q (error %v), want %q", v, err, "0011223344")
	}
	var wg sync.WaitGroup
	for i := range 8 {
		s := open(t, b, Options{})
		wg.Go(func() { must.Check(t, s.SetOnce(context.Background(), "once", fmt.Append(nil, i))) })
	}
	wg.Wait()
	v, err := first.Get(t.Context(), "once")
	w, err2 := second.Get(t.Context(), "once")
	if err != nil || err2 != nil || len(v[0]) != 1 || string(v[0]) != string(w[0]) {
		t.Errorf("the two stores return %q (error %v) and %q (error %v), want the same byte from both", v, err, w, err2)
	}
	must.Do(t, first.Drop(t.Context()))
	wantKeys(t, second, 0)
}

// TestRequestCounts checks that appending and reading make no unnecessary requests.
func TestRequestCounts(t *testing.T) {
	c := NewCounter(new(Memory))
	s := open(t, c, Options{SegmentSize: 1 << 20, hooks: hooks{maxInline: -1}})
	// Open lists what an earlier store left, and creates STORE. Then it tests conditional puts: it tries to create
	// STORE again, and in each of three rounds, four puts compete to create one object.
	if got := c.Requests(); got != (Requests{Put: 2 + 12, Get: 2, List: 2, Delete: 3}) {
		t.Errorf("Open() made the requests %v", got)
	}
	value := make([]byte, 100)
	for i := range 50_000 { // 6 segments of 1 MiB
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("key ", i), Value: value}))
	}
	must.Do(t, s.Flush(t.Context()))
	afterFlush := c.Requests()
	if afterFlush != (Requests{Put: 2 + 12 + 6 + 1, Get: 2 + 1, List: 2 + 1, Delete: 3}) {
		t.Errorf("after the flush, the total requests are %v", afterFlush)
	}
	wantKeys(t, s, 50_000)
	afterRead := c.Requests()
	// The log needs a listing and two reads: a record, and its missing successor. Each pass reads each segment.
	gets := afterRead.Get - afterFlush.Get - 2
	if afterRead.List-afterFlush.List != 1 || afterRead.Put != afterFlush.Put || gets%6 != 0 || gets == 0 || gets > 6*16 {
		t.Errorf("after reading, the total requests are %v", afterRead)
	}
	t.Logf("50,000 appends written and read: %v", afterRead)
}

// TestDropWhileReading checks that a reader's error mentions the drop if another process drops and sweeps the store
// during the read.
func TestDropWhileReading(t *testing.T) {
	b := new(Memory)
	s := open(t, b, Options{hooks: hooks{maxInline: -1}})
	fill(t, s, 100)
	v, err := s.flushAndRefresh(t.Context())
	must.Do(t, err)
	must.Do(t, s.Drop(t.Context()))
	for _, g := range v.segments {
		must.Do(t, b.Delete(t.Context(), g.object))
	}
	sc := &scanner{view: v}
	err = sc.loadAll(t.Context(), 0, len(v.segments), partOf(0, 1), v.segments[0].StoredLen()).err
	if err == nil || !strings.Contains(err.Error(), "dropped") || errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("reading during Drop: error = %v, want an error that mentions the drop, but no CorruptError", err)
	}
}

func appendAll(t *testing.T, s *Store, n, length int) {
	t.Helper()
	value := make([]byte, length)
	for i := range n {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("key ", i), Value: value}))
	}
	must.Do(t, s.Flush(t.Context()))
}

// subBucket is the part of a bucket below a prefix.
type subBucket struct {
	*Memory
	prefix string
}

func (w subBucket) Create(ctx context.Context, name string, data []byte) error {
	return w.Memory.Create(ctx, w.prefix+name, data)
}

func (w subBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	return w.Memory.ReadRange(ctx, w.prefix+name, offset, length)
}

func (w subBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range w.Memory.List(ctx, w.prefix+prefix, w.prefix+after) {
			if o.Name = strings.TrimPrefix(o.Name, w.prefix); !yield(o, err) {
				return
			}
		}
	}
}

// TestPartlyRemovedStore checks that Open does not create a store if objects of a partly removed store
// remain, because nobody could read the data that the new store acknowledges.
func TestPartlyRemovedStore(t *testing.T) {
	b := new(Memory)
	appendAndFlush(t, contendedStore(t, b, Options{}, nil), "k", "1")
	// A store below this prefix is separate.
	appendAndFlush(t, open(t, subBucket{b, "log/"}, Options{}), "k", "1")
	objects := b.objects
	for _, prefixes := range [][]string{{storeName}, {storeName, "log/"}, {storeName, "log/", waitPrefix}} {
		b.objects = maps.Clone(objects)
		maps.DeleteFunc(b.objects, func(name string, _ memoryObject) bool {
			return slices.ContainsFunc(prefixes, func(prefix string) bool {
				return strings.HasPrefix(name, prefix) && (prefix != "log/" || len(name) == len(logName(0)))
			})
		})
		s, err := Open(t.Context(), b, &Options{Memory: MinMemory})
		if refused := err != nil && strings.Contains(err.Error(), "partly removed"); refused == (len(prefixes) == 3) {
			t.Errorf("without %s: Open() error = %v", prefixes, err)
		}
		if err == nil {
			appendAndFlush(t, s, "k", "2")
			if v, err := readValue(t, b, "k"); err != nil || v != "2" {
				t.Errorf("without %s: the value is %q (error %v), want %q", prefixes, v, err, "2")
			}
		}
	}
}

// TestRequestsOfOpeningAndFlushing compares the requests with docs/stores.md.
func TestRequestsOfOpeningAndFlushing(t *testing.T) {
	c := NewCounter(new(Memory))
	var before Requests
	wantRequests := func(name string, want Requests) {
		t.Helper()
		r := c.Requests()
		got := Requests{Put: r.Put - before.Put, Get: r.Get - before.Get, List: r.List - before.List, Delete: r.Delete - before.Delete}
		if before = r; got != want {
			t.Errorf("%s made the requests %v, want %v", name, got, want)
		}
	}
	first := open(t, c, Options{})
	wantRequests("first Open", Requests{Put: 14, Get: 2, List: 2, Delete: 3})
	appendAndFlush(t, first, "k", "1")
	wantRequests("first flush", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "2")
	wantRequests("next flush", Requests{Put: 1, Get: 1})
	must.Do(t, first.Flush(t.Context()))
	wantRequests("empty flush", Requests{})
	second := open(t, c, Options{})
	wantRequests("second Open", Requests{Put: 13, Get: 1, Delete: 3})
	appendAndFlush(t, second, "k", "3")
	wantRequests("first flush of the second writer", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "4")
	wantRequests("flush after another writer's", Requests{Put: 2, Get: 2, List: 1})
	open(t, c, Options{ReadOnly: true})
	wantRequests("read-only Open", Requests{Get: 1})
}

func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Store": new(Store), "Counter": new(Counter), "NewCounter(nil)": NewCounter(nil),
		"Directory": new(Directory), "Job": Job{},
	}, "Close")
	storetest.CheckZero(t, map[string]any{"Memory": new(Memory)}, "*")
	ctx, errorOf := t.Context(), func(_ any, err error) error { return err }
	callPlan := func(j Job) func() error { return func() error { return errorOf(j.Plan()) } }
	storetest.CheckErrors(t, map[string]func() error{
		"Open(nil)":                func() error { return errorOf(Open(ctx, nil, nil)) },
		"Open of a zero Counter":   func() error { return errorOf(Open(ctx, new(Counter), nil)) },
		"Open of a zero Directory": func() error { return errorOf(Open(ctx, new(Directory), nil)) },
		"Exists(nil)":              func() error { return errorOf(Exists(ctx, nil)) },
		"Retry(nil)":               func() error { return Retry(ctx, time.Second, 0, nil, nil) },
		"OpenDirectory(\"\")":      func() error { return errorOf(OpenDirectory("")) },
		"a job without readers":    callPlan(Job{Writers: 1, Bytes: 1 << 30, EntryBytes: 100}),
		"a job without writers":    callPlan(Job{Readers: 1, Bytes: 1 << 30, EntryBytes: 100}),
		"a job without bytes":      callPlan(Job{Writers: 1, Readers: 1, EntryBytes: 100}),
		"a job of empty entries":   callPlan(Job{Writers: 1, Readers: 1, Bytes: 1 << 30}),
	})
	if err := new(Store).Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Append() to a zero Store: error = %v, want %v", err, partd.ErrClosed)
	}
}
