package logstore

import (
	"context"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

type appendOp []partd.Entry

// sessionOp issues or ends a session. Its record has no entries.
type sessionOp struct {
	kind    recordType
	session uint64
}

func (op *sessionOp) isEmpty() bool { return false }

func (op *sessionOp) size(*Store) int64 { return recordPrefix }

func (op *sessionOp) each(func(segment.Kind, string, []byte) error) error { return nil }

func (op *sessionOp) prepare(_ context.Context, s *Store) (bool, error) {
	if op.kind == recordSession {
		op.session = s.sessions.issued + 1
	}
	return false, nil
}

func (op appendOp) size(s *Store) int64 { return s.maxEncodedLen(op) }

func (op appendOp) prepare(context.Context, *Store) (bool, error) { return false, nil }

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

func (op *setOp) size(s *Store) int64 {
	return s.maxEncodedLen([]partd.Entry{{Key: op.key, Value: op.value}, {Key: op.key}})
}

func (op *setOp) prepare(ctx context.Context, s *Store) (bool, error) {
	if !op.once {
		return false, nil
	}
	_, exists, err := s.getLocked(ctx, []string{op.key}, false)
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
	editCount uint64 // Store.editCount before the lookup
	prepared  bool   // exists is final
}

// newDeleteOp returns an operation that deletes keys. It looks up which keys exist, without
// blocking other calls. If it cannot read the keys, it assumes that they exist, so that damaged
// keys can be deleted.
func (s *Store) newDeleteOp(ctx context.Context, keys []string) *deleteOp {
	op := &deleteOp{keys: keys}
	if len(keys) == 0 {
		return op
	}
	s.mu.Lock()
	op.editCount = s.editCount
	s.mu.Unlock()
	exists := make([]bool, len(keys))
	if s.lookUp(ctx, "delete", keys, nil, exists) == nil {
		op.exists = exists
	}
	return op
}

func (op *deleteOp) isEmpty() bool {
	return len(op.keys) == 0 || op.exists != nil && !slices.Contains(op.exists, true)
}

// prepare looks up absent keys again if the store has changed since newDeleteOp. If newDeleteOp
// found no key at all, prepare does not: the delete then took effect at that time.
func (op *deleteOp) prepare(ctx context.Context, s *Store) (bool, error) {
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
	if op.editCount == s.editCount || op.isEmpty() {
		return true, nil
	}
	_, exists, err := s.getLocked(ctx, absent, false)
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

func (op *deleteOp) size(*Store) int64 {
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
func (op *popOp) prepare(ctx context.Context, s *Store) (bool, error) {
	values, exists, err := s.getLocked(ctx, op.keys, true)
	if err != nil {
		return false, err
	}
	op.values, op.exists, op.prepared = values, exists, true
	return true, nil
}
