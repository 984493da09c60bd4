package filedir

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/sessiontab"
	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/vfs"
)

// The file "%sessions" holds what is remembered of each session, in slots of 64
// bytes, so that none crosses a sector's end. Little-endian:
//
//	slot 0:     8 magic "partdses"
//	            8 the last session that was issued: a random number in the upper
//	              half, the same for all sessions of the file, and a counter
//	            4 number of slots for sessions, N
//	            16 secret that the sessions' tokens are made with; zero in a file of old
//	slots 1…N:  8 session, 0: none; its counter modulo N, plus 1, is the slot
//	            8 number of the last operation applied, 0: none
//	            4 CRC of that operation, as its tag gave it
//	            4 counter of the session issued last when it was applied
//	each slot:  at offset 44 a byte, 1: it was synced when it was written, and the data before it
//	            at offset 48 8 bytes, number of the boot in which it was written, as in "%undo"
//	            at offset 56 4 bytes, CRC-32C of bytes 0 to 55; then 4 bytes, zero
//
// A slot that was not synced counts as long as the system runs: after a loss of
// power it may be older than the data, and an operation would be applied twice.
// A slot that does not count, or whose checksum is wrong, is that of no session.
// Where it is slot 0, the counter begins anew, with another random number.
const (
	sessionsMagic   = "partdses"
	slotLen         = 64
	slotSecretAt    = 20
	slotUsedAt      = 20
	slotSyncedAt    = 44
	slotBootAt      = 48
	slotSumAt       = 56
	sessionReadSize = 32 << 10
	maxSlots        = 1 << 20 // in a file that is believed
	maxLooked       = 1 << 10 // slots, for one to issue
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

func (s *slot) last() sessiontab.Operation {
	return sessiontab.Operation{Number: binary.LittleEndian.Uint64(s[8:]), CRC: binary.LittleEndian.Uint32(s[16:])}
}

func (s *slot) synced() bool { return s[slotSyncedAt] == 1 }

// seal says when a slot counts.
func (s *slot) seal(synced bool, boot uint64) *slot {
	s[slotSyncedAt] = 0
	if synced {
		s[slotSyncedAt] = 1
	}
	binary.LittleEndian.PutUint64(s[slotBootAt:], boot)
	binary.LittleEndian.PutUint32(s[slotSumAt:], crc32.Checksum(s[:slotSumAt], castagnoli))
	return s
}

// counts reports whether what a slot says can be relied on.
func (s *slot) counts(boot uint64) bool {
	if crc32.Checksum(s[:slotSumAt], castagnoli) != binary.LittleEndian.Uint32(s[slotSumAt:]) {
		return false
	}
	writtenIn := binary.LittleEndian.Uint64(s[slotBootAt:])
	return s.synced() || writtenIn != 0 && writtenIn == boot
}

// sessionFile is the file "%sessions", open as long as the lock is kept.
type sessionFile struct {
	file  vfs.File
	epoch uint64 // of the cache, when it was opened
	slots uint64 // for sessions
	head  *slot  // slot 0; nil: it does not count
}

// openSessions opens the file. Without create, one that does not exist is no
// error, and leaves t.file nil.
func (d *Dir) openSessions(create bool) error {
	t := &d.sessions
	if t.file != nil && t.epoch == d.cache.epoch {
		return nil
	}
	if err := closeOnce(&t.file); err != nil {
		return err
	}
	file, err := d.openOwn(d.path(names.Sessions), create)
	if err != nil || file == nil {
		return err
	}
	if _, err := regularInfo(file); err != nil {
		return err
	}
	t.file, t.epoch, t.head, t.slots = file, d.cache.epoch, nil, uint64(cmp.Or(d.Hooks.Sessions, sessiontab.MaxSessions))
	head, err := d.readSlot(0)
	if err != nil {
		return errors.Join(err, closeOnce(&t.file))
	}
	n := uint64(binary.LittleEndian.Uint32(head[16:]))
	if head.counts(d.boot) && string(head[:8]) == sessionsMagic && n > 0 && n <= maxSlots {
		t.head, t.slots = head, n
	}
	return nil
}

func (t *sessionFile) slotOf(session uint64) uint64 { return 1 + session&(1<<32-1)%t.slots }

// readSlot reads a slot. What is beyond the end of the file is zero.
func (d *Dir) readSlot(i uint64) (*slot, error) {
	s := new(slot)
	if _, err := d.sessions.file.ReadAt(s[:], int64(i*slotLen)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", d.path(names.Sessions), err)
	}
	return s, nil
}

// writeSlot writes a slot, and syncs it in a store that syncs. A sync that fails
// ends all writing.
func (d *Dir) writeSlot(i uint64, s *slot) error {
	if _, err := d.sessions.file.WriteAt(s[:], int64(i*slotLen)); err != nil {
		return fmt.Errorf("writing %s: %w", d.path(names.Sessions), err)
	}
	if d.sync {
		return d.syncSessions()
	}
	return nil
}

// unseal writes a slot that was synced as one that was not, and syncs that: of what
// follows it, a loss of power may take a part.
func (d *Dir) unseal(i uint64, s *slot) error {
	if err := d.writeSlot(i, s.seal(false, d.boot)); err != nil {
		return err
	}
	return d.syncSessions()
}

func (d *Dir) syncSessions() error {
	if err := d.refuse(d.sessions.file.Sync()); err != nil {
		return fmt.Errorf("syncing %s: %w", d.path(names.Sessions), err)
	}
	return nil
}

func (d *Dir) findSession(session uint64) (s *slot, i uint64, err error) {
	if err := d.openSessions(false); err != nil {
		return nil, 0, err
	}
	if d.sessions.file == nil {
		return nil, 0, sessiontab.Expired(session)
	}
	i = d.sessions.slotOf(session)
	if s, err = d.readSlot(i); err != nil {
		return nil, 0, err
	}
	if s.session() != session || !s.counts(d.boot) {
		return nil, 0, sessiontab.Expired(session)
	}
	return s, i, nil
}

// EndSession forgets a session; one that is not known is no error.
func (d Tx) EndSession(session uint64) error {
	_, i, err := d.findSession(session)
	if errors.Is(err, storeerror.ErrSessionExpired) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.writeSlot(i, newSlot(0, sessiontab.Operation{}).seal(d.sync, d.boot))
}

// NewSession issues a session: in the slot of the next counter that is free,
// or, if none is, in that of the oldest session.
func (d Tx) NewSession() (uint64, error) {
	if err := d.openSessions(true); err != nil {
		return 0, err
	}
	t := &d.sessions
	var issued uint64
	if t.head != nil {
		issued = binary.LittleEndian.Uint64(t.head[8:])
	}
	if t.head == nil || issued&(1<<32-1) > 1<<32-1-2*t.slots { // of an older random number none is known any more
		issued = sessiontab.NewIncarnation()
	}
	session, err := d.freeSession(issued)
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
	copy(head[slotSecretAt:], secret)
	if !d.sync && t.head != nil && t.head.synced() {
		// A loss of power must not bring back a slot that counts and is too old.
		unsynced := *t.head
		if err := d.unseal(0, &unsynced); err != nil {
			return 0, err
		}
	}
	t.head = nil
	if err := d.writeSlot(0, head.seal(d.sync, d.boot)); err != nil {
		return 0, err
	}
	if err := d.writeSlot(t.slotOf(session), newSlot(session, sessiontab.Operation{}).seal(d.sync, d.boot)); err != nil {
		return 0, err
	}
	t.head = head
	return session, nil
}

// freeSession returns the number of the session to issue after the one that was
// issued last: of the next slot that is free, or whose session was never used.
// Where many in a row were used, it is that of the session used longest ago, as
// far as a session's slot tells. A full table makes nobody wait.
func (d *Dir) freeSession(issued uint64) (uint64, error) {
	t := &d.sessions
	oldest, freed := int64(-1), issued+1
	// For so many sessions issued after it one that was never used is kept: who has just
	// got it is about to use it.
	fresh := int64(min(64, t.slots/128))
	buf := make([]byte, 0, min(t.slots*slotLen, sessionReadSize))
	at := uint64(0) // the slot that buf begins with
	for n := range min(t.slots, maxLooked) {
		session := issued + 1 + n
		i := t.slotOf(session)
		if i < at || (i-at+1)*slotLen > uint64(len(buf)) {
			at, buf = i, buf[:min(uint64(cap(buf)), (t.slots+1-i)*slotLen)]
			clear(buf)
			if _, err := t.file.ReadAt(buf, int64(i*slotLen)); err != nil && !errors.Is(err, io.EOF) {
				return 0, fmt.Errorf("reading %s: %w", d.path(names.Sessions), err)
			}
		}
		s := (*slot)(buf[(i-at)*slotLen:])
		unknown := s.session()>>32 != issued>>32 || !s.counts(d.boot)
		used := s.last().Number > 0
		usedAt := uint32(s.session()) // by an older version, too
		if at := binary.LittleEndian.Uint32(s[slotUsedAt:]); used && at != 0 {
			usedAt = at
		}
		age := int64(uint32(issued) - usedAt)
		if unknown || !used && age >= fresh {
			return session, nil
		}
		if age > oldest {
			oldest, freed = age, session
		}
	}
	return freed, nil
}

// secret returns what tokens are made with, nil if there is none.
func (t *sessionFile) secret() []byte {
	if t.head == nil {
		return nil
	}
	if secret := [sessiontab.SecretLen]byte(t.head[slotSecretAt:]); secret != [sessiontab.SecretLen]byte{} {
		return secret[:]
	}
	return nil
}

// SessionSecret returns what the tokens of sessions are made with, for every
// process that has the directory open. The session's error is returned if there is
// none.
func (d Tx) SessionSecret(session uint64) ([]byte, error) {
	if err := d.openSessions(false); err != nil {
		return nil, err
	}
	secret := d.sessions.secret()
	if secret == nil {
		return nil, sessiontab.Expired(session)
	}
	return secret, nil
}
