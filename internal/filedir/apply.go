package filedir

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/sessiontab"
)

// sessionTag is the tag of the operation under way: a slot of "%sessions" as it
// was, and as it will be. The record in "%undo" holds both. Whoever finishes the
// operation writes the one, whoever undoes it the other.
type sessionTag struct {
	slot          uint64
	before, after *slot
	written       bool // the slot may no longer be as it was
}

const tagLen = 8 + 2*slotLen

func (t *sessionTag) append(rec []byte) []byte {
	rec = binary.LittleEndian.AppendUint64(rec, t.slot)
	rec = append(rec, t.before[:]...)
	return append(rec, t.after[:]...)
}

// Apply makes one change, if it is the next of a session, together with its tag,
// as one step, also when the process is killed, or with Sync when the power fails.
func (d Tx) Apply(session uint64, op sessiontab.Operation, change func() error) (applied bool, err error) {
	isNext, err := d.beginTag(session, op)
	if err != nil || !isNext {
		return false, err
	}
	defer func() { d.tag = nil }()
	err = change()
	return err == nil, err
}

// beginTag looks the session up, and prepares d.tag for an operation that is the
// next one of it.
func (d *Dir) beginTag(session uint64, op sessiontab.Operation) (isNext bool, err error) {
	before, i, err := d.findSession(session)
	if err != nil {
		return false, err
	}
	if isNext, err = before.last().IsNext(session, op); err != nil || !isNext && !d.Hooks.NoTag {
		return false, err
	}
	if !d.sync && before.synced() {
		// Else a loss of power could bring back a slot that counts, and is older
		// than the data.
		if err := d.unseal(i, before); err != nil {
			return false, err
		}
	}
	after := newSlot(session, op)
	if d.sessions.head != nil {
		copy(after[slotUsedAt:], d.sessions.head[8:12])
	}
	after.seal(d.sync, d.boot)
	d.tag = &sessionTag{slot: i, before: before, after: after}
	return true, nil
}

// commitTag notes that the operation under way was applied. The record still
// holds then: it is what makes this and the operation one step.
func (d *Dir) commitTag() error {
	if d.tag == nil {
		return nil
	}
	d.tag.written = true
	return d.writeSlot(d.tag.slot, d.tag.after)
}

// commit notes that an operation was carried out, which is not to be undone.
func (d *Dir) commit(noted bool) error {
	if err := d.commitTag(); err != nil {
		d.replay = true
		return unknown(err)
	}
	if !noted {
		return nil
	}
	return unknown(d.clearRecord())
}

// commitNothing notes that an operation which changes no file was applied. With
// a record, as for any other: a slot that is written in part is no session's.
func (d Tx) commitNothing(ctx context.Context) error {
	if d.tag == nil {
		return nil
	}
	return d.Append(ctx, Entries{})
}

// finishTag writes the slot of a record whose operation was undone or finished.
func (d *Dir) finishTag(r *record, applied bool) error {
	if r.tag == nil {
		return nil
	}
	if err := d.openSessions(false); err != nil {
		return err
	}
	if d.sessions.file == nil { // whoever removed it ended all sessions
		return nil
	}
	s := r.tag.before
	if applied {
		s = r.tag.after
	}
	_, err := d.sessions.file.WriteAt(s[:], int64(r.tag.slot*slotLen))
	return err // syncFinished syncs it
}

// setTagged is the end of a Set with a tag. That they are one step takes a record,
// which the renaming of a file by itself does not.
func (d *Dir) setTagged(name string, value []byte, isNew bool) error {
	staged, err := d.stage(value)
	if err != nil {
		return d.notSet(name, isNew, err)
	}
	rec := appendFile(newRecord(nil), name, staged)
	if err := d.writeRecord(d.seal(rec, kindSet, 1)); err != nil {
		return d.notSet(name, isNew, err)
	}
	if err := d.moveStaged(name); err != nil {
		if errors.Is(err, errLockLost) { // nothing more may be written
			return err
		}
		if _, statErr := d.fs.Info(d.path(names.Temp)); statErr == nil && d.clearRecord() == nil {
			return d.notSet(name, isNew, err) // it was not renamed, and will not be
		}
		d.replay = true
		return unknown(err)
	}
	return d.commit(true)
}

// redoSet finishes a Set with a tag. It reports whether the new value is in place: a
// loss of power may have taken the temporary file's name away, and then the Set
// has not happened.
func (d *Dir) redoSet(r *record, s *span) (bool, error) {
	staged, err := d.fs.Info(d.path(names.Temp))
	if err == nil && staged.Ino == s.ino {
		return true, d.moveStaged(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !d.otherBoot(r) {
		return true, nil // only moving it can have taken it away
	}
	info, err := d.fs.Info(d.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Ino == s.ino, err
}
