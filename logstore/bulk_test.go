package logstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// hugeKey is so long that any operation on it is too large for a record.
var hugeKey = strings.Repeat("k", 65535)

func openBulk(t *testing.T, opts *Options) (*Store, *vfstest.Mem) {
	t.Helper()
	mem := vfstest.NewMem()
	s := openWith(t, crashDir, opts, crashHooksOn(mem))
	return s, mem
}

// TestLargeSetOnce checks that a SetOnce that is too large for a record does not change an existing key.
func TestLargeSetOnce(t *testing.T) {
	s := openWith(t, t.TempDir(), &Options{Memory: MinMemory}, hooks{fs: osFS})
	defer s.Close()
	set := &setOp{key: hugeKey}
	if set.size(&s.encoder) <= int64(s.maxBatch) {
		t.Fatal("the operation fits into a record, so the test would prove nothing")
	}
	for _, v := range []string{"first", "second"} {
		must.Do(t, s.SetOnce(t.Context(), hugeKey, []byte(v)))
		wantValue(t, s, hugeKey, "first")
	}
	session := newSession(t, s)
	applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, partd.Operation{
		Change: partd.ChangeSetOnce, Entries: []partd.Entry{{Key: hugeKey, Value: []byte("third")}},
	})
	if err != nil || !applied {
		t.Fatalf("Apply of a SetOnce = %v, %v, want true", applied, err)
	}
	wantValue(t, s, hugeKey, "first")
	must.Do(t, s.Set(t.Context(), hugeKey, []byte("fourth")))
	wantValue(t, s, hugeKey, "fourth")
}

// TestLargePop checks that a large Pop writes nothing for keys that do not exist.
func TestLargePop(t *testing.T) {
	s, _ := openBulk(t, nil)
	defer s.Close()
	var keys []string
	for i := range 300 {
		keys = append(keys, fmt.Sprint("a key that is rather long ", i))
	}
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: keys[7], Value: []byte("seven")}))
	if (&popOp{deleteOp: deleteOp{keys: keys}}).size(&s.encoder) <= int64(s.maxBatch) {
		t.Fatal("the operation fits into a record, so the test would prove nothing")
	}
	for _, want := range []string{"seven", ""} {
		for i, v := range must.Get(s.Pop(t.Context(), keys...))(t) {
			if i == 7 && string(v) != want || i != 7 && len(v) > 0 {
				t.Fatalf("Pop returned %q for key %d; want %q for key 7, and nothing for other keys", v, i, want)
			}
		}
		var l segment.Ledger
		for _, seg := range s.segments.list {
			l.Add(seg.ledger)
		}
		if l.Marks != 1 {
			t.Fatalf("the segments have %d delete markers, want 1", l.Marks)
		}
	}
}

// TestLargeRetry checks that a retried operation that is too large for a record is applied only once.
func TestLargeRetry(t *testing.T) {
	s, mem := openBulk(t, nil)
	session := newSession(t, s)
	value := strings.Repeat("v", 300)
	var op partd.Operation
	for range 20 {
		op.Entries = append(op.Entries, partd.Entry{Key: "a", Value: []byte(value)})
	}
	if appendOp(op.Entries).size(&s.encoder) <= int64(s.maxBatch) {
		t.Fatal("the operation fits into a record, so the test would prove nothing")
	}
	op.Change = partd.ChangeAppend
	tag := partd.Tag{Session: session, Number: 1, CRC: 5}
	for i := range 2 {
		if applied, err := s.Apply(t.Context(), tag, op); err != nil || applied != (i == 0) {
			t.Fatalf("attempt %d: Apply = %v, %v, want %v", i+1, applied, err, i == 0)
		}
		wantValue(t, s, "a", strings.Repeat(value, 20))
	}
	killed := mem.KillClone()
	must.Do(t, s.Close())
	h := crashHooks
	for _, fs := range []*vfstest.Mem{killed, mem} {
		h.fs = fs
		s = openWith(t, crashDir, nil, h)
		if applied, err := s.Apply(t.Context(), tag, op); err != nil || applied {
			t.Fatalf("retry after reopening: Apply = %v, %v, want false", applied, err)
		}
		wantValue(t, s, "a", strings.Repeat(value, 20))
		must.Do(t, s.Close())
	}
}

// TestMemoryOfShortEntries checks that batches of very short entries need no more memory than others.
func TestMemoryOfShortEntries(t *testing.T) {
	s := openWith(t, t.TempDir(), &Options{Memory: MinMemory}, hooks{fs: osFS})
	defer s.Close()
	tiny := partd.Entry{Key: "k", Value: []byte("v")}
	const entryLen = 4 // length of an encoded entry
	entries := make([]partd.Entry, s.maxBatch/entryLen)
	for i := range entries {
		entries[i] = tiny
	}
	sum := 0
	for _, n := range []int{len(entries), len(entries) / 2, s.maxBatch / (entryLen + entryOverhead + 6)} {
		for range cap(s.batches) {
			must.Do(t, s.Append(t.Context(), entries[:n]...))
			sum += n
		}
		total := 0
		for range cap(s.batches) {
			b := <-s.batches
			total += b.memory()
			s.batches <- b
		}
		if limit := cap(s.batches) * s.maxBatch * 3 / 2; total > limit {
			t.Errorf("%d entries at a time: the batches use %d bytes, want at most %d", n, total, limit)
		}
	}
	wantValue(t, s, "k", strings.Repeat("v", sum))
}
