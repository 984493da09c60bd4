package filedir

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// The file "%sessions" records the last operation of each client session, so that an operation that
// is sent again is not applied twice. Its slots have 64 bytes, so that none crosses the end of a
// sector. Little-endian:
//
//	slot 0:     8 magic "partdses"
//	            8 the last issued session: the upper half is a random number, the
//	              same for all sessions of the file; the lower half is a counter
//	            4 number of slots for sessions, N
//	            16 secret for tokens
//	slots 1…N:  8 session, or 0; the slot's index is its counter modulo N, plus 1
//	            8 number of the last applied operation, or 0
//	            4 CRC of that operation's request
//	            4 counter of the last issued session when that operation was applied
//	each slot:  at offset 44 a byte: 1 if the slot and the data before it were synced
//	            at offset 48 8 bytes, hash of the system's boot id when the slot was written
//	            at offset 56 4 bytes, CRC-32C of bytes 0 to 55; then 4 bytes, zero
//
// An unsynced slot is valid only until the system restarts: after a power loss, the slot may be
// older than the data, so that an operation would be applied twice. If slot 0 is not valid, the
// counter restarts with another random number.
const (
	sessionsMagic    = "partdses"
	slotLen          = 64
	slotSecretOffset = 20
	slotUsedOffset   = 20
	slotSyncedOffset = 44
	slotBootOffset   = 48
	slotSumOffset    = 56
	sessionReadSize  = 32 << 10
	maxSlots         = 1 << 20 // slot 0 is not valid if its number of slots is greater
	maxProbed        = 1 << 10 // maximum number of slots to examine for a new session
)

type slot [slotLen]byte

func newSlot(session uint64, last sessiontab.Operation) *slot {
	s := new(slot)
	binary.LittleEndian.PutUint64(s[:], session)
	binary.LittleEndian.PutUint64(s[8:], last.Number)
	binary.LittleEndian.PutUint32(s[16:], last.CRC)
	return s
}

func (s *slot) session() uint64 { return binary.LittleEndian.Uint64(s[:]) }

func (s *slot) lastOperation() sessiontab.Operation {
	return sessiontab.Operation{Number: binary.LittleEndian.Uint64(s[8:]), CRC: binary.LittleEndian.Uint32(s[16:])}
}

func (s *slot) synced() bool { return s[slotSyncedOffset] == 1 }

// seal sets the slot's sync flag, boot id and checksum. It returns s.
func (s *slot) seal(synced bool, boot uint64) *slot {
	s[slotSyncedOffset] = 0
	if synced {
		s[slotSyncedOffset] = 1
	}
	binary.LittleEndian.PutUint64(s[slotBootOffset:], boot)
	binary.LittleEndian.PutUint32(s[slotSumOffset:], crc32.Checksum(s[:slotSumOffset], castagnoli))
	return s
}

// isValid reports whether the slot has a correct checksum and was either synced or written since the
// system started.
func (s *slot) isValid(boot uint64) bool {
	if crc32.Checksum(s[:slotSumOffset], castagnoli) != binary.LittleEndian.Uint32(s[slotSumOffset:]) {
		return false
	}
	slotBoot := binary.LittleEndian.Uint64(s[slotBootOffset:])
	return s.synced() || slotBoot != 0 && slotBoot == boot
}

// sessionFile is the file "%sessions", which stays open while the lock is held.
type sessionFile struct {
	*env
	tree  *tree
	file  vfs.File
	epoch uint64      // cache.epoch when the file was opened
	slots uint64      // number of slots for sessions
	head  *slot       // slot 0, or nil if it is not valid
	tag   *sessionTag // set if the current operation must not be applied twice
}

// open opens the file "%sessions". If the file does not exist and create is false, open leaves
// t.file nil.
func (t *sessionFile) open(create bool) error {
	if t.file != nil && t.epoch == t.tree.cache.epoch {
		return nil
	}
	if err := closeOnce(&t.file); err != nil {
		return err
	}
	file, err := t.tree.openOwn(t.path(names.Sessions), create)
	if err != nil || file == nil {
		return err
	}
	if _, err := regularInfo(file); err != nil {
		return err
	}
	t.file, t.epoch, t.head, t.slots = file, t.tree.cache.epoch, nil, uint64(cmp.Or(t.Hooks.Sessions, sessiontab.MaxSessions))
	head, err := t.readSlot(0)
	if err != nil {
		return errors.Join(err, closeOnce(&t.file))
	}
	n := uint64(binary.LittleEndian.Uint32(head[16:]))
	if head.isValid(t.boot) && string(head[:8]) == sessionsMagic && n > 0 && n <= maxSlots {
		t.head, t.slots = head, n
	}
	return nil
}

func (t *sessionFile) slotOf(session uint64) uint64 { return 1 + session&(1<<32-1)%t.slots }

// readSlot reads slot i. Bytes beyond the end of the file are zero.
func (t *sessionFile) readSlot(i uint64) (*slot, error) {
	s := new(slot)
	if _, err := t.file.ReadAt(s[:], int64(i*slotLen)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", t.path(names.Sessions), err)
	}
	return s, nil
}

func (t *sessionFile) writeSlot(i uint64, s *slot) error {
	if _, err := t.file.WriteAt(s[:], int64(i*slotLen)); err != nil {
		return fmt.Errorf("writing %s: %w", t.path(names.Sessions), err)
	}
	if t.sync {
		return t.syncFile()
	}
	return nil
}

// unseal marks a synced slot as unsynced, so that it becomes invalid if a power loss
// destroys the unsynced writes that follow.
func (t *sessionFile) unseal(i uint64, s *slot) error {
	if err := t.writeSlot(i, s.seal(false, t.boot)); err != nil {
		return err
	}
	return t.syncFile()
}

func (t *sessionFile) syncFile() error {
	if err := t.refuseWrites(t.file.Sync()); err != nil {
		return fmt.Errorf("syncing %s: %w", t.path(names.Sessions), err)
	}
	return nil
}

// find returns a session's slot and its index, or an error if the session has expired.
func (t *sessionFile) find(session uint64) (s *slot, i uint64, err error) {
	if err := t.open(false); err != nil {
		return nil, 0, err
	}
	if t.file == nil {
		return nil, 0, sessiontab.ExpiredError(session)
	}
	i = t.slotOf(session)
	s, err = t.readSlot(i)
	if err != nil {
		return nil, 0, err
	}
	if s.session() != session || !s.isValid(t.boot) {
		return nil, 0, sessiontab.ExpiredError(session)
	}
	return s, i, nil
}

// end forgets a session. Ending an unknown session is not an error.
func (t *sessionFile) end(session uint64) error {
	_, i, err := t.find(session)
	if errors.Is(err, storeerror.ErrSessionExpired) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.writeSlot(i, newSlot(0, sessiontab.Operation{}).seal(t.sync, t.boot))
}

// issue issues a session. If there are too many, it expires an unused session, or else the
// least recently used one.
func (t *sessionFile) issue() (uint64, error) {
	if err := t.open(true); err != nil {
		return 0, err
	}
	var issued uint64
	if t.head != nil {
		issued = binary.LittleEndian.Uint64(t.head[8:])
	}
	if t.head == nil || issued&(1<<32-1) > 1<<32-1-2*t.slots { // if the counter is near its end, expire all sessions
		issued = sessiontab.NewIncarnation()
	}
	session, err := t.freeSession(issued)
	if err != nil {
		return 0, err
	}
	head := new(slot)
	copy(head[:], sessionsMagic)
	binary.LittleEndian.PutUint64(head[8:], session)
	binary.LittleEndian.PutUint32(head[16:], uint32(t.slots))
	secret := t.secret()
	if secret == nil {
		secret = sessiontab.NewSecret()
	}
	copy(head[slotSecretOffset:], secret)
	if !t.sync && t.head != nil && t.head.synced() {
		// Without unseal, a power loss could restore the old slot, which would be valid.
		unsynced := *t.head
		if err := t.unseal(0, &unsynced); err != nil {
			return 0, err
		}
	}
	t.head = nil
	if err := t.writeSlot(0, head.seal(t.sync, t.boot)); err != nil {
		return 0, err
	}
	if err := t.writeSlot(t.slotOf(session), newSlot(session, sessiontab.Operation{}).seal(t.sync, t.boot)); err != nil {
		return 0, err
	}
	t.head = head
	return session, nil
}

// freeSession returns the session to issue next. issued is the last issued session. freeSession
// examines up to maxProbed slots. It takes the first one that is free or whose session was never
// used, or else the slot of the least recently used session.
func (t *sessionFile) freeSession(issued uint64) (uint64, error) {
	maxAge, leastRecent := int64(-1), issued+1
	// Keep the newest unused sessions, because their owners will probably use them soon.
	minUnused := int64(min(64, t.slots/128))
	buf := make([]byte, 0, min(t.slots*slotLen, sessionReadSize))
	bufStart := uint64(0) // index of buf's first slot
	for n := range min(t.slots, maxProbed) {
		session := issued + 1 + n
		i := t.slotOf(session)
		if i < bufStart || (i-bufStart+1)*slotLen > uint64(len(buf)) {
			bufStart, buf = i, buf[:min(uint64(cap(buf)), (t.slots+1-i)*slotLen)]
			clear(buf)
			if _, err := t.file.ReadAt(buf, int64(i*slotLen)); err != nil && !errors.Is(err, io.EOF) {
				return 0, fmt.Errorf("reading %s: %w", t.path(names.Sessions), err)
			}
		}
		s := (*slot)(buf[(i-bufStart)*slotLen:])
		isFree := s.session()>>32 != issued>>32 || !s.isValid(t.boot)
		wasUsed := s.lastOperation().Number > 0
		usedAt := uint32(s.session())
		if wasUsed {
			usedAt = binary.LittleEndian.Uint32(s[slotUsedOffset:])
		}
		age := int64(uint32(issued) - usedAt)
		if isFree || !wasUsed && age >= minUnused {
			return session, nil
		}
		if age > maxAge {
			maxAge, leastRecent = age, session
		}
	}
	return leastRecent, nil
}

func (t *sessionFile) secret() []byte {
	if t.head == nil {
		return nil
	}
	return t.head[slotSecretOffset:][:sessiontab.SecretLen]
}

// secretOf returns the secret from which session tokens are derived. All processes that use
// the directory have the same secret.
func (t *sessionFile) secretOf(session uint64) ([]byte, error) {
	if err := t.open(false); err != nil {
		return nil, err
	}
	secret := t.secret()
	if secret == nil {
		return nil, sessiontab.ExpiredError(session)
	}
	return secret, nil
}
