package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// operations returns functions that each run one kind of operation and read all of its results.
func operations(in iter.Seq2[rec, error], o *shuffle.Options[rec]) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"sort": func(ctx context.Context) error { return readAll(shuffle.Sort(ctx, in, byTextAndSmall, o)) },
		"top":  func(ctx context.Context) error { return readAll(shuffle.TopK(ctx, in, 50_000, byTextAndSmall, o)) },
		"aggregate": func(ctx context.Context) error {
			return readAll(shuffle.Aggregate(ctx, in, rareKey, recTotals, o))
		},
		"distinct": func(ctx context.Context) error { return readAll(shuffle.DistinctBy(ctx, in, rareKey, o)) },
		"group": func(ctx context.Context) error {
			for g, err := range shuffle.GroupBy(ctx, in, text, o) {
				if err != nil {
					return err
				}
				if err := readAll(g.Values); err != nil {
					return err
				}
			}
			return nil
		},
		"partition": func(ctx context.Context) error {
			p, err := shuffle.Partition(ctx, in, 3, text, o)
			if err != nil {
				return err
			}
			return errors.Join(readAll(p.Records(0)), readAll(p.Records(1)), readAll(p.Records(2)), p.Verify(), p.Close())
		},
	}
}

func readAll[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestInputError checks that operations return an error of the input and leave no temporary data.
func TestInputError(t *testing.T) {
	broken := errors.New("broken")
	recs := randomRecs(1, manyRecords)
	in := func(yield func(rec, error) bool) {
		for _, r := range recs {
			if !yield(r, nil) {
				return
			}
		}
		yield(rec{}, broken)
	}
	o := minMemory[rec](t)
	for name, run := range operations(in, o) {
		must.Fail(t, run(t.Context()), broken, "%s", name)
		checkEmpty(t, o.TempDirs[0])
	}
}

// TestCancel checks that after a cancellation at a random moment, all work ends, and no goroutine or temporary data
// remains.
func TestCancel(t *testing.T) {
	in := shuffle.Values(randomRecs(1, 60_000)...)
	o := minMemory[rec](t)
	goroutines := runtime.NumGoroutine()
	stopped := errors.New("stopped")
	failures := 0
	for range 4 {
		for name, run := range operations(in, o) {
			ctx, cancel := context.WithCancelCause(t.Context())
			timer := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { cancel(stopped) })
			err := run(ctx)
			if err != nil {
				failures++
			}
			if err != nil && !errors.Is(err, stopped) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: error = %v, want the cause of the cancellation", name, err)
			}
			timer.Stop()
			cancel(nil)
			checkEmpty(t, o.TempDirs[0])
		}
	}
	if failures == 0 {
		t.Error("no operation was canceled")
	}
	waitForGoroutines(t, goroutines)
}

// waitForGoroutines waits until no more than n goroutines are running.
func waitForGoroutines(t *testing.T, n int) {
	t.Helper()
	for range 100 {
		if runtime.NumGoroutine() <= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 64<<10)
	t.Errorf("%d goroutines are running, but %d were running before the test:\n%s", runtime.NumGoroutine(), n, buf[:runtime.Stack(buf, true)])
}

// TestStopReading checks that no goroutines and no temporary data remain after a caller stops reading.
func TestStopReading(t *testing.T) {
	in := shuffle.Values(randomRecs(1, manyRecords)...)
	o := minMemory[rec](t)
	goroutines := runtime.NumGoroutine()
	for range shuffle.Sort(t.Context(), in, byTextAndSmall, o) {
		break
	}
	for range shuffle.GroupBy(t.Context(), in, text, o) {
		break
	}
	for range shuffle.Aggregate(t.Context(), in, rareKey, recTotals, o) {
		break
	}
	func() {
		defer func() { _ = recover() }()
		for range shuffle.Sort(t.Context(), in, byTextAndSmall, o) {
			panic("the loop's body panics")
		}
	}()
	checkEmpty(t, o.TempDirs[0])
	waitForGoroutines(t, goroutines)
}

// corruptingStore is a store that changes the first large batch.
type corruptingStore struct {
	*partd.Dict
	change func([]partd.Entry) []partd.Entry
}

func (l *corruptingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	if l.change != nil && len(entries) > 2 {
		copied := make([]partd.Entry, len(entries))
		copy(copied, entries)
		entries, l.change = l.change(copied), nil
	}
	return l.Dict.Append(ctx, entries...)
}

// minimalStore is a store that has only the required methods and Keys.
type minimalStore struct {
	partd.Partd
	keys partd.Lister
}

func (b minimalStore) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return b.keys.Keys(ctx)
}

func TestCallersStore(t *testing.T) {
	in := randomRecs(1, 20_000)
	for name, change := range map[string]func([]partd.Entry) []partd.Entry{
		"unchanged": nil,
		"lost":      func(e []partd.Entry) []partd.Entry { return e[1:] },
		"doubled":   func(e []partd.Entry) []partd.Entry { return append(e, e[0]) },
		"swapped": func(e []partd.Entry) []partd.Entry {
			for i := range e {
				if e[i].Key != e[0].Key && len(e[i].Value) == len(e[0].Value) {
					e[0].Value, e[i].Value = e[i].Value, e[0].Value
					return e
				}
			}
			return e[1:]
		},
	} {
		o := &shuffle.Options[rec]{Store: &corruptingStore{Dict: partd.NewDict(), change: change}, TempDirs: []string{t.TempDir()}}
		err := operations(shuffle.Values(in...), o)["group"](t.Context())
		if detected := errors.Is(err, shuffle.ErrNotVerified); detected != (change != nil) || !detected && err != nil {
			t.Errorf("records %s: error = %v; want %v only for changed records", name, err, shuffle.ErrNotVerified)
		}
		if err := operations(shuffle.Values(in...), o)["group"](t.Context()); err == nil || !strings.Contains(err.Error(), "already has keys") {
			t.Errorf("grouping with a store that is not empty: error = %v, want an error about existing keys", err)
		}
	}
	dict := partd.NewDict()
	o := &shuffle.Options[rec]{Store: minimalStore{struct{ partd.Partd }{dict}, dict}}
	if err := operations(shuffle.Values(in...), o)["group"](t.Context()); err != nil {
		t.Errorf("grouping with a store without Scan: %v", err)
	}
}

// TestDamagedStore checks that a damaged value causes an error, never a wrong record.
func TestDamagedStore(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"truncated":   func(v []byte) []byte { return v[:len(v)-1] },
		"extra byte":  func(v []byte) []byte { return append(v, 200) },
		"huge length": func(v []byte) []byte { return append([]byte{255, 255, 255, 255, 255, 255, 255, 255, 1}, v...) },
	} {
		dict := partd.NewDict()
		p := must.Get(shuffle.PartitionBy(t.Context(), shuffle.Values(randomRecs(1, 100)...), text, &shuffle.Options[rec]{Store: dict}))(t)
		key := "half"
		values, err := dict.Get(t.Context(), key)
		if err != nil || len(values[0]) == 0 {
			t.Fatal(err)
		}
		must.Do(t, dict.Set(t.Context(), key, damage(values[0])))
		if _, err := shuffle.Collect(p.Records(key)); err == nil {
			t.Errorf("%s: Records() of the damaged partition yields no error", name)
		}
		if err := p.Verify(); err == nil {
			t.Errorf("%s: Verify() returned no error", name)
		}
		must.Do(t, p.Close())
	}
}

func TestWrongOptions(t *testing.T) {
	in := shuffle.Values(rec{})
	for _, o := range []shuffle.Options[rec]{
		{Memory: 1}, {Memory: -1}, {Threads: -1}, {TempDirs: []string{"/none/such"}}, {TempDirs: []string{"/dev/null"}},
	} {
		for name, run := range operations(in, &o) {
			if err := run(t.Context()); err == nil {
				t.Errorf("%s with the options %+v: no error", name, o)
			}
		}
	}
	o := &shuffle.Options[rec]{}
	for name, run := range operations(in, o) {
		o.Store = partd.NewDict()
		if err := run(t.Context()); (err == nil) != (name == "group" || name == "partition") {
			t.Errorf("%s with a store: error = %v; only group and partition may use a store", name, err)
		}
	}
	if err := readAll(shuffle.TopK(t.Context(), in, -1, byTextAndSmall, nil)); err == nil {
		t.Error("TopK() with k = -1 returned no error")
	}
	if _, err := shuffle.Partition(t.Context(), in, 0, text, nil); err == nil {
		t.Error("Partition() with 0 partitions returned no error")
	}
}

func TestFailingCodec(t *testing.T) {
	o := minMemory[rec](t)
	o.Codec = failingCodec
	for name, run := range operations(shuffle.Values(randomRecs(1, 10)...), o) {
		if err := run(t.Context()); name != "aggregate" && !errors.Is(err, errCodec) {
			t.Errorf("%s: error = %v, want %v", name, err, errCodec)
		}
	}
}

var errCodec = fmt.Errorf("the codec fails")

var failingCodec = encode.ValueCodec[rec]{
	Encode: func(dst []byte, r rec) ([]byte, error) {
		if r.N == 5 {
			return dst, errCodec
		}
		return append(dst, 1), nil
	},
	Decode: func([]byte) (rec, error) { return rec{}, errCodec },
}

// breakingStore is a store whose readers fail if broken is set.
type breakingStore struct {
	*partd.Dict
	broken bool
}

var errBroken = fmt.Errorf("the connection broke: %w", io.EOF)

func (b *breakingStore) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if b.broken {
		return io.NopCloser(iotest.ErrReader(errBroken)), nil
	}
	return partd.Open(ctx, struct{ partd.Partd }{b.Dict}, key)
}

// TestReaderBrokenConnection checks that a broken connection is an error, not the end of the data.
func TestReaderBrokenConnection(t *testing.T) {
	store := &breakingStore{Dict: partd.NewDict()}
	p := must.Get(shuffle.PartitionBy(t.Context(), shuffle.Values(randomRecs(1, 100)...), text, &shuffle.Options[rec]{Store: store}))(t)
	defer p.Close()
	store.broken = true
	if got, err := shuffle.Collect(p.Records("half")); !errors.Is(err, errBroken) {
		t.Errorf("Records() yields %d records and the error %v, want %v", len(got), err, errBroken)
	}
	must.Fail(t, must.Err(shuffle.Begin(t.Context(), store, "task", "")), errBroken, "Begin() with a broken connection")
}
