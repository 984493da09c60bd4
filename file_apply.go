package partd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-partd/partd/internal/names"
)

var (
	_ Applier      = (*File)(nil)
	_ SessionGuard = (*File)(nil)
)

// NewSession issues a session, of which every process that has the directory
// open knows. It survives kill -9, and with Sync a loss of power; without Sync
// it is over when the system is started anew. Of more than 8,192
// one is forgotten: that was not used, or longest ago. Drop keeps sessions; Python's drop, which removes the whole
// directory, ends them.
func (f *File) NewSession(ctx context.Context) (uint64, error) {
	var session uint64
	err := f.withSessions(ctx, "new session", func() (err error) {
		session, err = f.issueSession()
		return err
	})
	return session, err
}

// EndSession forgets a session; one that is not known is no error.
func (f *File) EndSession(ctx context.Context, session uint64) error {
	return f.withSessions(ctx, "end session", func() error {
		_, i, err := f.findSession(session)
		if errors.Is(err, ErrSessionExpired) {
			return nil
		}
		if err != nil {
			return err
		}
		return f.writeSlot(i, newSlot(0, lastOperation{}).seal(f.sync, f.boot))
	})
}

func (f *File) withSessions(ctx context.Context, op string, do func() error) error {
	if err := f.begin(ctx, true); err != nil {
		return f.fail(op, err)
	}
	defer f.end()
	err := f.writable()
	if err == nil {
		err = do()
	}
	if err == nil {
		return nil
	}
	return f.fail(op, err)
}

// fileTag is the tag of the operation under way: a slot of "%sessions" as it
// was, and as it will be. The record in "%undo" holds both. Whoever finishes the
// operation writes the one, whoever undoes it the other.
type fileTag struct {
	slot          uint64
	before, after *slot
	written       bool // the slot may no longer be as it was
}

const tagLen = 8 + 2*slotLen

func (t *fileTag) append(rec []byte) []byte {
	rec = binary.LittleEndian.AppendUint64(rec, t.slot)
	rec = append(rec, t.before[:]...)
	return append(rec, t.after[:]...)
}

func parseFileTag(b []byte) *fileTag {
	t := &fileTag{slot: binary.LittleEndian.Uint64(b), before: new(slot), after: new(slot)}
	copy(t.before[:], b[8:])
	copy(t.after[:], b[8+slotLen:])
	return t
}

// Apply applies an operation together with its tag, as one step, also when the
// process is killed, or with Sync when the power fails. Its errors are those of
// the operation.
func (f *File) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := checkOperation(tag, op); err != nil {
		return false, err
	}
	if err := f.begin(ctx, true); err != nil {
		return false, f.fail("apply", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return false, f.fail("apply", err)
	}
	isNext, err := f.beginTag(tag)
	if err != nil || !isNext {
		if err != nil {
			err = f.fail("apply", err)
		}
		return false, err
	}
	defer func() { f.tag = nil }()
	switch op.Change {
	case ChangeAppend:
		err = f.append(ctx, op.Entries)
	case ChangeSet, ChangeSetOnce:
		e := op.Entries[0]
		if err = f.applySet(ctx, e.Key, e.Value, op.Change == ChangeSetOnce); err != nil {
			err = f.failKey("set", e.Key, err)
		}
	case ChangeDelete:
		if err = f.deleteKeys(ctx, op.Keys); err != nil {
			err = f.fail("delete", err)
		}
	case ChangeDrop:
		if err = f.drop(ctx); err != nil {
			err = f.fail("drop", err)
		}
	}
	return err == nil, err
}

// beginTag looks the tag up, and prepares f.tag for an operation that is the
// next one of its session.
func (f *File) beginTag(tag Tag) (isNext bool, err error) {
	before, i, err := f.findSession(tag.Session)
	if err != nil {
		return false, err
	}
	if isNext, err = before.last().isNext(tag); err != nil || !isNext && !f.hooks.noTag {
		return false, err
	}
	if !f.sync && before.synced() {
		// Else a loss of power could bring back a slot that counts, and is older
		// than the data.
		before.seal(false, f.boot)
		if err := f.writeSlot(i, before); err != nil {
			return false, err
		}
		if err := f.syncSessions(); err != nil {
			return false, err
		}
	}
	after := newSlot(tag.Session, lastOperation{tag.Number, tag.CRC})
	if f.sessions.head != nil {
		copy(after[slotUsedAt:], f.sessions.head[8:12])
	}
	after.seal(f.sync, f.boot)
	f.tag = &fileTag{slot: i, before: before, after: after}
	return true, nil
}

// commitTag notes that the operation under way was applied. The record still
// holds then: it is what makes this and the operation one step.
func (f *File) commitTag() error {
	if f.tag == nil {
		return nil
	}
	f.tag.written = true
	return f.writeSlot(f.tag.slot, f.tag.after)
}

// commitNothing notes that an operation which changes no file was applied. With
// a record, as for any other: a slot that is written in part is no session's.
func (f *File) commitNothing(ctx context.Context) error {
	if f.tag == nil {
		return nil
	}
	err := f.append(ctx, nil)
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Err // the caller says what it was
	}
	return err
}

// takeBackTag undoes commitTag.
func (f *File) takeBackTag() error {
	if f.tag == nil || !f.tag.written {
		return nil
	}
	return f.writeSlot(f.tag.slot, f.tag.before)
}

// finishTag writes the slot of a record whose operation was undone or finished.
func (f *File) finishTag(r *record, applied bool) error {
	if r.tag == nil {
		return nil
	}
	if err := f.openSessions(false); err != nil {
		return err
	}
	if f.sessions.file == nil { // whoever removed it ended all sessions
		return nil
	}
	s := r.tag.before
	if applied {
		s = r.tag.after
	}
	_, err := f.sessions.file.WriteAt(s[:], int64(r.tag.slot*slotLen))
	return err // syncFinished syncs it
}

// applySet is Set and SetOnce with a tag. That they are one step takes a record,
// which the renaming of a file by itself does not.
func (f *File) applySet(ctx context.Context, key string, value []byte, once bool) error {
	name := f.scheme.Name(key)
	info, err := f.fs.Info(f.path(name))
	switch {
	case err == nil && !info.Mode.IsRegular():
		return errNotRegular
	case err == nil && once:
		return f.commitNothing(ctx)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := f.forgetKey(key); err != nil {
		return err
	}
	isNew := err != nil
	if err := f.writeKeyFile(key, name); err != nil {
		return err
	}
	staged, err := f.stage(value)
	if err != nil {
		return f.notSet(name, isNew, err)
	}
	if !f.hooks.noUndo {
		rec := appendName(newRecord(nil), name)
		rec = binary.LittleEndian.AppendUint64(rec, staged.Ino)
		rec = binary.LittleEndian.AppendUint64(rec, uint64(staged.Size))
		rec = binary.LittleEndian.AppendUint64(rec, uint64(staged.MTime))
		if err := f.writeRecord(f.seal(rec, kindSet, 1)); err != nil {
			return f.notSet(name, isNew, fmt.Errorf("noting it in %s: %w", names.Journal, err))
		}
	}
	if err := f.moveStaged(name); err != nil {
		if errors.Is(err, errLockLost) { // nothing more may be written
			return err
		}
		if _, statErr := f.fs.Info(f.path(names.Temp)); statErr == nil && f.clearRecord() == nil {
			return f.notSet(name, isNew, err) // it was not renamed, and will not be
		}
		f.replay = true
		return unknown(err)
	}
	if err := f.commitTag(); err != nil {
		f.replay = true
		return unknown(err)
	}
	if err := f.clearRecord(); err != nil {
		return unknown(err)
	}
	return nil
}

// redoSet finishes a Set with a tag. It tells whether the new value is in place: a
// loss of power may have taken the temporary file's name away, and then the Set
// has not happened.
func (f *File) redoSet(r *record, s *span) (bool, error) {
	staged, err := f.fs.Info(f.path(names.Temp))
	if err == nil && staged.Ino == s.ino {
		return true, f.moveStaged(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !f.otherBoot(r) {
		return true, nil // only moving it can have taken it away
	}
	info, err := f.fs.Info(f.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Ino == s.ino, err
}
