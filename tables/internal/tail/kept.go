package tail

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"
)

// kept is what a reader made of a log's rows, for the next one.
type kept struct {
	key      string
	rows     arrow.RecordBatch // nil: nothing
	replaces bool
	bytes    int64
}

// Mark is a text that is the same for the same rows of the epochs after one.
func (l *Log) Mark(ctx context.Context, after int64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return "", err
	}
	rows, bytes, _, _ := l.size(after)
	return fmt.Sprintf("%d-%d-%d", after, rows, bytes), nil
}

// Keep keeps what a reader made of the rows under a key, instead of what was kept before,
// where it takes no more than half of the memory that is left for rows.
func (l *Log) Keep(key string, rows arrow.RecordBatch, replaces bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(kept{})
	if len(l.epochs) == 0 {
		return // they were folded meanwhile
	}
	if n := util.TotalRecordSize(rows); n <= (l.s.memory-l.s.used.Load())/2 {
		rows.Retain()
		l.keep(kept{key, rows, replaces, n})
	}
}

// Kept returns what Keep was given under a key. The caller releases it.
func (l *Log) Kept(key string) (rows []arrow.RecordBatch, replaces, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.rows == nil || l.kept.key != key {
		l.keep(kept{}) // there are others now
		return nil, false, false
	}
	return retained([]arrow.RecordBatch{l.kept.rows}), l.kept.replaces, true
}

func (l *Log) keep(k kept) {
	if l.kept.rows != nil {
		l.kept.rows.Release()
	}
	l.s.used.Add(k.bytes - l.kept.bytes)
	l.kept = k
}
