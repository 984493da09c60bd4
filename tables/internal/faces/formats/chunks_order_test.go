package formats

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/testutil/must"
)

// goroutineCheck returns a function that fails the test unless all goroutines that were started after
// the call of goroutineCheck have ended.
func goroutineCheck(t *testing.T) func() {
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for range 500 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d goroutines are running, but only %d were running before", runtime.NumGoroutine(), before)
	}
}

// manyLines returns rows of small numbers, except for the last, which is not a valid int8.
func manyLines(name string) string {
	if name == "x.csv" {
		return "a\n" + strings.Repeat("1\n", 5000) + "300\n"
	}
	return strings.Repeat("{\"a\":1}\n", 5000) + "{\"a\":300}\n"
}

// TestTextLeavesNoGoroutine checks that no goroutine remains after a reader is released early,
// canceled or refused.
func TestTextLeavesNoGoroutine(t *testing.T) {
	setChunks(t, 100)
	known := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8, Nullable: true}}, nil)
	for _, name := range []string{"x.csv", "x.jsonl"} {
		in := fileOf(t, name, manyLines(name))
		check := goroutineCheck(t)
		read := 0
		for range 20 { // release the reader early
			var counted atomic.Int64
			var released atomic.Bool
			in.Count = func(n int) {
				counted.Add(int64(n))
				if time.Sleep(100 * time.Microsecond); released.Load() {
					t.Error("the file was read after the reader was released")
				}
			}
			r, err := in.Read(t.Context())
			if err != nil || !r.Next() {
				t.Fatal(err)
			}
			if running := runtime.NumGoroutine(); running > 50 {
				t.Errorf("%d goroutines are running, want at most 50", running)
			}
			r.Release()
			released.Store(true)
			if n := counted.Load(); n > 10_000 {
				t.Errorf("%d bytes were read for one batch, want at most 10,000", n)
			}
			check()
		}
		in.Count = nil
		for range 20 { // cancel the context
			ctx, cancel := context.WithCancel(t.Context())
			r, err := in.Read(ctx)
			if err != nil || !r.Next() {
				t.Fatal(err)
			}
			cancel()
			for r.Next() {
				read++
			}
			if err := r.Err(); err == nil || err.Error() != context.Canceled.Error() || !errors.Is(err, context.Canceled) {
				t.Errorf("the canceled reader returned %v, want context.Canceled", err)
			}
			r.Release()
			check()
		}
		if read > 20*10 {
			t.Errorf("20 readers returned %d batches after their contexts were canceled, want at most 200", read)
		}
		in.Known = known
		rows := int64(0)
		r := must.Get(in.Read(t.Context()))(t)
		for r.Next() {
			rows += r.RecordBatch().NumRows()
		}
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), `column "a": "300" is not a valid int8`) || rows < 4900 {
			t.Errorf("got %d rows and the error %v, want at least 4900 rows and a conversion error", rows, err)
		}
		check() // a failed reader stops its goroutines before it is released
		r.Release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		must.Fail(t, must.Err(in.Read(ctx)), context.Canceled, "Read with a canceled context")
		check()
	}
}

func textOf(t *testing.T, content string) *text {
	t.Helper()
	in := fileOf(t, "x.jsonl", content)
	return must.Get(in.newText(t.Context(), in.File))(t)
}

// TestFirstErrorInOrder checks that forEachChunk returns the first error in the order of the text, even if it
// is a panic and later chunks fail earlier. Chunks must get their turns (see chunk.turn) in this order, and
// none after a chunk that failed.
func TestFirstErrorInOrder(t *testing.T) {
	setChunks(t, 4)
	for range 100 {
		all := textOf(t, strings.Repeat("{}\n", 200))
		last, check := int64(-1), goroutineCheck(t)
		err := all.forEachChunk(t.Context(), 4, func(ctx context.Context, c chunk) error {
			switch {
			case c.linesBefore == 50:
				time.Sleep(time.Millisecond)
				panic("at 50")
			case c.linesBefore > 50:
				return fmt.Errorf("at %d", c.linesBefore)
			}
			if err := canceled.Wait(ctx, c.turn); err != nil {
				return err
			}
			if c.linesBefore != last+1 {
				t.Errorf("the chunk after line %d had its turn after the chunk after line %d", c.linesBefore, last)
			}
			last = c.linesBefore
			return nil
		})
		if err == nil || err.Error() != "x.jsonl: the file is damaged: at 50" || last != 49 {
			t.Fatalf("forEachChunk = %v after line %d, want the panic at line 50", err, last)
		}
		check()
	}
}

// TestChunksInMemory checks that at most one long record, or a few chunks of short records, are in
// memory at a time.
func TestChunksInMemory(t *testing.T) {
	setChunks(t, 100)
	for size, want := range map[int]int64{1000: 1, 40: textWorkers} {
		var current, peak atomic.Int64
		all := textOf(t, strings.Repeat(strings.Repeat(" ", size)+"\n", 50))
		err := all.forEachChunk(t.Context(), textWorkers, func(context.Context, chunk) error {
			if n := current.Add(1); n > peak.Load() {
				peak.Store(n)
			}
			time.Sleep(5 * time.Millisecond)
			current.Add(-1)
			return nil
		})
		if err != nil || peak.Load() != want {
			t.Errorf("%d chunks were in use at the same time, %v, want %d", peak.Load(), err, want)
		}
	}
}

// TestTooManyColumnsInChunks checks that the number of columns in all chunks together is limited.
// The error must name the line with the first column too many.
func TestTooManyColumnsInChunks(t *testing.T) {
	var lines, line strings.Builder
	for i := range maxColumns {
		fmt.Fprintf(&lines, "{\"c%d\":1}\n{}\n", i)
		fmt.Fprintf(&line, ",\"c%d\":1", i)
	}
	const linesBefore = 25_000 // two chunks
	for size, c := range map[int]struct {
		text string
		line int
	}{
		1000:    {lines.String(), 2*maxColumns + 4},
		1 << 20: {strings.Repeat("{\"c3\":1}\n", linesBefore) + "{" + line.String()[1:] + "}\n", linesBefore + 1 + 4},
	} {
		setChunks(t, size)
		in := fileOf(t, "x.jsonl", c.text+"{}\n{\"c3\":1}\n{}\n{\"more\":1}\n{\"most\":1}\n")
		want := fmt.Sprintf("x.jsonl, line %d: too large: more than 65536 columns", c.line)
		for range 5 {
			if _, err := in.Read(t.Context()); err == nil || err.Error() != want {
				t.Errorf("Read = %v, want %s", err, want)
			}
		}
	}
}
