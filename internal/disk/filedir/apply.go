package filedir

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/names"
)

// sessionTag describes the change of a session's slot in the file "%sessions" by an operation. The
// new slot records that the operation was applied. If a client sends the operation again, it is
// therefore not applied again.
type sessionTag struct {
	slot             uint64
	oldSlot, newSlot *slot
	mayBeWritten     bool // the slot may have changed
}

const tagLen = 8 + 2*slotLen

func (t *sessionTag) append(rec []byte) []byte {
	rec = binary.LittleEndian.AppendUint64(rec, t.slot)
	rec = append(rec, t.oldSlot[:]...)
	return append(rec, t.newSlot[:]...)
}

// Apply does nothing unless op is the session's next operation. Otherwise it calls change and marks
// op as applied. Both take effect or neither does, even after a crash or, with Sync, a power loss.
func (d Tx) Apply(session uint64, op sessiontab.Operation, change func() error) (applied bool, err error) {
	isNext, err := d.beginTag(session, op)
	if err != nil || !isNext {
		return false, err
	}
	defer func() { d.tag = nil }()
	err = change()
	return err == nil, err
}

// beginTag looks up the session, and sets d.tag if op is the session's next operation.
func (d *Dir) beginTag(session uint64, op sessiontab.Operation) (isNext bool, err error) {
	oldSlot, i, err := d.findSession(session)
	if err != nil {
		return false, err
	}
	if isNext, err = oldSlot.lastOperation().IsNext(session, op); err != nil || !isNext {
		return false, err
	}
	if !d.sync && oldSlot.synced() {
		// Otherwise a power loss could restore the old slot but keep the data: op could run twice.
		if err := d.unseal(i, oldSlot); err != nil {
			return false, err
		}
	}
	updatedSlot := newSlot(session, op)
	if d.sessions.head != nil {
		copy(updatedSlot[slotUsedOffset:], d.sessions.head[8:12])
	}
	updatedSlot.seal(d.sync, d.boot)
	d.tag = &sessionTag{slot: i, oldSlot: oldSlot, newSlot: updatedSlot}
	return true, nil
}

// commitTag records that the current operation was applied. Call it before clearRecord, so that the
// tag and the operation take effect together.
func (d *Dir) commitTag() error {
	if d.tag == nil {
		return nil
	}
	d.tag.mayBeWritten = true
	return d.writeSlot(d.tag.slot, d.tag.newSlot)
}

// commit ends a Delete, Drop or Set. hasRecord means that the journal has a record to clear.
func (d *Dir) commit(hasRecord bool) error {
	if err := d.commitTag(); err != nil {
		d.needsReplay = true
		return unknownOutcome(err)
	}
	if !hasRecord {
		return nil
	}
	return unknownOutcome(d.clearRecord())
}

// commitNothing records that an operation without changes was applied. It writes an undo record
// first, because a partly written slot would end the session.
func (d Tx) commitNothing(ctx context.Context) error {
	if d.tag == nil {
		return nil
	}
	return d.Append(ctx, Entries{})
}

// finishTag writes the session's slot after the operation of r was completed (applied) or undone.
func (d *Dir) finishTag(r *record, applied bool) error {
	if r.tag == nil {
		return nil
	}
	if err := d.openSessions(false); err != nil {
		return err
	}
	if d.sessions.file == nil { // the file was removed, which ended all sessions
		return nil
	}
	s := r.tag.oldSlot
	if applied {
		s = r.tag.newSlot
	}
	_, err := d.sessions.file.WriteAt(s[:], int64(r.tag.slot*slotLen))
	return err // syncFinished will sync the file
}

// setTagged sets a key and records that the operation was applied. It writes a record to the
// journal, because the rename and the write to the session's slot are not atomic together.
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
		if errors.Is(err, errLockLost) { // another process may use the directory
			return err
		}
		if _, statErr := d.fs.Info(d.path(names.Temp)); statErr == nil && d.clearRecord() == nil {
			return d.cleanUpSet(name, isNew, err) // the file was not renamed, and will not be
		}
		d.needsReplay = true
		return unknownOutcome(err)
	}
	return d.commit(true)
}

// redoSet completes an interrupted Set, and reports whether the new value is in place. If a power
// loss removed the temporary file, the old value stays.
func (d *Dir) redoSet(r *record, s *span) (bool, error) {
	staged, err := d.fs.Info(d.path(names.Temp))
	if err == nil && staged.Ino == s.ino {
		return true, d.moveStaged(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !d.mayHaveRebooted(r) {
		return true, nil // without a restart, only the rename can have removed the temporary file
	}
	info, err := d.fs.Info(d.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Ino == s.ino, err
}
