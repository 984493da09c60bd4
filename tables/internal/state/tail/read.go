package tail

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Rows returns the record batches in the epochs numbered from after+1 to upTo. Each batch has its own schema. The
// caller must release them.
func (l *Log) Rows(ctx context.Context, after, upTo int64) (rows []arrow.RecordBatch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return nil, err
	}
	for e := range l.epochsIn(after, upTo) {
		batches, err := l.readEpoch(ctx, e)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("tail key %s: %w", e.key, err)
		}
		rows = append(rows, batches...)
	}
	return rows, nil
}

// epochsIn yields the epochs numbered from after+1 to upTo.
func (l *Log) epochsIn(after, upTo int64) iter.Seq[*epoch] {
	return func(yield func(*epoch) bool) {
		for _, e := range l.epochs {
			if e.number > after && e.number <= upTo && !yield(e) {
				return
			}
		}
	}
}

// Reader returns a function that returns the same rows as Rows. The function decodes them without a lock, so that
// appends do not have to wait. It must be called exactly once.
func (l *Log) Reader(ctx context.Context, after, upTo int64) (read func() ([]arrow.RecordBatch, error), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return nil, err
	}
	type part struct {
		key      string
		batches  []arrow.RecordBatch
		messages [][]byte // not decoded yet; follow the batches
	}
	var parts []part
	var all []arrow.RecordBatch
	for e := range l.epochsIn(after, upTo) {
		p := part{key: e.key}
		if e.inMemory && len(e.pending) > 0 {
			p.batches = take.Retain(e.batches)
			p.messages, err = e.pendingMessages()
		} else {
			p.batches, err = l.readEpoch(ctx, e)
		}
		all = append(all, p.batches...)
		if err != nil {
			take.Release(all)
			return nil, fmt.Errorf("tail key %s: %w", e.key, err)
		}
		parts = append(parts, p)
	}
	return func() ([]arrow.RecordBatch, error) {
		var rows []arrow.RecordBatch
		for i, p := range parts {
			batches := p.batches
			if p.messages != nil {
				_, decoded, err := decode(p.messages...)
				if err == nil {
					batches, err = merge(append(batches, decoded...))
				}
				if err != nil {
					take.Release(rows)
					for _, p := range parts[i:] {
						take.Release(p.batches)
					}
					return nil, fmt.Errorf("tail key %s: %w", p.key, err)
				}
			}
			rows = append(rows, batches...)
		}
		return rows, nil
	}, nil
}

// pendingMessages returns an epoch's messages that are in memory but not decoded yet, preceded by the schema.
func (e *epoch) pendingMessages() ([][]byte, error) {
	if len(e.batches) == 0 {
		return slices.Clone(e.pending), nil
	}
	schemaBytes, err := schemaMessage(e.schema) // e.pending lacks it, because it was decoded with e.batches
	return append([][]byte{schemaBytes}, e.pending...), err
}

// readEpoch returns an epoch's batches, from memory or from the store. The caller must release them.
func (l *Log) readEpoch(ctx context.Context, e *epoch) ([]arrow.RecordBatch, error) {
	if e.inMemory && len(e.pending) == 0 {
		return take.Retain(e.batches), nil
	}
	if !e.inMemory {
		schemaBytes, err := schemaMessage(e.schema)
		if err != nil {
			return nil, err
		}
		values, err := l.s.p.Get(ctx, e.key)
		if err != nil {
			return nil, err
		}
		var messages [][]byte
		seenIDs := map[string]bool{}
		for v := values[0]; len(v) > 0; {
			f, remaining, err := nextFrame(v)
			if err != nil {
				return nil, err
			}
			v = remaining
			if f.id != "" && (seenIDs[f.id] || !e.hasID(f.id)) { // add skipped this append
				f.messages = nil
				if f.schema {
					f.messages = schemaBytes
				}
			}
			seenIDs[f.id] = true
			messages = append(messages, f.messages)
		}
		_, batches, err := decode(messages...)
		return batches, err
	}
	messages, err := e.pendingMessages()
	if err != nil {
		return nil, err
	}
	_, batches, err := decode(messages...)
	if err != nil {
		return nil, err
	}
	batches, err = merge(append(slices.Clip(e.batches), batches...))
	if err != nil {
		return nil, err
	}
	e.batches, e.pending = batches, nil
	return take.Retain(batches), nil
}

// refresh reads stale epochs from the store again.
func (l *Log) refresh(ctx context.Context) error {
	for i := 0; i < len(l.epochs); i++ {
		e := l.epochs[i]
		if !e.stale {
			continue
		}
		if err := l.load(ctx, e); err != nil {
			return err
		}
		l.current = max(l.current, e.number+1) // append no more rows to this epoch
		if e.bytes == 0 {
			l.epochs = slices.Delete(l.epochs, i, i+1)
			i--
		}
	}
	return nil
}

// Size returns the row count and the byte size of the epochs numbered above after, and the time of their oldest append.
// updated is the time of the log's last append.
func (l *Log) Size(after int64) (rows, bytes int64, oldest, updated time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size(after)
}

func (l *Log) size(after int64) (rows, bytes int64, oldest, updated time.Time) {
	for _, e := range l.epochs {
		if e.number <= after {
			continue
		}
		rows += e.rows
		bytes += e.bytes
		if oldest.IsZero() || e.oldest.Before(oldest) {
			oldest = e.oldest
		}
	}
	return rows, bytes, oldest, l.updated
}

// Size returns the row count and the byte size of all logs, and the time of their oldest append.
func (s *Store) Size() (rows, bytes int64, oldest time.Time) {
	s.mu.Lock()
	logs := slices.Collect(maps.Values(s.logs))
	s.mu.Unlock()
	for _, l := range logs {
		r, b, o, _ := l.Size(-1)
		rows, bytes = rows+r, bytes+b
		if r > 0 && (oldest.IsZero() || o.Before(oldest)) {
			oldest = o
		}
	}
	return rows, bytes, oldest
}

// Versions returns the versions that puts in the epochs numbered from after+1 to upTo returned, in order and without
// duplicates.
func (l *Log) Versions(after, upTo int64) (versions []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.epochsIn(after, upTo) {
		versions = append(versions, e.versions...)
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

// Span describes rows of consecutive puts.
type Span struct {
	Rows        int64
	First, Last time.Time // times of the first and last put
}

// Spans returns the rows in the epochs from after+1 to upTo, divided by the millisecond of their put.
func (l *Log) Spans(after, upTo int64) (spans []Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.epochsIn(after, upTo) {
		for _, c := range e.counts {
			t := time.UnixMilli(c.millis).UTC()
			if n := len(spans); n > 0 && !t.After(spans[n-1].Last) {
				spans[n-1].Rows += c.rows
				continue
			}
			spans = append(spans, Span{c.rows, t, t})
		}
	}
	return spans
}

// cachedResult is a result that one reader computed from the log's rows, kept for later readers.
type cachedResult struct {
	key      string
	rows     arrow.RecordBatch // nil if nothing is cached
	replaces bool              // whether some of the rows replace rows in the table's files
	bytes    int64
}

// Fingerprint returns a string that changes when rows are added to or removed from the epochs numbered above after.
func (l *Log) Fingerprint(ctx context.Context, after int64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return "", err
	}
	rows, bytes, _, _ := l.size(after)
	return fmt.Sprintf("%d-%d-%d", after, rows, bytes), nil
}

// Cache drops the previous result. It stores a reader's result unless that takes more than half of the free memory.
// replaces says whether some of the rows replace rows in the table's files.
func (l *Log) Cache(key string, rows arrow.RecordBatch, replaces bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setCached(cachedResult{})
	if len(l.epochs) == 0 {
		return // the rows have been moved to the table's files in the meantime
	}
	if n := util.TotalRecordSize(rows); n <= (l.s.memory-l.s.usedBytes.Load())/2 {
		rows.Retain()
		l.setCached(cachedResult{key, rows, replaces, n})
	}
}

// Cached returns the result that Cache stored under key. The caller must release it.
func (l *Log) Cached(key string) (rows []arrow.RecordBatch, replaces, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cached.rows == nil || l.cached.key != key {
		l.setCached(cachedResult{}) // free an outdated result
		return nil, false, false
	}
	return take.Retain([]arrow.RecordBatch{l.cached.rows}), l.cached.replaces, true
}

func (l *Log) setCached(result cachedResult) {
	if l.cached.rows != nil {
		l.cached.rows.Release()
	}
	l.s.usedBytes.Add(result.bytes - l.cached.bytes)
	l.cached = result
}

func schemaMessage(schema *arrow.Schema) ([]byte, error) {
	p := ipc.GetSchemaPayload(schema, memory.DefaultAllocator)
	defer p.Release()
	var b bytes.Buffer
	_, err := p.WritePayload(&b)
	return b.Bytes(), err
}

// decode returns the schema and the record batches in Arrow IPC messages. The first message must begin with the schema.
func decode(messages ...[]byte) (schema *arrow.Schema, batches []arrow.RecordBatch, err error) {
	readers := make([]io.Reader, len(messages))
	for i, m := range messages {
		readers[i] = bytes.NewReader(m)
	}
	r, err := ipc.NewReader(io.MultiReader(readers...))
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	for r.Next() {
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	if err := r.Err(); err != nil {
		take.Release(batches)
		return nil, nil, err
	}
	return r.Schema(), batches, nil
}

// merge concatenates batches at the end of the list, so that each batch is at least twice as long as the next one. That
// way, repeated calls copy each row only a logarithmic number of times. merge releases the batches that it
// concatenates.
func merge(batches []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	start := len(batches) - 1
	for sum := int64(0); start >= 0; start-- {
		if n := batches[start].NumRows(); sum > 0 && n >= 2*sum {
			break
		}
		sum += batches[start].NumRows()
	}
	start++
	if len(batches)-start < 2 {
		return batches, nil
	}
	joined, err := take.Concat(batches[start:])
	if err != nil {
		return nil, err
	}
	take.Release(batches[start:])
	return append(batches[:start:start], joined), nil
}
