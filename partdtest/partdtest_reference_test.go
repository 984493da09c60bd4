package partdtest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// reference is a simple store. If fault is not empty, it breaks the promise that fault describes.
type reference struct {
	fault  string
	calls  atomic.Int64 // number of calls of ScanPart
	disk   *disk
	closed bool // guarded by disk.mu

	flushErr error // of the last Flush
}

// disk is the data of a reference store, which survives reopening.
type disk struct {
	mu      sync.Mutex
	values  map[string][]byte
	opCount int // number of operations

	applying sync.Mutex // held by Apply; locked before mu
	sessions sessions
}

func newReference(fault string) *reference {
	return &reference{fault: fault, disk: &disk{values: map[string][]byte{}}}
}

func reopened(store partd.Partd) partd.Partd {
	r := store.(*reference)
	_ = r.Close()
	if r.fault == "forgets on reopen" {
		return newReference(r.fault)
	}
	r.disk.sessions = r.disk.sessions.reopened(r.fault)
	return &reference{fault: r.fault, disk: r.disk}
}

// begin locks the store for an operation, unless it returns an error.
func (r *reference) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		switch r.fault {
		case "ignores the context":
		case "returns no cause":
			return err
		case "returns only the cause":
			return context.Cause(ctx)
		case "adopts the cause's outcome":
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		default:
			return storekit.ContextError(ctx)
		}
	}
	r.disk.mu.Lock()
	if r.closed && r.fault != "works when closed" {
		r.disk.mu.Unlock()
		return partd.ErrClosed
	}
	r.disk.opCount++
	return nil
}

// name returns the name under which the store keeps a key: the key itself, unless a fault changes it.
func (r *reference) name(key string) string {
	switch r.fault {
	case "folds case":
		return strings.ToLower(key)
	case "sanitises":
		return strings.Map(func(c rune) rune {
			if strings.ContainsRune("!\"|',:;?*", c) {
				return -1
			}
			return c
		}, key)
	case "cuts at nul":
		key, _, _ = strings.Cut(key, "\x00")
	case "makes valid utf-8":
		key = strings.ToValidUTF8(key, "\ufffd")
	case "cuts long keys":
		key = key[:min(len(key), 255)]
	case "cleans paths":
		return strings.ReplaceAll(strings.ReplaceAll(key, "/./", "/"), "//", "/")
	case "keeps the caller's key":
		return key
	}
	return strings.Clone(key)
}

func (r *reference) BatchBytes() int {
	if r.fault == "recommends batches without bytes" {
		return 0
	}
	return 1 << 20
}

func (r *reference) Append(ctx context.Context, entries ...partd.Entry) error {
	if r.fault == "recommends batches that it rejects" && entries[0].Key == "recommended" && len(entries[0].Value) > 1<<19 {
		return partd.ErrTooLarge
	}
	if _, err := storekit.CheckEntries("append", entries); err != nil && r.fault != "has no limit" {
		if r.fault == "applies half of rejected appends" {
			_ = r.Append(ctx, entries[0])
		}
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.disk.mu.Unlock()
	for i, e := range entries {
		key := r.name(e.Key)
		switch {
		case r.fault == "drops an append" && r.disk.opCount%19 == 0,
			r.fault == "drops a key's second entry in a batch" && i > 0 && entries[i-1].Key == e.Key:
			continue
		case r.fault == "changes the caller's values" && len(e.Value) > 0:
			e.Value = slices.Clone(e.Value)
			entries[i].Value[0] ^= 0xff
		case r.fault == "repeats an append" && r.disk.opCount%19 == 0:
			r.disk.values[key] = append(r.disk.values[key], e.Value...)
		case r.fault == "prepends":
			r.disk.values[key] = slices.Concat(e.Value, r.disk.values[key])
			continue
		case r.fault == "keeps the caller's slice" && r.disk.values[key] == nil && len(e.Value) > 0:
			r.disk.values[key] = e.Value
			continue
		case r.fault == "loses under concurrency" || r.fault == "tears under concurrency":
			r.appendInTwoSteps(key, e.Value)
			continue
		case len(e.Value) == 0 && r.fault != "an empty append creates a key":
			continue
		}
		r.disk.values[key] = append(slices.Clip(r.disk.values[key]), e.Value...)
	}
	return nil
}

// appendInTwoSteps appends a value, and lets other goroutines run between its two steps.
func (r *reference) appendInTwoSteps(key string, value []byte) {
	old := r.disk.values[key]
	if len(value) == 0 {
		return
	}
	half := 0
	if r.fault == "tears under concurrency" {
		half = len(value) / 2
		r.disk.values[key] = append(slices.Clip(old), value[:half]...)
	}
	r.letOthersRun()
	if r.fault == "tears under concurrency" {
		old = r.disk.values[key]
	}
	r.disk.values[key] = append(slices.Clip(old), value[half:]...)
}

func (r *reference) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.disk.mu.Unlock()
	return r.get(keys), nil
}

func (r *reference) get(keys []string) [][]byte {
	values := make([][]byte, 0, len(keys))
	if r.fault == "Get sorts its keys" {
		keys = slices.Sorted(slices.Values(keys))
	}
	first := map[string][]byte{}
	for _, k := range keys {
		v := r.disk.values[r.name(k)]
		if r.fault != "returns its own memory" {
			v = bytes.Clone(v)
		}
		if _, twice := first[k]; twice && r.fault == "returns the same memory twice" {
			v = first[k]
		}
		first[k] = v
		if r.fault == "Get creates keys" {
			r.disk.values[r.name(k)] = append(r.disk.values[r.name(k)], []byte{}...)
			if r.disk.values[r.name(k)] == nil {
				r.disk.values[r.name(k)] = []byte{}
			}
		}
		values = append(values, v)
	}
	return values
}

func (r *reference) Drop(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.disk.mu.Unlock()
	switch r.fault {
	case "ignores Drop":
	case "Drop leaves a key":
		maps.DeleteFunc(r.disk.values, func(k string, _ []byte) bool { return k != "key 1" })
	case "Drop restores old data":
		before := maps.Clone(r.disk.values)
		clear(r.disk.values)
		r.letOthersRun()
		for k, v := range r.disk.values {
			r.disk.values[k] = slices.Concat(before[k], v)
		}
	default:
		clear(r.disk.values)
	}
	return nil
}

func (r *reference) Stat(ctx context.Context) (partd.Stats, error) {
	if err := r.begin(ctx); err != nil {
		return partd.Stats{}, err
	}
	defer r.disk.mu.Unlock()
	s := partd.Stats{Keys: int64(len(r.disk.values))}
	for k, v := range r.disk.values {
		s.Bytes += int64(len(v))
		if r.fault == "Stat counts keys' bytes" {
			s.Bytes += int64(len(k))
		}
	}
	return s, nil
}

func (r *reference) Sync(ctx context.Context) error { return r.checkOpen(ctx) }

func (r *reference) Flush(ctx context.Context) error {
	if r.fault == "Flush forgets" {
		return r.Drop(ctx)
	}
	r.flushErr = r.checkOpen(ctx)
	return r.flushErr
}

func (r *reference) checkOpen(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	r.disk.mu.Unlock()
	return nil
}

func (r *reference) Close() error {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if r.closed && r.fault == "second Close fails" {
		return fmt.Errorf("already closed")
	}
	if r.fault == "stays open after a failed Flush" && r.flushErr != nil {
		return r.flushErr
	}
	r.closed = true
	return nil
}

func (r *reference) snapshot(ctx context.Context) (map[string][]byte, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.disk.mu.Unlock()
	return maps.Clone(r.disk.values), nil
}

func (r *reference) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		values, err := r.snapshot(ctx)
		if err != nil {
			yield(partd.KeyInfo{}, err)
			return
		}
		if r.fault == "Keys locks" {
			r.disk.mu.Lock()
			defer r.disk.mu.Unlock()
		}
		for k, v := range values {
			info := partd.KeyInfo{Key: k, Size: int64(len(v))}
			switch {
			case r.fault == "Keys hides empty values" && len(v) == 0:
				continue
			case r.fault == "Keys has wrong sizes":
				info.Size += int64(len(k))
			case r.fault == "Keys duplicates" && !yield(info, nil):
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// letOthersRun unlocks r.disk.mu, which must be held, for a moment.
func (r *reference) letOthersRun() {
	r.disk.mu.Unlock()
	pause()
	r.disk.mu.Lock()
}
