package logstore

import (
	"context"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// storeOp is a change that takes effect atomically, either by one record in the write-ahead
// log or by one new manifest.
type storeOp interface {
	// size returns an upper bound on the size of the operation's batch, in bytes.
	size(enc *encoder) int64
	// isEmpty reports whether the operation is certain to change nothing.
	isEmpty() bool
	// prepare is called with Store.mu held, right before the write. It can read the store to
	// decide which entries to write. hasChanged reports whether method each now yields other entries.
	prepare(ctx context.Context, j *journal, vs *views) (hasChanged bool, err error)
	// each calls f for each entry of the operation. Before prepare, it yields every entry
	// that the operation could write.
	each(f func(kind segment.Kind, key string, value []byte) error) error
}

type appendOp []partd.Entry

// sessionOp issues or ends a session. Its record has no entries.
type sessionOp struct {
	kind    recordType
	session uint64
}

func (op *sessionOp) isEmpty() bool { return false }

func (op *sessionOp) size(*encoder) int64 { return recordPrefix }

func (op *sessionOp) each(func(segment.Kind, string, []byte) error) error { return nil }

func (op *sessionOp) prepare(_ context.Context, j *journal, vs *views) (bool, error) {
	if op.kind == recordSession {
		op.session = j.sessions.issued + 1
	}
	return false, nil
}

func (op appendOp) size(enc *encoder) int64 { return enc.maxEncodedLen(op) }

func (op appendOp) prepare(context.Context, *journal, *views) (bool, error) { return false, nil }

func (op appendOp) isEmpty() bool {
	return !slices.ContainsFunc(op, func(e partd.Entry) bool { return len(e.Value) > 0 })
}

func (op appendOp) each(f func(segment.Kind, string, []byte) error) error {
	for i := range op {
		if len(op[i].Value) == 0 {
			continue
		}
		if err := f(segment.KindAppend, op[i].Key, op[i].Value); err != nil {
			return err
		}
	}
	return nil
}

type setOp struct {
	key   string
	value []byte
	once  bool
	skip  bool // set by prepare: the key exists, so nothing is written
}

func (op *setOp) isEmpty() bool { return false }

func (op *setOp) size(enc *encoder) int64 {
	return enc.maxEncodedLen([]partd.Entry{{Key: op.key, Value: op.value}, {Key: op.key}})
}

func (op *setOp) prepare(ctx context.Context, j *journal, vs *views) (bool, error) {
	if !op.once {
		return false, nil
	}
	_, exists, err := vs.get(ctx, []string{op.key}, false)
	op.skip = err == nil && exists[0]
	return op.skip, err
}

func (op *setOp) each(f func(segment.Kind, string, []byte) error) error {
	if op.skip {
		return nil
	}
	return f(segment.KindSet, op.key, op.value)
}

// deleteOp deletes keys that exist.
type deleteOp struct {
	keys      []string
	exists    []bool // whether each key exists; nil means that all may exist
	editCount uint64 // journal.editCount before the lookup
	prepared  bool   // exists is final
}

func (op *deleteOp) isEmpty() bool {
	return len(op.keys) == 0 || op.exists != nil && !slices.Contains(op.exists, true)
}

// prepare looks up absent keys again if the store has changed since newDeleteOp. If newDeleteOp
// found no key at all, prepare does not look again: the delete counts as done at the time of that
// lookup.
func (op *deleteOp) prepare(ctx context.Context, j *journal, vs *views) (bool, error) {
	op.prepared = true
	var absent []string
	for i, exists := range op.exists {
		if !exists {
			absent = append(absent, op.keys[i])
		}
	}
	if len(absent) == 0 {
		return false, nil
	}
	if op.editCount == j.editCount || op.isEmpty() {
		return true, nil
	}
	_, exists, err := vs.get(ctx, absent, false)
	if err != nil {
		op.exists = nil
		return false, nil
	}
	for i := range op.exists {
		if !op.exists[i] {
			op.exists[i], exists = exists[0], exists[1:]
		}
	}
	return true, nil
}

func (op *deleteOp) size(*encoder) int64 {
	n := int64(recordPrefix)
	if op.isEmpty() {
		return n
	}
	for _, k := range op.keys {
		n += int64(len(k)) + 8 + entryOverhead
	}
	return n
}

func (op *deleteOp) each(f func(segment.Kind, string, []byte) error) error {
	for i, k := range op.keys {
		if op.prepared && op.exists != nil && !op.exists[i] {
			continue
		}
		if err := f(segment.KindDelete, k, nil); err != nil {
			return err
		}
	}
	return nil
}

type popOp struct {
	deleteOp
	values [][]byte
}

func (op *popOp) isEmpty() bool { return len(op.keys) == 0 }

// prepare reads the values. mu is held until the keys are deleted, so no append in between is
// lost.
func (op *popOp) prepare(ctx context.Context, j *journal, vs *views) (bool, error) {
	values, exists, err := vs.get(ctx, op.keys, true)
	if err != nil {
		return false, err
	}
	op.values, op.exists, op.prepared = values, exists, true
	return true, nil
}

func (enc *encoder) encode(b *batch, op storeOp) error {
	if entries, ok := op.(appendOp); ok {
		return enc.encodeAppend(b, entries)
	}
	err := op.each(func(kind segment.Kind, key string, value []byte) error {
		return enc.encodeEntry(b, kind, key, value, enc.format.Hash(key))
	})
	b.checksum()
	return err
}
