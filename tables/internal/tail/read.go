package tail

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/take"
)

// Rows returns the record batches of the epochs (after, upTo], in order, each with its
// original schema. The caller releases them.
func (l *Log) Rows(ctx context.Context, after, upTo int64) (rows []arrow.RecordBatch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return nil, err
	}
	for _, e := range l.epochs {
		if e.n <= after || e.n > upTo {
			continue
		}
		batches, err := l.read(ctx, e)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("tail key %s: %w", e.key, err)
		}
		rows = append(rows, batches...)
	}
	return rows, nil
}

func (l *Log) read(ctx context.Context, e *epoch) ([]arrow.RecordBatch, error) {
	if e.held && len(e.pending) == 0 {
		return retained(e.batches), nil
	}
	head, err := schemaMessage(e.schema)
	if err != nil {
		return nil, err
	}
	if !e.held {
		values, err := l.s.p.Get(ctx, e.key)
		if err != nil {
			return nil, err
		}
		var messages [][]byte
		seen := map[string]bool{}
		for v := values[0]; len(v) > 0; {
			f, rest, err := next(v)
			if err != nil {
				return nil, err
			}
			v = rest
			if f.id != "" && (seen[f.id] || !e.has(f.id)) { // a duplicate or void append, which does not count; see add
				f.messages = nil
				if f.schema {
					f.messages = head
				}
			}
			seen[f.id] = true
			messages = append(messages, f.messages)
		}
		_, batches, err := decode(messages...)
		return batches, err
	}
	messages := e.pending
	if len(e.batches) > 0 { // the schema's message was decoded with the batches
		messages = append([][]byte{head}, messages...)
	}
	_, batches, err := decode(messages...)
	if err != nil {
		return nil, err
	}
	if batches, err = merge(append(slices.Clip(e.batches), batches...)); err != nil {
		return nil, err
	}
	e.batches, e.pending = batches, nil
	return retained(batches), nil
}

func retained(batches []arrow.RecordBatch) []arrow.RecordBatch {
	take.Retain(batches)
	return slices.Clone(batches)
}

// refresh reads stale epochs again.
func (l *Log) refresh(ctx context.Context) error {
	for i := 0; i < len(l.epochs); i++ {
		e := l.epochs[i]
		if !e.stale {
			continue
		}
		if err := l.load(ctx, e); err != nil {
			return err
		}
		l.next = max(l.next, e.n+1) // a late append must not land among newer rows
		if e.bytes == 0 {
			l.epochs = slices.Delete(l.epochs, i, i+1)
			i--
		}
	}
	return nil
}

// Size returns the number of rows and bytes of the epochs after the given one, the time of their
// first append, and the time of the log's last append.
func (l *Log) Size(after int64) (rows, bytes int64, since, updated time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size(after)
}

func (l *Log) size(after int64) (rows, bytes int64, since, updated time.Time) {
	for _, e := range l.epochs {
		if e.n <= after {
			continue
		}
		rows += e.rows
		bytes += e.bytes
		if since.IsZero() || e.since.Before(since) {
			since = e.since
		}
	}
	return rows, bytes, since, l.updated
}

// kept is a result that a reader computed from a log's rows, cached for later readers.
type kept struct {
	key      string
	rows     arrow.RecordBatch // nil: nothing is kept
	replaces bool
	bytes    int64
}

// Mark returns a text that identifies the rows of the epochs after the given one.
func (l *Log) Mark(ctx context.Context, after int64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return "", err
	}
	rows, bytes, _, _ := l.size(after)
	return fmt.Sprintf("%d-%d-%d", after, rows, bytes), nil
}

// Keep replaces the kept result with rows under a key, if they fit in half of the free memory for
// rows.
func (l *Log) Keep(key string, rows arrow.RecordBatch, replaces bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(kept{})
	if len(l.epochs) == 0 {
		return // the rows were folded concurrently
	}
	if n := util.TotalRecordSize(rows); n <= (l.s.memory-l.s.used.Load())/2 {
		rows.Retain()
		l.keep(kept{key, rows, replaces, n})
	}
}

// Kept returns the result that Keep stored under a key. The caller releases it.
func (l *Log) Kept(key string) (rows []arrow.RecordBatch, replaces, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.rows == nil || l.kept.key != key {
		l.keep(kept{}) // it is outdated
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

// schemaMessage returns the IPC message of a schema.
func schemaMessage(schema *arrow.Schema) ([]byte, error) {
	p := ipc.GetSchemaPayload(schema, memory.DefaultAllocator)
	defer p.Release()
	var b bytes.Buffer
	_, err := p.WritePayload(&b)
	return b.Bytes(), err
}

// decode returns the schema and the record batches of IPC messages. The first must be the schema.
func decode(messages ...[]byte) (schema *arrow.Schema, batches []arrow.RecordBatch, err error) {
	parts := make([]io.Reader, len(messages))
	for i, m := range messages {
		parts[i] = bytes.NewReader(m)
	}
	r, err := ipc.NewReader(io.MultiReader(parts...))
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	for r.Next() {
		// Earlier versions accepted batches with a column longer than the batch, so cut it.
		batch := r.RecordBatch()
		batches = append(batches, batch.NewSlice(0, batch.NumRows()))
	}
	if err := r.Err(); err != nil {
		take.Release(batches)
		return nil, nil, err
	}
	return r.Schema(), batches, nil
}

// merge joins small batches at the end of the list, and releases them. Each batch of the result is
// at least twice as long as the next one, so that a row is copied only a logarithmic number of
// times.
func merge(batches []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	from := len(batches) - 1
	for sum := int64(0); from >= 0; from-- {
		if n := batches[from].NumRows(); sum > 0 && n >= 2*sum {
			break
		}
		sum += batches[from].NumRows()
	}
	from++
	if len(batches)-from < 2 {
		return batches, nil
	}
	one, err := take.Concat(batches[from:])
	if err != nil {
		return nil, err
	}
	take.Release(batches[from:])
	return append(batches[:from:from], one), nil
}
