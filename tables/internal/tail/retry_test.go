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
	s, err := Open(ctx, p, "w", true, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(table, -1)
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	p.isFailing = true
	const puts = 20
	var all [puts]Receipt
	for i := range all {
		f, err := new(Encoder).Encode(schema, []arrow.RecordBatch{batchOf(t, schema, int64(i))}, fmt.Sprint(i))
		if err == nil {
			all[i], err = l.Append(ctx, f, time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
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
