package filedir

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/sessiontab"
)

// sessionTag is the tag of the current operation: a slot of "%sessions" before and after
// the operation. The undo record holds both. Finishing the operation writes after, and
// undoing it writes before.
type sessionTag struct {
	slot          uint64
	before, after *slot
	written       bool // the slot may have changed
}

const tagLen = 8 + 2*slotLen

func (t *sessionTag) append(rec []byte) []byte {
	rec = binary.LittleEndian.AppendUint64(rec, t.slot)
	rec = append(rec, t.before[:]...)
	return append(rec, t.after[:]...)
}

// Apply makes a change, if it is the session's next one, and records its tag in one step,
// even if the process is killed, or with Sync if the power fails.
func (d Tx) Apply(session uint64, op sessiontab.Operation, change func() error) (applied bool, err error) {
	isNext, err := d.beginTag(session, op)
	if err != nil || !isNext {
		return false, err
	}
	defer func() { d.tag = nil }()
	err = change()
	return err == nil, err
}

// beginTag looks up the session, and sets d.tag if the operation is the session's next.
func (d *Dir) beginTag(session uint64, op sessiontab.Operation) (isNext bool, err error) {
	before, i, err := d.findSession(session)
	if err != nil {
		return false, err
	}
	if isNext, err = before.lastOperation().IsNext(session, op); err != nil || !isNext && !d.Hooks.NoTag {
		return false, err
	}
	if !d.sync && before.synced() {
		// Otherwise a loss of power could restore a valid slot that is older than
		// the data.
		if err := d.unseal(i, before); err != nil {
			return false, err
		}
	}
	after := newSlot(session, op)
	if d.sessions.head != nil {
		copy(after[slotUsedOffset:], d.sessions.head[8:12])
	}
	after.seal(d.sync, d.boot)
	d.tag = &sessionTag{slot: i, before: before, after: after}
	return true, nil
}

// commitTag records that the current operation was applied. The undo record must still
// be valid: it makes the tag and the operation one step.
func (d *Dir) commitTag() error {
	if d.tag == nil {
		return nil
	}
	d.tag.written = true
	return d.writeSlot(d.tag.slot, d.tag.after)
}

// commit completes an operation that must not be undone. hasRecord reports whether it has
// a record to clear.
func (d *Dir) commit(hasRecord bool) error {
	if err := d.commitTag(); err != nil {
		d.replay = true
		return unknownOutcome(err)
	}
	if !hasRecord {
		return nil
	}
	return unknownOutcome(d.clearRecord())
}

// commitNothing records the tag of an operation that changes no file. It needs an undo
// record like any other, because a partly written slot would end the session.
func (d Tx) commitNothing(ctx context.Context) error {
	if d.tag == nil {
		return nil
	}
	return d.Append(ctx, Entries{})
}

// finishTag writes the slot from a record whose operation was finished (applied) or undone.
func (d *Dir) finishTag(r *record, applied bool) error {
	if r.tag == nil {
		return nil
	}
	if err := d.openSessions(false); err != nil {
		return err
	}
	if d.sessions.file == nil { // the process that removed it ended all sessions
		return nil
	}
	s := r.tag.before
	if applied {
		s = r.tag.after
	}
	_, err := d.sessions.file.WriteAt(s[:], int64(r.tag.slot*slotLen))
	return err // synced by syncFinished
}

// setTagged completes a Set with a tag. The rename is atomic by itself, but the rename and
// the tag together need a record.
func (d *Dir) setTagged(name string, value []byte, isNew bool) error {
	staged, err := d.stage(value)
	if err != nil {
		return d.cleanUpSet(name, isNew, err)
	}
	rec := appendFile(newRecord(nil), name, staged)
	if err := d.writeRecord(d.seal(rec, kindSet, 1)); err != nil {
		return d.cleanUpSet(name, isNew, err)
	}
	if err := d.moveStaged(name); err != nil {
		if errors.Is(err, errLockLost) { // the directory may be another process's
			return err
		}
		if _, statErr := d.fs.Info(d.path(names.Temp)); statErr == nil && d.clearRecord() == nil {
			return d.cleanUpSet(name, isNew, err) // it was not renamed, and will not be
		}
		d.replay = true
		return unknownOutcome(err)
	}
	return d.commit(true)
}

// redoSet finishes a Set with a tag, and reports whether the new value is in place. If a
// loss of power removed the temporary file's name, the Set did not happen.
func (d *Dir) redoSet(r *record, s *span) (bool, error) {
	staged, err := d.fs.Info(d.path(names.Temp))
	if err == nil && staged.Ino == s.ino {
		return true, d.moveStaged(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !d.mayHaveRebooted(r) {
		return true, nil // only moving the file can have removed the name
	}
	info, err := d.fs.Info(d.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Ino == s.ino, err
}
