package tail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// countingStore is a store that counts its syncs. While isFailing is true, all syncs fail.
type countingStore struct {
	*partd.Dict
	mu        sync.Mutex
	isFailing bool
	syncs     int
}

func (s *countingStore) Sync(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs++
	if s.isFailing {
		return errDisk
	}
	return nil
}

// TestRetriedAfterFailedSync checks that puts retried after a failed sync are acknowledged only
// after a successful sync, which they share.
func TestRetriedAfterFailedSync(t *testing.T) {
	ctx := t.Context()
	p := &countingStore{Dict: partd.NewDict()}
	_, l := openLog(t, p, true, 1<<20)
	p.isFailing = true
	const puts = 20
	var all [puts]Receipt
	for i := range all {
		f := must.Get(new(Encoder).Encode(columns, []arrow.RecordBatch{batchOf(t, columns, int64(i))}, fmt.Sprint(i)))(t)
		all[i] = must.Get(l.Append(ctx, []Frame{f}, time.Now()))(t)
	}
	for _, a := range all {
		if err := a.Sync(ctx); !errors.Is(err, errDisk) || !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	if applied, err := l.Applied(ctx, "0"); !applied || !errors.Is(err, errDisk) {
		t.Fatalf("Applied = %v, %v while syncs fail, want true, %v", applied, err, errDisk)
	}
	p.isFailing, p.syncs = false, 0
	for i := range puts {
		if applied, err := l.Applied(ctx, fmt.Sprint(i)); !applied || err != nil {
			t.Fatalf("Applied(put %d) = %v, %v, want true", i, applied, err)
		}
	}
	if p.syncs != 1 {
		t.Errorf("%d puts caused %d syncs, want 1", puts, p.syncs)
	}
}

// TestRepeatedInOneEpoch checks that the rows of an append count once if the store executed it twice, whether the rows
// are in memory or are read from the store.
func TestRepeatedInOneEpoch(t *testing.T) {
	ctx := t.Context()
	p := partd.NewDict()
	_, l := openLog(t, p, false, 1<<20)
	var lengths []int
	for _, id := range []string{"first", "second"} {
		must.Do(t, appendTo(ctx, l, id, time.Now(), batchOf(t, columns, 1, 2)))
		values := must.Get(p.Get(ctx, l.key(0)))(t)
		lengths = append(lengths, len(values[0]))
		if id == "second" {
			must.Do(t, p.Append(ctx, partd.Entry{Key: l.key(0), Value: values[0][lengths[0]:]}))
		}
	}
	for _, memory := range []int64{1 << 20, 1} {
		s := must.Get(Open(ctx, p, "w", false, memory))(t)
		l := must.Get(recoverLog(ctx, s, -1))(t)
		batches, err := l.Rows(ctx, -1, 10)
		var rows int64
		for _, b := range batches {
			rows += b.NumRows()
		}
		if counted, _, _, _ := l.Size(-1); err != nil || rows != 4 || counted != 4 {
			t.Errorf("with %d bytes of memory: got %d rows, and the size is %d rows, want 4; error: %v", memory, rows, counted, err)
		}
	}
}

// TestRetireWaitsForUnknownAppend checks that a log is kept after a fold while the store may still execute an append.
func TestRetireWaitsForUnknownAppend(t *testing.T) {
	ctx := t.Context()
	p := &uncertainStore{Dict: partd.NewDict()}
	s, l := openLog(t, p, false, 1<<20)
	for _, isUncertain := range []bool{false, true} {
		p.isUncertain = isUncertain
		if err := appendTo(ctx, l, "", time.Now(), batchOf(t, columns, 1)); errors.Is(err, partd.ErrUnknownOutcome) != isUncertain {
			t.Fatal(err)
		}
		last, _, err := l.EndEpoch(ctx)
		must.Do(t, errors.Join(err, l.Forget(ctx, last)))
		if retired := s.Retire(l); retired == isUncertain {
			t.Errorf("Retire = %v, want %v", retired, !isUncertain)
		}
	}
}

// uncertainSyncs is an uncertainStore that counts its syncs.
type uncertainSyncs struct {
	uncertainStore
	syncs int
}

func (u *uncertainSyncs) Sync(context.Context) error {
	u.syncs++
	return nil
}

// TestAppliedAfterUnknownAppend checks that Applied syncs an append whose outcome was unknown.
func TestAppliedAfterUnknownAppend(t *testing.T) {
	ctx := t.Context()
	p := &uncertainSyncs{uncertainStore: uncertainStore{Dict: partd.NewDict()}}
	_, l := openLog(t, p, true, 1<<20)
	p.isUncertain, p.syncs = true, 0
	if err := appendTo(ctx, l, "id", time.Now(), batchOf(t, columns, 1)); !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	if applied, err := l.Applied(ctx, "id"); !applied || err != nil || p.syncs != 1 {
		t.Errorf("Applied = %v, %v after %d syncs, want true after 1 sync", applied, err, p.syncs)
	}
}

// lateStore is a store that reports an unknown outcome for its first append, and executes this append only when
// executeLate is called.
type lateStore struct {
	*partd.Dict
	late []partd.Entry
}

func (l *lateStore) Append(ctx context.Context, entries ...partd.Entry) error {
	if l.late == nil && entries[0].Key != identityKey {
		l.late = entries
		return partd.ErrUnknownOutcome
	}
	return l.Dict.Append(ctx, entries...)
}

func (l *lateStore) executeLate(ctx context.Context) error { return l.Dict.Append(ctx, l.late...) }

// TestLateFirstAppend checks that the rows of an append that the store executes late do not damage rows that were
// appended meanwhile.
func TestLateFirstAppend(t *testing.T) {
	ctx := t.Context()
	p := &lateStore{Dict: partd.NewDict()}
	_, l := openLog(t, p, false, 1)
	if err := appendTo(ctx, l, "late", time.Now(), batchOf(t, columns, 1)); !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	must.Do(t, appendTo(ctx, l, "second", time.Now(), batchOf(t, columns, 2)))
	must.Do(t, p.executeLate(ctx))
	batches, err := l.Rows(ctx, -1, 10)
	if err != nil || len(batches) != 1 || batches[0].Column(0).ValueStr(0) != "2" {
		t.Errorf("Rows = %v, %v, want the second row", batches, err)
	}
}
