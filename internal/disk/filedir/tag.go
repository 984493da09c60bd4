package filedir

import (
	"encoding/binary"

	"github.com/go-partd/partd/internal/base/sessiontab"
)

// sessionTag describes how an operation changes its session's slot in the file "%sessions". The new
// slot records that the operation was applied, so that it is not applied twice if a client sends it
// again.
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

// beginTag looks up the session and sets t.tag if op is the session's next operation.
func (t *sessionFile) beginTag(session uint64, op sessiontab.Operation) (isNext bool, err error) {
	oldSlot, i, err := t.find(session)
	if err != nil {
		return false, err
	}
	isNext, err = oldSlot.lastOperation().IsNext(session, op)
	if err != nil || !isNext {
		return false, err
	}
	if !t.sync && oldSlot.synced() {
		// Otherwise a power loss could restore the old slot but keep the data: op could run twice.
		if err := t.unseal(i, oldSlot); err != nil {
			return false, err
		}
	}
	updatedSlot := newSlot(session, op)
	if t.head != nil {
		copy(updatedSlot[slotUsedOffset:], t.head[8:12])
	}
	updatedSlot.seal(t.sync, t.boot)
	t.tag = &sessionTag{slot: i, oldSlot: oldSlot, newSlot: updatedSlot}
	return true, nil
}

// commitTag records that the current operation was applied. Call it before journal.clear, so that the
// tag and the operation take effect together.
func (t *sessionFile) commitTag() error {
	if t.tag == nil {
		return nil
	}
	t.tag.mayBeWritten = true
	return t.writeSlot(t.tag.slot, t.tag.newSlot)
}

// undoTag restores the session's slot after a failed operation.
func (t *sessionFile) undoTag() error {
	if t.tag == nil || !t.tag.mayBeWritten {
		return nil
	}
	return t.writeSlot(t.tag.slot, t.tag.oldSlot)
}

// finishTag writes the session's slot after the operation of tag was completed (applied) or undone.
func (t *sessionFile) finishTag(tag *sessionTag, applied bool) error {
	if tag == nil {
		return nil
	}
	if err := t.open(false); err != nil {
		return err
	}
	if t.file == nil { // the file was removed, which ended all sessions
		return nil
	}
	s := tag.oldSlot
	if applied {
		s = tag.newSlot
	}
	_, err := t.file.WriteAt(s[:], int64(tag.slot*slotLen))
	return err // syncFinished will sync the file
}
